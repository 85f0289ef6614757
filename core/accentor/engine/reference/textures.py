"""The six textures, each a signed field whose zero line parts the two tones of an object."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]

DOT_RADIUS = 0.31
WAVE_HEIGHT = 0.34
WAVE_LENGTH = 2.2
SCALE_RADIUS = 0.56
SCALE_RIM = 0.19


def _alternate(x: Field) -> Field:
    field: Field = np.float32(0.25) - np.abs(x - np.floor(x) - np.float32(0.5))
    return field


def _to_lattice(x: Field, y: Field) -> Field:
    return np.hypot(x - np.round(x), y - np.round(y))


def _plain(x: Field, y: Field) -> Field:
    return np.full(np.broadcast_shapes(x.shape, y.shape), -1, np.float32)


def _stripes(x: Field, y: Field) -> Field:
    return _alternate(x) + 0 * y


def _dots(x: Field, y: Field) -> Field:
    x, y = x * np.float32(0.8), y * np.float32(0.8)
    half = np.float32(0.5)
    return np.float32(DOT_RADIUS) - np.minimum(_to_lattice(x, y), _to_lattice(x + half, y + half))


def _checks(x: Field, y: Field) -> Field:
    column, row = _alternate(x * np.float32(0.85)), _alternate(y * np.float32(0.85))
    return np.sign(column * row) * np.minimum(np.abs(column), np.abs(row))


def _waves(x: Field, y: Field) -> Field:
    shift = np.float32(WAVE_HEIGHT) * np.sin(y * np.float32(2 * np.pi / WAVE_LENGTH))
    return _alternate(x + shift) * np.float32(0.8)


def _scales(x: Field, y: Field) -> Field:
    radius = np.float32(SCALE_RADIUS)
    row = np.ceil(2 * y + 2 * radius)
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.nan, np.float32)
    for _ in range(4):
        row = row - 1
        offset = (row - 2 * np.floor(row / 2)) / 2
        dx = x - offset - np.round(x - offset)
        distance = np.hypot(dx, y - row / 2)
        nearest = np.where(np.isnan(nearest) & (distance < radius), distance, nearest)
    nearest = np.nan_to_num(nearest, nan=float(radius))
    field: Field = np.minimum(nearest - (radius - np.float32(SCALE_RIM)), radius - nearest)
    return field


FIELDS: dict[str, Callable[[Field, Field], Field]] = {
    "plain": _plain,
    "stripes": _stripes,
    "dots": _dots,
    "checks": _checks,
    "waves": _waves,
    "scales": _scales,
}
"""Texture name to its field over coordinates in periods: positive where the second tone is, in periods."""
