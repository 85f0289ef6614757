"""Pictures made of pixels: as they are, laid over a background, their difference, and side by side.

Pixels are shown raw: no picture's contrast depends on its content.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from accentor.errors import InvalidRequestError

ZERO = 128
"""The grey that means no difference."""

SWING = 127
"""Grey levels from no difference to a difference of 1 at gain 1."""

FADE = 0.35
"""Brightness of the seed where it is a background."""

CHECKER_PX = 8
CHECKER = (0x99, 0xCC)
GREYS = {"black": 0, "grey": 128, "white": 255}

Background = Literal["black", "grey", "white", "checker", "seed"] | tuple[int, int, int]


def to_bytes(pixels: Tensor) -> Tensor:
    """Return pixels in 0..1 as uint8, rounded."""
    return (pixels * 255).round().clamp(0, 255).byte()


def to_picture(pixels: Tensor) -> Image.Image:
    """Return pixels [C, H, W], float in 0..1 or uint8, as an 8-bit image.

    One channel is grey, three are RGB; see `shown_channels`.
    """
    values = shown_channels(pixels.detach().cpu())
    values = values if values.dtype == torch.uint8 else to_bytes(values)
    return Image.fromarray((values[0] if len(values) == 1 else values.permute(1, 2, 0)).contiguous().numpy())


def shown_channels(pixels: Tensor) -> Tensor:
    """Return the channels [3, H, W] or [1, H, W] of an image that are shown: the first three, or of two the first."""
    return pixels[:3] if len(pixels) >= 3 else pixels[:1]


def channel_notes(channels: int) -> tuple[str, ...]:
    """Return what a reader must know of pictures with this many channels: nothing for grey and RGB."""
    if channels in (1, 3):
        return ()
    shown = "the first three, as red, green and blue" if channels > 3 else "the first, as grey"
    return (f"the image has {channels} channels: the pictures show {shown}",)


def difference(seed: Tensor, pixels: Tensor, gain: float) -> Image.Image:
    """Return the signed difference of two images [C, H, W] in 0..1, per channel.

    ``128 + 127 · gain · (x − x₀)``, rounded and clipped to 0..255: mid-grey (128) is no difference, brighter is more.
    ``info`` holds the gain and the share of values that were clipped.

    Raises
    ------
    InvalidRequestError
        If the gain is not a finite number above 0.
    """
    if not (math.isfinite(gain) and gain > 0):
        raise InvalidRequestError(f"the gain is {gain}: expected a finite number above 0")
    values = (ZERO + SWING * gain * (pixels.double() - seed.double())).round()
    picture = to_picture(values.clamp(0, 255).byte())
    clipped = ((values < 0) | (values > 255)).double().mean().item()
    picture.info |= {"gain": gain, "clipped": clipped}
    return picture


def faded(seed: Image.Image) -> Image.Image:
    """Return the seed in grey, at 0.35 of its brightness, RGB: a background that says where one is."""
    return seed.convert("L").point([round(FADE * value) for value in range(256)]).convert("RGB")


def checker(size: tuple[int, int]) -> Image.Image:
    """Return squares of 8 px in two greys, RGB, the darker one at the top left: what is transparent."""
    rows, columns = (torch.arange(side) // CHECKER_PX for side in (size[1], size[0]))
    odd = (rows[:, None] + columns[None]) % 2
    return to_picture(torch.tensor(CHECKER, dtype=torch.uint8)[odd][None]).convert("RGB")


def backdrop(background: Background, seed: Image.Image) -> Image.Image:
    """Return a background of the seed's size, RGB.

    Raises
    ------
    InvalidRequestError
        If it is none of the names, and no colour either.
    """
    if background == "seed":
        return faded(seed)
    if background == "checker":
        return checker(seed.size)
    if isinstance(background, str) and background in GREYS:
        return Image.new("RGB", seed.size, (GREYS[background],) * 3)
    if _is_color(background):
        return Image.new("RGB", seed.size, background)
    names = ", ".join(get_args(get_args(Background)[0]))
    raise InvalidRequestError(f"the background is {background!r}: expected one of {names}, or (red, green, blue)")


def lay_over(background: Image.Image, picture: Image.Image, opacity: Image.Image) -> Image.Image:
    """Return a·x + (1 − a)·b, RGB: the picture where the opacity is white, the background where it is black."""
    return Image.composite(picture.convert("RGB"), background, opacity)


def side_by_side(
    pictures: Sequence[Image.Image], gap: int, background: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    """Return pictures of one height next to each other, RGB, ``gap`` pixels of the background between them."""
    if gap < 0:
        raise InvalidRequestError(f"the gap is {gap} px: expected 0 or more")
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, pictures[0].height), background)
    left = 0
    for picture in pictures:
        sheet.paste(picture.convert("RGB"), (left, 0))
        left += picture.width + gap
    return sheet


def bounding_box(opacity: Tensor, threshold: float) -> tuple[int, int, int, int] | None:
    """Return the smallest box around the opacity [H, W] above the threshold: (left, top, right, bottom) for a crop.

    None if it is nowhere above.
    """
    inside = opacity > threshold
    if not inside.any():
        return None
    rows, columns = (inside.any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def _is_color(value: object) -> bool:
    return (
        isinstance(value, tuple) and len(value) == 3 and all(isinstance(one, int) and 0 <= one <= 255 for one in value)
    )
