"""Pictures as files: PNG with what they say of themselves, and animated WebP."""

import io
from collections.abc import Sequence

from PIL import Image

from accentor.metadata import Metadata

FRAME_MS = 160
LAST_FRAME_MS = 1_200
WEBP_QUALITY = 90


def png(image: Image.Image, metadata: Metadata | None = None) -> bytes:
    """Return the picture as a PNG, without loss, with its metadata as text chunks."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=metadata.to_png_info() if metadata is not None else None)
    return buffer.getvalue()


def webp(image: Image.Image) -> bytes:
    """Return the picture as a small WebP, for pages; not without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()


def animation(frames: Sequence[Image.Image], frame_ms: int = FRAME_MS, last_ms: int = LAST_FRAME_MS) -> bytes:
    """Return the frames as an animated WebP that begins again, the last frame shown longer."""
    buffer = io.BytesIO()
    first, *others = (frame.convert("RGB") for frame in frames)
    durations = [frame_ms] * len(others) + [last_ms]
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=WEBP_QUALITY)
    return buffer.getvalue()
