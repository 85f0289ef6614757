"""Muted table tops: paper, linen, wood, marble and felt, with a soft key light."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accentor.engine.reference.palette import GROUNDS, oklch

Field = npt.NDArray[np.floating[Any]]

KEY_LIGHT = 0.09
VIGNETTE = 0.10


@lru_cache(maxsize=64)
def _spline(size: int, cells: int) -> Field:
    position = (np.arange(size) + 0.5) / size * cells
    distance = np.abs(position[:, None] - (np.arange(cells + 3) - 1)[None, :])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> Field:
    grid = rng.standard_normal((rows + 3, columns + 3), dtype=np.float32)
    field: Field = _spline(size, rows) @ grid @ _spline(size, columns).T
    return field


def _paper(rng: np.random.Generator, size: int) -> Field:
    return 0.035 * _noise(rng, size, 4, 4) + 0.035 * _noise(rng, size, 150, 150)


def _linen(rng: np.random.Generator, size: int) -> Field:
    threads = _noise(rng, size, 12, 140) + _noise(rng, size, 140, 12)
    return 0.028 * threads + 0.025 * _noise(rng, size, 3, 3)


def _wood(rng: np.random.Generator, size: int) -> Field:
    along = (np.arange(size, dtype=np.float32) + 0.5)[:, None] / size
    planks = int(rng.integers(3, 5))
    place = along * planks + np.float32(rng.random())
    seam = np.abs(place - np.round(place)) / planks
    tint = rng.standard_normal(planks + 2)[np.floor(place).astype(int)].astype(np.float32)
    grain = _noise(rng, size, 90, 4) + 0.6 * _noise(rng, size, 30, 3)
    field: Field = 0.045 * grain + 0.035 * tint - 0.16 * np.exp(-((seam / np.float32(0.004)) ** 2))
    return field


def _marble(rng: np.random.Generator, size: int) -> Field:
    cloud = _noise(rng, size, 3, 3)
    turbulence = cloud + 0.5 * _noise(rng, size, 7, 7) + 0.22 * _noise(rng, size, 17, 17)
    vein = np.exp(-np.abs(turbulence) * 14)
    field: Field = 0.035 * cloud - 0.11 * vein + 0.012 * _noise(rng, size, 120, 120)
    return field


def _felt(rng: np.random.Generator, size: int) -> Field:
    fine = _noise(rng, size, 170, 170) + 0.8 * _noise(rng, size, 70, 70)
    return 0.035 * fine + 0.03 * _noise(rng, size, 5, 5)


SURFACES: tuple[Callable[[np.random.Generator, int], Field], ...] = (_paper, _linen, _wood, _marble, _felt)


def render_background(rng: np.random.Generator, size: int, light: tuple[float, float]) -> Field:
    """Draw a lit table top.

    Parameters
    ----------
    rng
        Source of the surface, its colour and its grain; what it draws does not depend on the size.
    size
        Side in pixels.
    light
        Unit vector (x right, y down) pointing to the light.

    Returns
    -------
    Field
        sRGB image [size, size, 3], about 0..1 (not clipped).
    """
    lightness, chroma, hue = GROUNDS[rng.integers(len(GROUNDS))]
    lightness += rng.uniform(-0.025, 0.025)
    surface = SURFACES[rng.integers(len(SURFACES))](rng, size)
    if rng.random() < 0.5:
        surface = surface.T
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size - np.float32(0.5)
    x, y = axis[None, :], axis[:, None]
    key = np.float32(KEY_LIGHT) * (x * np.float32(light[0]) + y * np.float32(light[1])) * 2
    vignette = np.float32(VIGNETTE) * (x**2 + y**2) * 2
    shade = 1 + key - vignette + surface
    image: Field = oklch(lightness, chroma, hue) * shade[:, :, None]
    return image
