"""Signed distances of the six shapes, in units of the object's radius."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]

SQUARE_HALF_SIDE = 0.78
CORNER_RADIUS = 0.12
TRIANGLE_HALF_SIDE = 0.86
TRIANGLE_DROP = 0.22
STAR_RADIUS = 1.06
STAR_INNER_RATIO = 0.54
RING_MIDDLE = 0.65
RING_HALF_WIDTH = 0.32
HEART_UNIT = 0.6
HEART_LIFT = 0.53


def _disc(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - np.float32(0.92)


def _square(x: Field, y: Field) -> Field:
    side = np.float32(SQUARE_HALF_SIDE - CORNER_RADIUS)
    dx, dy = np.abs(x) - side, np.abs(y) - side
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(CORNER_RADIUS)


def _triangle(x: Field, y: Field) -> Field:
    slope = np.float32(np.sqrt(3))
    half = np.float32(TRIANGLE_HALF_SIDE)
    px = np.abs(x) - half
    py = y + np.float32(TRIANGLE_DROP / 2) + half / slope
    folded = px + slope * py > 0
    qx = np.where(folded, (px - slope * py) / 2, px)
    qy = np.where(folded, (-slope * px - py) / 2, py)
    qx = qx - np.clip(qx, -2 * half, 0)
    field: Field = -np.hypot(qx, qy) * np.sign(qy) - np.float32(CORNER_RADIUS)
    return field


def _star(x: Field, y: Field) -> Field:
    cos, sin = np.float32(np.cos(np.pi / 5)), np.float32(np.sin(np.pi / 5))
    rounding = np.float32(CORNER_RADIUS / 2)
    radius = np.float32(STAR_RADIUS) - rounding
    px, py = np.abs(x), y
    fold = 2 * np.maximum(cos * px - sin * py, 0)
    px, py = px - fold * cos, py + fold * sin
    fold = 2 * np.maximum(-cos * px - sin * py, 0)
    px, py = np.abs(px + fold * cos), py + fold * sin - radius
    edge_x = np.float32(STAR_INNER_RATIO) * sin
    edge_y = np.float32(STAR_INNER_RATIO) * cos - 1
    along = np.clip((px * edge_x + py * edge_y) / (edge_x**2 + edge_y**2), 0, radius)
    distance = np.hypot(px - edge_x * along, py - edge_y * along)
    return distance * np.sign(py * edge_x - px * edge_y) - rounding


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - np.float32(RING_MIDDLE)) - np.float32(RING_HALF_WIDTH)


def _heart(x: Field, y: Field) -> Field:
    px = np.abs(x) * np.float32(HEART_UNIT)
    py = y * np.float32(HEART_UNIT) + np.float32(HEART_LIFT)
    lobe = np.hypot(px - np.float32(0.25), py - np.float32(0.75)) - np.float32(np.sqrt(2) / 4)
    diagonal = np.maximum(px + py, 0) / 2
    body = np.minimum(np.hypot(px, py - 1), np.hypot(px - diagonal, py - diagonal)) * np.sign(px - py)
    field: Field = np.where(px + py > 1, lobe, body) / np.float32(HEART_UNIT)
    return field


DISTANCES: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "heart": _heart,
}
"""Shape name to its signed distance, negative inside; x to the right, y up, the shape within about one radius."""
