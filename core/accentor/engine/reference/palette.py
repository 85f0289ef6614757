"""The colours of the scenes, chosen in OKLCH so that equal steps look equal."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Color = npt.NDArray[np.floating[Any]]

LMS_FROM_OKLAB = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def oklch(lightness: float, chroma: float, hue: float) -> Color:
    """Turn an OKLCH colour into sRGB.

    The two matrices are those of Björn Ottosson, *A perceptual color space for image processing* (2020).

    Parameters
    ----------
    lightness
        Perceived lightness, 0..1.
    chroma
        Colourfulness, 0 for grey to about 0.3.
    hue
        Hue angle in degrees.

    Returns
    -------
    Color
        sRGB values [3] in 0..1, clipped to the gamut.
    """
    angle = np.deg2rad(hue)
    lab = np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])
    linear = np.clip(RGB_FROM_LMS @ (LMS_FROM_OKLAB @ lab) ** 3, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    color: Color = srgb.astype(np.float32)
    return color


@dataclass(frozen=True)
class Tone:
    """A colour label: its hue in degrees, with the lightness and chroma of its main and of its second tone."""

    hue: float
    lightness: float
    chroma: float
    second_lightness: float
    second_chroma: float


TONES = {
    "red": Tone(25, 0.60, 0.215, 0.40, 0.155),
    "orange": Tone(55, 0.75, 0.170, 0.54, 0.135),
    "yellow": Tone(96, 0.89, 0.170, 0.68, 0.138),
    "green": Tone(148, 0.67, 0.165, 0.43, 0.115),
    "blue": Tone(256, 0.60, 0.180, 0.39, 0.140),
    "purple": Tone(308, 0.58, 0.200, 0.38, 0.155),
}
LIGHT_SECOND = {
    "red": (0.82, 0.100),
    "orange": (0.91, 0.075),
    "yellow": (0.975, 0.075),
    "green": (0.88, 0.105),
    "blue": (0.84, 0.080),
    "purple": (0.82, 0.095),
}
HUE_JITTER = 5.0
LIGHTNESS_JITTER = 0.025


def object_tones(color: str, rng: np.random.Generator) -> tuple[Color, Color]:
    """Draw the two tones of an object: the main one and a darker or lighter one of the same hue.

    Parameters
    ----------
    color
        A colour label.
    rng
        Source of the jitter and of the choice between dark and light.

    Returns
    -------
    tuple
        Two sRGB colours [3] in 0..1.
    """
    tone = TONES[color]
    hue = tone.hue + rng.uniform(-HUE_JITTER, HUE_JITTER)
    shift = rng.uniform(-LIGHTNESS_JITTER, LIGHTNESS_JITTER)
    dark = (tone.second_lightness, tone.second_chroma)
    second_lightness, second_chroma = dark if rng.random() < 0.5 else LIGHT_SECOND[color]
    return (
        oklch(tone.lightness + shift, tone.chroma, hue),
        oklch(second_lightness + shift / 2, second_chroma, hue),
    )


GROUNDS = (
    (0.93, 0.018, 85.0),
    (0.90, 0.016, 40.0),
    (0.86, 0.014, 150.0),
    (0.85, 0.018, 245.0),
    (0.78, 0.022, 70.0),
    (0.70, 0.020, 230.0),
    (0.64, 0.026, 60.0),
    (0.58, 0.018, 165.0),
    (0.42, 0.022, 255.0),
    (0.36, 0.016, 50.0),
    (0.30, 0.016, 285.0),
)
"""Muted grounds as (lightness, chroma, hue), from cream, blush and sage to ink, umber and night."""
