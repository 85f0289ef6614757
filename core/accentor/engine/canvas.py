"""The canvas: an image as float pixels of the size that is optimised."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from accentor.errors import InvalidImageError
from accentor.images import check_size, open_image

ImageLike = str | Path | bytes | Image.Image | Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a grey image (ITU-R BT.601, as in Pillow)."""


def fit_canvas(image: ImageLike, longer_side: int, channels: int = 3) -> Tensor:
    """Return the image as float [C, H, W] in 0..1 with this longer side, its aspect kept, antialiased; never itself.

    Raises
    ------
    InvalidImageError
        If it cannot be read, or has not as many channels as the model; a picture is made grey for a model of one.
    """
    pixels = _as_tensor(image, channels) if isinstance(image, Tensor) else _as_channels(open_image(image), channels)
    height, width = pixels.shape[-2:]
    scale = longer_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size == (height, width):
        return pixels
    return interpolate(pixels[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0.0, 1.0)


def _as_channels(image: Image.Image, channels: int) -> Tensor:
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = flat.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255
    if channels == 3:
        return pixels
    if channels == 1:
        return (pixels * torch.tensor(LUMA).view(3, 1, 1)).sum(dim=0, keepdim=True)
    raise InvalidImageError(
        f"the model takes images of {channels} channels, a picture has 3: "
        f"give a float tensor [{channels}, H, W] in 0..1"
    )


def _as_tensor(image: Tensor, channels: int) -> Tensor:
    if image.dim() != 3 or image.shape[0] != channels or not image.is_floating_point():
        raise InvalidImageError(
            f"the image is a tensor of shape {list(image.shape)} and {image.dtype}: "
            f"expected float [{channels}, H, W] in 0..1"
        )
    check_size(image.shape[2], image.shape[1], "the image")
    low, high = image.min().item(), image.max().item()
    if not (low >= 0.0 and high <= 1.0):
        raise InvalidImageError(f"the image holds values {low:g} to {high:g}: expected 0 to 1")
    return image.detach().to("cpu", torch.float32, copy=True)
