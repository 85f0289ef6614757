"""Pictures by their pixels."""

import pytest
import torch
from PIL import Image
from tests.engine.results import HEIGHT, WIDTH, made_result, smooth

from accentor.engine.accentuation import VIEWS
from accentor.engine.outputs.pictures import checker, difference, faded, side_by_side, to_bytes, to_picture
from accentor.errors import InvalidRequestError

PLACES = ((0, 0), (40, 0), (3, 32), (27, 11), (24, 8))


def test_bytes_are_rounded():
    values = torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 0.5, 1.0, 1.2, -0.1])
    assert to_bytes(values).tolist() == [0, 0, 1, 128, 255, 255, 0]
    assert to_picture(torch.tensor([[[1.0]], [[0.0]], [[0.2]]])).getpixel((0, 0)) == (255, 0, 51)


@pytest.mark.parametrize(
    ("channels", "mode", "shown"), [(1, "L", 51), (2, "L", 51), (3, "RGB", (51, 102, 153)), (5, "RGB", (51, 102, 153))]
)
def test_channels(channels, mode, shown):
    pixels = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0])[:channels, None, None].expand(channels, 2, 3)
    picture = to_picture(pixels)
    assert (picture.mode, picture.size, picture.getpixel((2, 1))) == (mode, (3, 2), shown)


@pytest.mark.parametrize(("channels", "said"), [(1, ()), (3, ()), (2, "first, as grey"), (4, "first three")])
def test_what_is_not_shown_of_many_channels_is_noted(channels, said):
    result = made_result(channels, notes=("mine",))
    assert result.notes[0] == "mine"
    if said:
        assert f"{channels} channels" in result.notes[1]
        assert said in result.notes[1]
    else:
        assert result.notes == ("mine",)
    for name in VIEWS:
        assert result.view(name).size == (WIDTH, HEIGHT)
    assert result.overlay.mode == "RGBA"
    assert set(result.files())


@pytest.mark.parametrize(("gain", "expected"), [(1.0, [128, 160, 64, 255, 1]), (4.0, [128, 255, 0, 255, 0])])
def test_difference_is_signed_about_mid_grey(gain, expected):
    seed = torch.tensor([0.5, 0.25, 0.5, 0.0, 1.0]).expand(3, 1, 5)
    pixels = torch.tensor([0.5, 0.5, 0.0, 1.0, 0.0]).expand(3, 1, 5)
    picture = difference(seed, pixels, gain)
    found = [picture.getpixel((x, 0)) for x in range(5)]
    assert found == [(value,) * 3 for value in expected]
    assert picture.info["gain"] == gain
    assert picture.info["clipped"] == {1.0: 0.0, 4.0: 0.6}[gain]


def test_difference_is_not_stretched_to_its_content():
    seed = smooth(0)
    faint = difference(seed, (seed * 0.999).clamp(0, 1), 4.0)
    assert max(abs(value - 128) for low, high in faint.getextrema() for value in (low, high)) <= 1


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_wrong_gains(gain):
    with pytest.raises(InvalidRequestError, match="gain"):
        made_result().difference(gain)


def test_overlay_on_a_background():
    result = made_result(opacity=smooth(4, 1)[0] - smooth(4, 1).min())
    for background, expected in (("black", (0, 0, 0)), ("grey", (128,) * 3), ("white", (255,) * 3), ((9, 8, 7),) * 2):
        picture = result.overlay_on(background)
        assert picture.mode == "RGB"
        for place in PLACES:
            a = result.opacity_image.getpixel(place) / 255
            for got, x, b in zip(picture.getpixel(place), result.image.getpixel(place), expected, strict=True):
                assert abs(got - (a * x + (1 - a) * b)) <= 0.51
    assert len({result.opacity_image.getpixel(place) for place in PLACES}) == len(PLACES)


def test_what_and_where_differ_in_what_is_seen_through_the_map():
    opacity = torch.zeros(HEIGHT, WIDTH)
    opacity[8:20, 20:30] = 1.0
    result = made_result(opacity=opacity)
    inside, outside = (27, 11), (3, 32)
    assert result.opacity_image.getpixel(inside) == 255
    assert result.opacity_image.getpixel(outside) == 0
    assert result.what.getpixel(inside) == result.image.getpixel(inside)
    assert result.where.getpixel(inside) == result.seed_image.getpixel(inside)
    grey = round(result.seed_image.convert("L").getpixel(outside) * 0.35)
    assert result.what.getpixel(outside) == result.where.getpixel(outside) == (grey,) * 3


def test_overlay_with_another_map_and_of_another_point():
    result = made_result()
    everywhere = torch.ones(HEIGHT, WIDTH)
    assert result.overlay_on("black", opacity=everywhere).tobytes() == result.image.tobytes()
    assert result.overlay_on("black", opacity=everywhere, point=0).tobytes() == result.seed_image.tobytes()
    with pytest.raises(InvalidRequestError, match=r"\[2, 2\].*\[33, 41\]"):
        result.overlay_on("black", opacity=torch.ones(2, 2))


@pytest.mark.parametrize("background", ["pink", (1, 2), (0, 0, 256), 5, None])
def test_wrong_backgrounds(background):
    with pytest.raises(InvalidRequestError, match="black, grey, white, checker, seed"):
        made_result().overlay_on(background)


def test_checker_and_faded():
    board = checker((20, 17))
    assert [board.getpixel(place) for place in ((0, 0), (7, 7), (8, 7), (8, 8), (16, 0), (19, 16))] == [
        (level,) * 3 for level in (0x99, 0x99, 0xCC, 0x99, 0x99, 0x99)
    ]
    red = Image.new("RGB", (2, 2), (200, 100, 0))
    assert faded(red).getpixel((0, 0)) == (round(0.35 * red.convert("L").getpixel((0, 0))),) * 3


def test_side_by_side():
    left, right = Image.new("RGB", (3, 4), (1, 2, 3)), Image.new("L", (2, 4), 9)
    sheet = side_by_side([left, right], gap=2)
    assert sheet.size == (7, 4)
    assert [sheet.getpixel((x, 3)) for x in range(7)] == [(1, 2, 3)] * 3 + [(255,) * 3] * 2 + [(9,) * 3] * 2
    with pytest.raises(InvalidRequestError, match="-1 px"):
        side_by_side([left], gap=-1)


def test_strip_holds_the_views_whole():
    result = made_result()
    sheet = result.strip(("difference", "seed"), gap=5)
    assert sheet.crop((0, 0, WIDTH, HEIGHT)).tobytes() == result.difference(4.0).tobytes()
    assert sheet.crop((WIDTH + 5, 0, 2 * WIDTH + 5, HEIGHT)).tobytes() == result.seed_image.tobytes()
    with pytest.raises(InvalidRequestError, match="no view"):
        result.strip(())
    with pytest.raises(InvalidRequestError, match="'sede': there are seed"):
        result.strip(("sede",))


def test_box_is_what_pillow_crops():
    opacity = torch.zeros(HEIGHT, WIDTH)
    opacity[4:9, 11:30] = 0.6
    opacity[20, 2] = 0.4
    result = made_result(opacity=opacity)
    assert result.box(0.5) == (11, 4, 30, 9)
    assert result.box(0.3) == (2, 4, 30, 21)
    assert result.box(0.6) is None
    assert result.opacity_image.crop(result.box()).getextrema() == (153, 153)
