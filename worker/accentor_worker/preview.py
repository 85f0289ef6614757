"""A small picture of an image as it is now, for those who watch."""

import base64
import io
from typing import Any

from PIL import Image

SIDE = 96
"""Longest side of a preview in pixels."""

QUALITY = 60
COLOURS = 3


def data_url(pixels: Any) -> str:
    """Return a WebP ``data:`` URL of an image, uint8 [C, H, W] on the CPU; one that has no colours is shown grey."""
    shown = pixels if len(pixels) == COLOURS else pixels[:1].expand(COLOURS, -1, -1)
    image = Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
