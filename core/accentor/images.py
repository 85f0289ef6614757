"""Opening images from anywhere as 8-bit RGB, or saying why not."""

import io
import re
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from accentor.errors import InvalidImageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
"""Of files that are taken for images in a folder."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 64_000_000
MIN_SIDE = 8
MAX_ASPECT = 16.0

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
)
"""What Pillow's decoders raise on damaged files, as found by feeding them some."""

ImageSource = str | Path | bytes | Image.Image


def images_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are images by their names, in order of these."""
    return _images(folder.iterdir())


def images_below(folder: Path) -> list[Path]:
    """Return the files of a folder and of all below it that are images by their names, in order of their paths."""
    return _images(folder.rglob("*"))


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def no_images(folder: Path) -> str:
    """Say that a folder has none."""
    return f"{folder} holds no images: expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"


def open_image(source: "ImageSource", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return an image as 8-bit RGB, upright.

    EXIF orientation is applied, transparency is laid on white, CMYK, palette, grayscale and 16-bit images are
    converted (16 bits by scaling, not by clipping).

    Parameters
    ----------
    source
        A path, the bytes of an image file, or a PIL image.
    max_pixels
        Largest width × height that is decoded.

    Raises
    ------
    InvalidImageError
        If it cannot be read, is truncated, animated, too large, too small or too narrow; both numbers are named.
    """
    if not isinstance(source, str | Path | bytes | Image.Image):
        raise InvalidImageError(f"a {type(source).__name__} is no image: expected a path, bytes or a PIL image")
    name = _name(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = (
                _copy(source, name, max_pixels)
                if isinstance(source, Image.Image)
                else _decode(source, name, max_pixels)
            )
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image, name)
    except InvalidImageError:
        raise
    except DAMAGE as error:
        raise InvalidImageError(f"{name} cannot be decoded: {error}") from error


def _name(source: "ImageSource") -> str:
    return str(source) if isinstance(source, str | Path) else "the image"


def _decode(source: str | Path | bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidImageError(f"{name} cannot be read: {reason}") from error
    if not data:
        raise InvalidImageError(f"{name} is empty: 0 bytes, expected an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check(image, name, max_pixels)
            image.load()
    except UnidentifiedImageError as error:
        raise InvalidImageError(f"{name} is no image: expected one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise InvalidImageError(
            f"{name} is too large: {pixels[0] if pixels else 'too many'} pixels, at most {max_pixels} are taken"
        ) from error
    except InvalidImageError:
        raise
    except DAMAGE as error:
        raise InvalidImageError(f"{name} is damaged: {error}") from error
    return image


def _copy(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check(image, name, max_pixels)
    return image.copy()


def _check(image: Image.Image, name: str, max_pixels: int) -> None:
    check_size(image.width, image.height, name, max_pixels)
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise InvalidImageError(f"{name} is animated: {frames} frames, expected one")


def check_size(width: int, height: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Raise `InvalidImageError` if an image of this size is too large, too small or too narrow."""
    size = f"{width} × {height} pixels"
    if width * height > max_pixels:
        raise InvalidImageError(f"{name} is too large: {size}, at most {max_pixels} pixels in all are taken")
    if min(width, height) < MIN_SIDE:
        raise InvalidImageError(f"{name} is too small: {size}, at least {MIN_SIDE} × {MIN_SIDE} are needed")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidImageError(f"{name} is too narrow: {size}, sides may differ by a factor of {MAX_ASPECT:g}")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise InvalidImageError(f"{name} holds floating-point values: expected 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        wide = image.convert("I")
        low, high = wide.getextrema()
        if float(low) < 0 or float(high) > 65_535:  # type: ignore[arg-type]
            raise InvalidImageError(f"{name} holds values {low} to {high}: expected 8 or 16 bits a channel")
        return wide.point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
