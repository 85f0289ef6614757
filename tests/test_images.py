"""Images as they come: what is taken is taken right, what is not says why."""

import io
import struct
import zlib
from random import Random

import pytest
from PIL import Image, ImageChops, ImageOps, features

from accentor.errors import InvalidImageError
from accentor.images import MAX_ASPECT, MAX_PIXELS, MIN_SIDE, open_image

WIDTH, HEIGHT = 24, 17


@pytest.fixture
def picture() -> Image.Image:
    """An upright RGB picture without any symmetry: red grows to the right, green downwards, blue is a corner."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            image.putpixel((x, y), (10 * x, 15 * y, 200 if x < 8 and y < 5 else 0))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def noise(side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), Random(0).randbytes(3 * side * side))  # noqa: S311


def worst(one: Image.Image, other: Image.Image) -> int:
    assert one.mode == other.mode == "RGB"
    assert one.size == other.size
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def refused(source) -> str:
    with pytest.raises(InvalidImageError) as caught:
        open_image(source)
    return caught.value.detail


# --- taken -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless(picture, kind):
    assert worst(open_image(encoded(picture, kind)), picture) == 0


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95, "subsampling": 0}), ("WEBP", {"lossless": 1})])
def test_other_formats(kind, options):
    image = Image.new("RGB", (32, 16), (200, 100, 50))
    assert worst(open_image(encoded(image, kind, **options)), image) <= 3


def test_sources(picture, tmp_path):
    path = tmp_path / "an image.png"
    path.write_bytes(encoded(picture))
    for source in (path, str(path), path.read_bytes(), picture, Image.open(path)):
        assert worst(open_image(source), picture) == 0


def test_orientation_of_all_eight_kinds(picture):
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, stored_by in undo.items():
        stored = picture if stored_by is None else picture.transpose(stored_by)
        exif = Image.Exif()
        exif[0x0112] = orientation
        opened = open_image(encoded(stored, exif=exif))
        assert worst(opened, picture) == 0, orientation
        assert opened.getexif().get(0x0112, 1) == 1, "it would be turned twice"


def test_sixteen_bit_gray_is_scaled():
    values = (0, 256, 257, 128 * 257, 40_000, 65_279, 65_535, 1)
    rows = b"".join(b"\0" + struct.pack(">8H", *values) for _ in range(8))
    opened = open_image(png(8, 8, 16, 0, rows))
    for x, value in enumerate(values):
        assert opened.getpixel((x, 3)) == pytest.approx((value / 257,) * 3, abs=1)
    assert opened.getpixel((6, 0)) == (255,) * 3
    assert opened.getpixel((3, 0)) == (128,) * 3


def test_sixteen_bit_color_is_scaled():
    pixels = ((0, 257, 65_535), (128 * 257, 40_000, 300))
    rows = b"".join(b"\0" + struct.pack(">24H", *(pixels[0] + pixels[1]) * 4) for _ in range(8))
    opened = open_image(png(8, 8, 16, 2, rows))
    for x, pixel in enumerate(pixels):
        assert opened.getpixel((x, 5)) == pytest.approx([value / 257 for value in pixel], abs=1)
    assert opened.getpixel((0, 0))[2] == 255


def test_thirty_two_bit_values_within_sixteen_bits(picture):
    image = Image.new("I", (8, 8), 128 * 257)
    assert open_image(image).getpixel((0, 0)) == (128,) * 3
    for value in (-1, 65_536):
        assert str(value) in refused(Image.new("I", (8, 8), value))


def test_gray(picture):
    gray = picture.convert("L")
    assert worst(open_image(encoded(gray)), gray.convert("RGB")) == 0
    for mode, value, expected in (("1", 1, 255), ("1", 0, 0), ("L", 77, 77)):
        assert open_image(encoded(Image.new(mode, (9, 9), value))).getpixel((4, 4)) == (expected,) * 3


def test_palette(picture):
    palette = picture.quantize(200)
    assert worst(open_image(encoded(palette)), palette.convert("RGB")) == 0
    assert worst(open_image(encoded(palette, "GIF")), palette.convert("RGB")) == 0


def test_palette_with_a_transparent_colour_on_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((2, 3), 0)
    opened = open_image(encoded(image, transparency=1))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((2, 3)) == (255, 0, 0)


@pytest.mark.parametrize(("alpha", "expected"), [(255, (200, 100, 0)), (0, (255, 255, 255)), (51, (244, 224, 204))])
def test_transparency_on_white(alpha, expected):
    opened = open_image(encoded(Image.new("RGBA", (8, 8), (200, 100, 0, alpha))))
    assert opened.getpixel((1, 1)) == pytest.approx(expected, abs=1)
    gray = open_image(encoded(Image.new("LA", (8, 8), (100, alpha))))
    assert gray.getpixel((1, 1)) == pytest.approx((255 - (255 - 100) * alpha / 255,) * 3, abs=1)


def test_transparent_colour_of_an_rgb_image():
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    image.putpixel((4, 4), (9, 9, 9))
    opened = open_image(encoded(image, transparency=(1, 2, 3)))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((4, 4)) == (9, 9, 9)


def test_cmyk():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert open_image(data).getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=4)


@pytest.mark.parametrize("size", [(9, 31), (31, 9), (8, 8), (8, 128), (255, 17)])
def test_odd_and_non_square(size):
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    assert worst(open_image(encoded(image)), image) == 0


def test_the_callers_image_is_left_alone(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = Image.open(io.BytesIO(encoded(ImageOps.invert(picture), exif=exif)))
    before = source.copy()
    open_image(source)
    assert source.size == before.size
    assert source.tobytes() == before.tobytes()
    same = open_image(picture)
    same.putpixel((0, 0), (1, 1, 1))
    assert picture.getpixel((0, 0)) != (1, 1, 1)


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"<html><body>404</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"%PDF-1.4\n%",
        b"\0" * 1000,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
    ],
)
def test_no_image(data):
    detail = refused(data)
    assert "is no image" in detail or "is damaged" in detail


def test_no_bytes(tmp_path):
    assert "0 bytes" in refused(b"")
    (tmp_path / "empty.png").touch()
    assert "empty.png is empty: 0 bytes" in refused(tmp_path / "empty.png")


def test_no_file(tmp_path):
    detail = refused(tmp_path / "dog.jpg")
    assert "dog.jpg cannot be read: No such file" in detail
    assert "directory" in refused(tmp_path).lower()
    assert "cannot be read" in refused("a\0b.png")


@pytest.mark.parametrize("value", [None, 3, object(), [b""]])
def test_no_source(value):
    assert type(value).__name__ in refused(value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(kind, share):
    data = encoded(noise(64), kind)
    detail = refused(data[: int(len(data) * share)])
    assert "is damaged" in detail or "is no image" in detail or "cannot be decoded" in detail


def test_truncated_picture_object():
    data = encoded(noise(64))
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image:
        assert "cannot be decoded" in refused(image)


def test_corrupted():
    data = bytearray(encoded(noise(64)))
    data[len(data) // 2] ^= 0xFF
    assert "is damaged" in refused(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
def test_noise_on_the_wire_raises_nothing_else(kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    options = {"exif": exif} if kind in {"PNG", "JPEG", "WEBP"} else {}
    data = encoded(noise(24), kind, **options)
    random = Random(kind)  # noqa: S311
    refusals = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random.choice([1, 2, 5])):
            damaged[int(len(data) * random.random() ** 3)] = random.randrange(256)
        try:
            assert open_image(bytes(damaged)).mode == "RGB"
        except InvalidImageError:
            refusals += 1
    assert refusals > 0


def test_far_too_large():
    """The header alone decides: not a pixel of the 900 million is allocated."""
    detail = refused(png(30_000, 30_000, 8, 2, b""))
    assert "900000000" in detail or "30000 × 30000" in detail
    assert str(MAX_PIXELS) in detail


def test_too_large_for_a_limit_of_ones_own(picture):
    detail = refused(png(10_000, 10_000, 8, 2, b""))
    assert "10000 × 10000 pixels, at most 64000000" in detail
    with pytest.raises(InvalidImageError, match=f"{WIDTH} × {HEIGHT} pixels, at most 400"):
        open_image(encoded(picture), max_pixels=400)
    with pytest.raises(InvalidImageError, match="at most 400"):
        open_image(picture, max_pixels=400)
    assert open_image(encoded(picture), max_pixels=WIDTH * HEIGHT).size == picture.size


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animated(kind):
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert "is animated: 3 frames, expected one" in refused(data)


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE - 1, 100), (100, MIN_SIDE - 1)])
def test_too_small(size):
    detail = refused(encoded(Image.new("RGB", size)))
    assert f"{size[0]} × {size[1]} pixels" in detail
    assert f"{MIN_SIDE} × {MIN_SIDE}" in detail


def test_too_narrow():
    length = int(MIN_SIDE * MAX_ASPECT)
    assert open_image(encoded(Image.new("RGB", (MIN_SIDE, length)))).size == (MIN_SIDE, length)
    for size in ((MIN_SIDE, length + 1), (length + 1, MIN_SIDE)):
        assert "too narrow" in refused(encoded(Image.new("RGB", size)))


def test_floating_point():
    assert "floating-point" in refused(encoded(Image.new("F", (16, 16), 0.5), "TIFF"))
