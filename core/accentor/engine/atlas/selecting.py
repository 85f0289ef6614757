"""Which images a feature is shown in: those that excite it most, and those over its range."""

from collections.abc import Mapping
from dataclasses import dataclass

from accentor.engine.scan import Scan
from accentor.engine.scan.result import Top
from accentor.engine.scan.rows import ImageRow

RANGE = (0, 50, 90, 99)
"""Percentiles whose images are shown; the top images stand for 100."""


@dataclass(frozen=True)
class Choice:
    """An image chosen for a feature, and why.

    ``value`` is that of the scan, if it was scanned; ``percentile`` and ``fires`` are told of images over its range
    alone.
    """

    image: int
    value: float | None = None
    box: tuple[float, float, float, float] | None = None
    percentile: int | None = None
    fires: bool | None = None


def choose(scan: Scan, feature: int, top_k: int, rows: Mapping[int, ImageRow]) -> list[Choice]:
    """Return the top images of a feature and the images at `RANGE`, each image once, of those that have a row."""
    chosen = [
        Choice(top.image, top.value, box_of(top, scan.settings.grid, rows[top.image]))
        for top in scan.top_of(feature)
        if top.image in rows
    ][:top_k]
    known = {choice.image for choice in chosen}
    for percentile, (image, value, fires) in scan.at_percentiles(feature).items():
        if percentile in RANGE and image in rows and image not in known:
            chosen.append(Choice(image, value, percentile=percentile, fires=fires))
            known.add(image)
    return chosen


def box_of(top: Top, grid: tuple[int, int] | None, row: ImageRow) -> tuple[float, float, float, float] | None:
    """Return left, top, width and height of the position where a feature is highest, as shares of the image."""
    if grid is None or top.x is None or top.y is None:
        return None
    height, width = row.height, row.width
    square = min(height, width)
    tall, wide = square / grid[0], square / grid[1]
    left, upper = max(0.0, (top.x - wide / 2) / width), max(0.0, (top.y - tall / 2) / height)
    return (left, upper, min(wide / width, 1 - left), min(tall / height, 1 - upper))
