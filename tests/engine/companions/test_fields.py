"""Receptive fields of stacked convolutions, known exactly; boxes of known mass; and crops in image coordinates."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.engine.companions.toys import SIDE, Tokens, images, plain
from torch import nn

from accentor.engine import load_model
from accentor.engine.companions import ReceptiveField, crop_to_unit, receptive_field
from accentor.engine.companions.fields import smallest_box
from accentor.errors import (
    InvalidImageError,
    InvalidRequestError,
    NotDifferentiableError,
    UnitOutOfRangeError,
    UnknownLayerError,
)


def ones(*layers: nn.Conv2d) -> nn.Sequential:
    for layer in layers:
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


@pytest.fixture
def stacked():
    """3×3 at stride 2, then 3×3: a unit at (y, x) sees the 7 px around (2y, 2x)."""
    return plain(ones(nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, padding=1)), regularization_layer="0")


def test_stacked_convolutions(stacked):
    """All weights one: the gradient along a line is 1 1 2 1 2 1 1, doubled by two channels between, for 3 colours."""
    found = receptive_field(stacked, "1", (3, 4), unit=0, share=1.0)
    assert found.box == (3, 5, 10, 12)
    assert found.size == (7, 7)
    line = torch.tensor([1.0, 1, 2, 1, 2, 1, 1])
    expected = torch.zeros(SIDE, SIDE)
    expected[3:10, 5:12] = 3 * 2 * line[:, None] * line[None, :]
    torch.testing.assert_close(found.gradient, expected)


def test_the_first_layer_the_centre_and_the_border(stacked):
    assert receptive_field(stacked, "0", (2, 5), unit=1, share=1.0).box == (3, 9, 6, 12)
    centre = receptive_field(stacked, "0", share=1.0)
    assert centre.position == (4, 4)
    assert centre.unit is None
    assert centre.box == (7, 7, 10, 10)
    assert receptive_field(stacked, "1", (0, 7), unit=0, share=1.0).box == (0, 11, 4, 16)


def test_all_channels_do_not_cancel(stacked):
    """Two channels of opposite weights: their plain sum has no gradient at all."""
    with torch.no_grad():
        stacked.module[1].weight[1] *= -1
    assert receptive_field(stacked, "1", (3, 4), share=1.0).box == (3, 5, 10, 12)


def test_given_images_and_their_mean():
    """A squared unit's gradient is twice its value: the field is that of the images."""

    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1, bias=False)
            self.square = nn.Identity()
            self.conv.weight.data[:] = torch.tensor([1.0, 2.0, 0.0]).view(1, 3, 1, 1)

        def forward(self, x):
            return self.square(self.conv(x).square())

    model = plain(Squared(), regularization_layer="conv")
    sides = [torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    found = receptive_field(model, "square", (5, 6), sides, unit=0, batch=2)
    seen = [receptive_field(model, "square", (5, 6), one, unit=0).gradient for one in sides]
    torch.testing.assert_close(found.gradient, torch.stack(seen).mean(dim=0))
    assert found.gradient[5, 6] > 0
    assert int((found.gradient > 0).sum()) == 1
    assert found.box == (5, 6, 6, 7)


def test_tokens():
    """Before they are mixed, a token sees its own patch; the class token is none of the positions."""
    model = plain(Tokens(), regularization_layer="patches")
    assert receptive_field(model, "embed", (1, 2), share=1.0).box == (4, 8, 8, 12)
    assert receptive_field(model, "norm", (1, 2), share=1.0).box == (0, 0, SIDE, SIDE)


def test_random_weights_come_from_the_generator(stacked):
    def field(seed):
        return receptive_field(stacked, "1", generator=torch.Generator().manual_seed(seed)).gradient

    assert torch.equal(field(1), field(1))
    assert not torch.equal(field(1), field(2))
    assert torch.equal(receptive_field(stacked, "1").gradient, field(0))


def test_the_box_holds_the_share():
    mass = torch.rand(20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).pow(8)
    for share in (0.5, 0.9, 0.995):
        top, left, bottom, right = smallest_box(mass, share)
        assert mass[top:bottom, left:right].sum() >= share * mass.sum()
        spare = (1 - share) / 4 * mass.sum()
        assert mass[: top + 1].sum() > spare
        assert mass[bottom - 1 :].sum() > spare
        assert mass[:, : left + 1].sum() > spare
        assert mass[:, right - 1 :].sum() > spare


def test_the_box_by_hand():
    """100 on a cross of known arms: a quarter of 10 % may be cut off at each side."""
    mass = torch.zeros(5, 5)
    mass[2] = torch.tensor([2.0, 10.0, 75.0, 10.0, 3.0])
    assert smallest_box(mass, 0.9) == (2, 1, 3, 5)
    assert smallest_box(mass, 1.0) == (2, 0, 3, 5)
    assert smallest_box(mass, 0.5) == (2, 2, 3, 4)


def field_of(box, side=SIDE):
    return ReceptiveField("layer", (0, 0), None, torch.zeros(side, side), box, 1.0)


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((3, 5, 10, 12), (16, 16), (3, 5, 10, 12)),
        ((3, 5, 10, 12), (32, 64), (6, 20, 20, 48)),
        ((3, 5, 10, 12), (24, 8), (4, 2, 15, 6)),
        ((3, 5, 10, 12), (25, 9), (4, 2, 16, 7)),
        ((0, 0, 16, 16), (33, 7), (0, 0, 33, 7)),
        ((15, 15, 16, 16), (8, 8), (7, 7, 8, 8)),
    ],
)
def test_boxes_in_image_coordinates(box, size, expected):
    assert field_of(box).box_in(*size) == expected


def test_crops(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "one.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    for image in (picture, tmp_path / "one.png", str(tmp_path / "one.png"), tensor):
        crop = crop_to_unit(image, field_of((3, 5, 10, 12)))
        assert np.array_equal(np.array(crop), pixels[6:20, 20:48])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (4, "RGB"), (40, "RGB")])
def test_crops_of_any_number_of_channels(channels, mode):
    """Shown as other pictures are: of two channels the first, of more the first three."""
    levels = torch.randint(0, 256, (channels, 32, 64), generator=torch.Generator().manual_seed(0))
    crop = crop_to_unit(levels / 255, field_of((3, 5, 10, 12)))
    assert crop.mode == mode
    shown = levels[:3, 6:20, 20:48].permute(1, 2, 0) if mode == "RGB" else levels[0, 6:20, 20:48]
    assert np.array_equal(np.array(crop), shown.numpy())


def test_bad_images():
    with pytest.raises(InvalidImageError, match="expected float"):
        crop_to_unit(torch.ones(1, 3, 16, 16), field_of((3, 5, 10, 12)))
    with pytest.raises(InvalidImageError):
        crop_to_unit("nowhere.png", field_of((3, 5, 10, 12)))
    with pytest.raises(InvalidImageError, match="expected 0 to 1"):
        crop_to_unit(torch.full((3, 16, 16), 7.0), field_of((3, 5, 10, 12)))


class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.act = nn.ReLU()
        nn.init.zeros_(self.conv.weight)
        nn.init.constant_(self.conv.bias, -1.0)

    def forward(self, x):
        return self.act(self.conv(x))


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"layer": "2"}, UnknownLayerError, "'2'"),
        ({"position": (8, 0)}, UnitOutOfRangeError, "8 rows and 8 columns, counted from 0; position 8,0"),
        ({"position": (0, -1)}, UnitOutOfRangeError, "position 0,-1"),
        ({"unit": 2}, UnitOutOfRangeError, "units 0 to 1; 2"),
        ({"share": 0.0}, InvalidRequestError, "above 0"),
        ({"share": 1.5}, InvalidRequestError, "at most 1"),
        ({"images": []}, InvalidRequestError, "no image"),
    ],
)
def test_refusals(stacked, options, error, part):
    with pytest.raises(error, match=part):
        receptive_field(stacked, **{"layer": "1"} | options)


def test_no_positions_and_no_gradient():
    with pytest.raises(InvalidRequestError, match="rows and columns"):
        receptive_field(plain(Tokens(), regularization_layer="patches"), "head")
    dead = plain(Dead(), regularization_layer="conv")
    with pytest.raises(NotDifferentiableError, match="zero on all 16 inputs"):
        receptive_field(dead, "act")
    with pytest.raises(NotDifferentiableError, match="zero on all 2 inputs"):
        receptive_field(dead, "act", images=list(images(2)))


@pytest.mark.parametrize(("layer", "side"), [("conv1", 4), ("block1", 10), ("block2", 30), ("block3", 70)])
def test_the_reference_model(layer, side):
    """Sizes from kernels and strides: 4; + 3 · 2; a pooling of 2, + 2 · 8; a pooling of 2, + 2 · 16."""
    assert receptive_field(load_model("reference", device="cpu"), layer, share=1.0).size == (side, side)
