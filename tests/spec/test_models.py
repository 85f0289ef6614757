"""The model card: what is asked for against what there is."""

import pytest

from accentor.errors import InvalidFeatureError, UnitOutOfRangeError, UnknownLayerError
from accentor.spec import Cosine, Direction, Encoder, Entry, LayerInfo, Recipe, Spatial, parse_feature


def test_layer_info():
    image, tokens, vector = (LayerInfo(name="x", type="X", shape=shape) for shape in ((6, 28, 20), (49, 12), (5,)))
    assert (image.units, image.grid) == (6, (28, 20))
    assert (tokens.units, tokens.grid) == (12, None)
    assert (vector.units, vector.grid) == (5, None)


def test_canvas_size(card):
    assert card.canvas_size(Recipe()) == 256
    assert card.canvas_size(Recipe(size=99)) == 99
    assert card.model_copy(update={"input_size": 224}).canvas_size(Recipe()) == 512


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("logit:4", "logit:4"),
        ("logit:ash", "logit:0"),
        ("logit:golden RETRIEVER", "logit:1"),
        ("logit:3D glasses", "logit:4"),
        ("-logit:ash + 0.5*neuron:stem:5@27,19", "-logit:0 + 0.5*neuron:stem:5@27,19"),
        ("channel:blocks.1:11", "channel:blocks.1:11"),
        ("neuron:stem:0", "neuron:stem:0"),
        ("channel:head:4", "channel:head:4"),
        ("channel:stem:4@27:28,0:20", "channel:stem:4@27:28,0:20"),
        ("neuron:blocks.1:1", "neuron:blocks.1:1"),
        ("neuron:vit:5@cls", "neuron:vit:5@cls"),
        ("neuron:vit:5@13,13", "neuron:vit:5@13,13"),
        ("cosine:vit:a.npy#1@cls", "cosine:vit:a.npy#1@cls"),
        ("dictionary:sae#1 + blur:input", "dictionary:sae#1 + blur:input"),
        ("2*logit:ash * logit:3D glasses", "2*logit:0 * logit:4"),
        ("logit:ash * logit:ash", "logit:0 * logit:0"),
    ],
)
def test_resolve(card, text, resolved):
    assert card.resolve(parse_feature(text)) == parse_feature(resolved)


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ("logit:5", UnitOutOfRangeError, ["0 to 4", "5 was"]),
        ("logit:golden retreiver", InvalidFeatureError, ["golden retriever"]),
        ("logit:twin", InvalidFeatureError, ["[2, 3]"]),
        ("channel:stem:6", UnitOutOfRangeError, ["stem", "0 to 5", "6 was"]),
        ("channel:blocks.1:12", UnitOutOfRangeError, ["0 to 11"]),
        ("channel:block.1:1", UnknownLayerError, ["'block.1'", "blocks.1"]),
        ("neuron:stem:1@28,0", UnitOutOfRangeError, ["28 rows", "20 columns", "28,0"]),
        ("neuron:stem:1@0,20", UnitOutOfRangeError, ["28 rows", "20 columns", "0,20"]),
        ("neuron:blocks.1:1@7,0", UnitOutOfRangeError, ["7 rows", "7 columns", "7,0"]),
        ("neuron:blocks.1:1@cls", InvalidFeatureError, ["blocks.1", "no class token", "channel:blocks.1:1"]),
        ("neuron:stem:1@cls", InvalidFeatureError, ["no class token"]),
        ("neuron:vit:5@14,0", UnitOutOfRangeError, ["14 rows", "14 columns", "14,0"]),
        ("channel:stem:1@20:29,0:20", UnitOutOfRangeError, ["28 rows", "20 columns", "20:29,0:20"]),
        ("channel:stem:1@20:28,0:21", UnitOutOfRangeError, ["28 rows", "20 columns", "20:28,0:21"]),
        ("channel:head:1@0:1,0:1", InvalidFeatureError, ["no rows and columns", "channel:head:1"]),
        ("direction:head:a.npy#1@0,0", InvalidFeatureError, ["no rows and columns"]),
        ("spatial:head:a.npy", InvalidFeatureError, ["no rows and columns"]),
        ("cosine:stm:a.npy#1", UnknownLayerError, ["stem"]),
        ("logit:1 * channel:stem:6", UnitOutOfRangeError, ["0 to 5"]),
        ("logit:1 - logit:1 * logit:twin", InvalidFeatureError, ["[2, 3]"]),
        ("neuron:head:1", InvalidFeatureError, ["no rows and columns"]),
        ("logit:0 - channel:stem:6", UnitOutOfRangeError, ["0 to 5"]),
    ],
)
def test_what_the_model_does_not_have(card, text, kind, parts):
    with pytest.raises(kind) as caught:
        card.resolve(parse_feature(text))
    assert type(caught.value) is kind
    for part in parts:
        assert part in caught.value.detail


def test_nearest_first(card):
    with pytest.raises(UnknownLayerError) as caught:
        card.layer("blocks1")
    assert caught.value.extra["nearest"][0] == "blocks.1"


def test_direction_of_the_wrong_length(card):
    assert card.resolve(Direction(layer="blocks.1", vector=(1.0,) * 12)).vector == (1.0,) * 12
    with pytest.raises(InvalidFeatureError, match="11 values, blocks.1 of small has 12"):
        card.resolve(Direction(layer="blocks.1", vector=(1.0,) * 11))


@pytest.mark.parametrize("kind", [Direction, Cosine, Encoder])
def test_vectors_of_the_wrong_length(card, kind):
    with pytest.raises(
        InvalidFeatureError, match=f"the {kind.model_fields['kind'].default} has 11 values, .* 12 units"
    ):
        card.resolve(kind(layer="blocks.1", vector=(1.0,) * 11) + Entry(dictionary="sae", unit=1))


@pytest.mark.parametrize(
    ("shape", "offset", "part"),
    [
        ((5, 28, 20), None, "5 channels, stem of small has 6 units"),
        ((6, 27, 20), None, "27 rows and 20 columns, stem of small has 28 and 20: give its offset"),
        ((6, 27, 20), (2, 0), "rows 2:29 and columns 0:20, stem of small has 28 rows and 20 columns"),
        ((6, 2, 3), (0, 18), "rows 0:2 and columns 18:21"),
    ],
)
def test_maps_that_do_not_fit(card, shape, offset, part):
    channels, height, width = shape
    values = [[[1.0] * width] * height] * channels
    with pytest.raises((InvalidFeatureError, UnitOutOfRangeError), match=part):
        card.resolve(Spatial(layer="stem", target=values, offset=offset))


def test_maps_that_fit(card):
    for layer, shape, offset in (
        ("stem", (6, 28, 20), None),
        ("stem", (6, 2, 3), (26, 17)),
        ("vit", (12, 14, 14), None),
    ):
        channels, height, width = shape
        feature = Spatial(layer=layer, target=[[[1.0] * width] * height] * channels, offset=offset)
        assert card.resolve(feature) == feature


def test_without_labels_or_logits(card):
    with pytest.raises(InvalidFeatureError, match="knows no labels"):
        card.model_copy(update={"labels": None}).resolve(parse_feature("logit:ash"))
    with pytest.raises(InvalidFeatureError, match="gives no logits"):
        card.model_copy(update={"outputs": None}).resolve(parse_feature("logit:0"))


def test_regularization_layer(card):
    card.check_recipe(Recipe())
    card.check_recipe(Recipe(regularization_layer="head"))
    with pytest.raises(UnknownLayerError, match="stem"):
        card.check_recipe(Recipe(regularization_layer="stm"))
