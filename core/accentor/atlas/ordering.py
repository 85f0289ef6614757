"""The order of features on the map: a few that lie far apart first, then neighbours next to each other."""

from collections.abc import Sequence

BITS = 16


def map_order(points: Sequence[tuple[float, float]], landmarks: int) -> list[int]:
    """Return positions of the points: up to ``landmarks`` spread over the map, then the rest along a Z-curve."""
    ends = bounds(points)
    curve = sorted(range(len(points)), key=lambda one: _z_value(points[one], ends))
    if len(curve) <= landmarks:
        return curve
    first = [curve[place * len(curve) // landmarks] for place in range(landmarks)]
    chosen = set(first)
    return first + [one for one in curve if one not in chosen]


def bounds(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the smallest box around the points; no side is 0."""
    if not points:
        return (0.0, 0.0, 1.0, 1.0)
    columns, rows = zip(*points, strict=True)
    return (min(columns), min(rows), (max(columns) - min(columns)) or 1.0, (max(rows) - min(rows)) or 1.0)


def _z_value(point: tuple[float, float], ends: tuple[float, float, float, float]) -> int:
    left, top, width, height = ends
    scale = (1 << BITS) - 1
    column, row = int((point[0] - left) / width * scale), int((point[1] - top) / height * scale)
    return sum((column >> bit & 1) << (2 * bit) | (row >> bit & 1) << (2 * bit + 1) for bit in range(BITS))
