"""Positions of a layer in the coordinates of an image, and cards that were written before layers had any."""

import pytest

from accentor.errors import InvalidFeatureError, UnitOutOfRangeError
from accentor.spec import LayerInfo

LAYER = LayerInfo(name="x", type="X", shape=(6, 4, 8), stride=(8.0, 4.0))
TOKENS = LayerInfo(name="t", type="X", shape=(35, 6), grid_shape=(4, 8), class_tokens=3, stride=(8.0, 4.0))


@pytest.mark.parametrize("layer", [LAYER, TOKENS])
@pytest.mark.parametrize(
    ("point", "of", "position"),
    [
        ((0, 0), None, (0, 0)),
        ((7.9, 3.9), None, (0, 0)),
        ((8, 4), None, (1, 1)),
        ((31.9, 31.9), None, (3, 7)),
        ((0.5, 0.5), (1, 1), (2, 4)),
        ((0.99, 0.0), (1, 1), (3, 0)),
        ((239, 320), (480, 640), (1, 4)),
        ((240, 319), (480, 640), (2, 3)),
    ],
)
def test_position_of_a_point(layer, point, of, position):
    assert layer.position_of(*point, of=of) == position


@pytest.mark.parametrize("of", [None, (1, 1), (333, 77)])
def test_pixel_of_is_the_inverse(of):
    for row in range(4):
        for column in range(8):
            assert LAYER.position_of(*LAYER.pixel_of(row, column, of=of), of=of) == (row, column)
    assert LAYER.pixel_of(1, 2) == (12.0, 10.0)
    assert LAYER.pixel_of(3, 0, of=(1, 1)) == (0.875, 0.0625)


def test_outside():
    for point in ((32, 0), (0, 32), (-1, 0), (0, -0.1)):
        with pytest.raises(UnitOutOfRangeError, match="32 high and 32 wide"):
            LAYER.position_of(*point)
    for place in ((4, 0), (0, 8), (-1, 0)):
        with pytest.raises(UnitOutOfRangeError, match="4 rows and 8 columns"):
            LAYER.pixel_of(*place)


def test_layers_without_positions_or_stride():
    with pytest.raises(InvalidFeatureError, match="no rows and columns"):
        LayerInfo(name="x", type="X", shape=(5,)).position_of(0, 0)
    old = LayerInfo(name="x", type="X", shape=(6, 4, 8))
    with pytest.raises(InvalidFeatureError, match="how large the image is"):
        old.position_of(0, 0)
    assert old.position_of(0.5, 0.5, of=(1, 1)) == (2, 4)


def test_cards_written_before_there_were_strides():
    text = '{"name": "x", "type": "X", "shape": [197, 12]}'
    layer = LayerInfo.model_validate_json(text)
    assert (layer.layout, layer.grid_shape, layer.class_tokens) == ("NC", (14, 14), 1)
    assert (layer.channels_last, layer.stride) == (False, None)
    assert LayerInfo.model_validate_json(TOKENS.model_dump_json()) == TOKENS
