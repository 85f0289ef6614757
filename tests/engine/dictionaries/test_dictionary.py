"""Dictionaries in memory: their features by value, their codes, and what does not fit."""

import pytest
import torch

from accentor.engine import Model
from accentor.engine.dictionaries import (
    ChannelDictionary,
    DirectionDictionary,
    EncoderDictionary,
    channels_of,
)
from accentor.engine.dictionaries.codes import largest
from accentor.errors import InvalidFeatureError, InvalidRequestError, UnitOutOfRangeError, UnknownLayerError
from accentor.spec import Channel, Direction, Encoder

NAN, INF = float("nan"), float("inf")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder(activation: str = "relu", features: int = 12, units: int = 8, **other) -> EncoderDictionary:
    draw = generator()
    return EncoderDictionary(
        name="sae",
        layer="late",
        vectors=torch.randn(features, units, generator=draw),
        bias=torch.randn(features, generator=draw),
        center=torch.randn(units, generator=draw),
        activation=activation,
        **other,
    )


def pre_codes(dictionary: EncoderDictionary, x: list[float]) -> list[float]:
    """Return W(x - c) + b, one sum after the other."""
    rows, bias, center = dictionary.vectors.tolist(), dictionary.bias.tolist(), dictionary.center.tolist()
    return [
        sum(w * (value - c) for w, value, c in zip(row, x, center, strict=True)) + b
        for row, b in zip(rows, bias, strict=True)
    ]


def test_channels_of_a_layer(tiny: Model):
    dictionary = channels_of(tiny, "late")
    assert (dictionary.size, dictionary.width, len(dictionary)) == (8, 8, 8)
    assert dictionary.feature(5) == Channel(layer="late", unit=5)
    x = torch.randn(3, 8, generator=generator())
    assert torch.equal(dictionary.encode(x), x)
    dictionary.check(tiny.card)
    with pytest.raises(UnknownLayerError, match="late"):
        channels_of(tiny, "lat")


def test_directions_are_rows():
    rows = torch.tensor([[1.0, 2.0], [0.0, -1.0], [0.5, 0.5]])
    dictionary = DirectionDictionary(name="bank", layer="late", vectors=rows)
    assert dictionary.feature(1) == Direction(layer="late", vector=(0.0, -1.0))
    assert dictionary.encode(torch.tensor([[3.0, 4.0]])).tolist() == [[11.0, -4.0, 3.5]]


def test_codes_before_the_activation():
    dictionary = encoder()
    x = torch.randn(5, 8, generator=generator(1))
    expected = torch.tensor([pre_codes(dictionary, row) for row in x.tolist()])
    torch.testing.assert_close(dictionary.pre_codes(x), expected, rtol=1e-5, atol=1e-5)


def test_a_feature_by_value_is_the_pre_code():
    dictionary = encoder()
    x = torch.randn(8, generator=generator(1))
    expected = pre_codes(dictionary, x.tolist())
    for unit in range(12):
        feature = dictionary.feature(unit)
        assert isinstance(feature, Encoder)
        assert (feature.layer, feature.activation, feature.code, feature.center) == ("late", "relu", "pre", None)
        value = sum(w * v for w, v in zip(feature.vector, x.tolist(), strict=True)) + feature.bias
        assert value == pytest.approx(expected[unit], abs=1e-5)


@pytest.mark.parametrize(
    ("activation", "other", "expected"),
    [
        ("identity", {}, [-1.0, 0.2, 2.0, 0.7]),
        ("relu", {}, [0.0, 0.2, 2.0, 0.7]),
        ("jumprelu", {"threshold": torch.tensor([0.0, 0.3, 2.0, 0.6])}, [0.0, 0.0, 0.0, 0.7]),
        ("topk", {"k": 2}, [0.0, 0.0, 2.0, 0.7]),
        ("topk", {"k": 4}, [0.0, 0.2, 2.0, 0.7]),
    ],
)
def test_activations(activation, other, expected):
    dictionary = EncoderDictionary(name="sae", layer="late", vectors=torch.eye(4), activation=activation, **other)
    codes = dictionary.encode(torch.tensor([[-1.0, 0.2, 2.0, 0.7]] * 2))
    torch.testing.assert_close(codes, torch.tensor([expected] * 2))


@pytest.mark.parametrize(("size", "k"), [(1, 1), (64, 5), (1000, 1), (2047, 32), (2048, 32), (2048, 2048), (5000, 700)])
def test_the_largest_of_many(size: int, k: int):
    pre = torch.randn(3, 2, size, generator=generator(2))
    pre[0, 0, 7 % size] = torch.nan
    pre[1, :, -1] = 9.0
    pre[2] = pre[2].round()
    values, features = largest(pre, k)
    expected = pre.topk(k, dim=-1).values
    torch.testing.assert_close(values.sort(dim=-1, descending=True).values, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(pre.gather(-1, features), values, rtol=0, atol=0, equal_nan=True)
    assert all(len(set(row)) == k for row in features.flatten(0, 1).tolist())


def test_the_post_code_of_a_jumprelu_carries_its_threshold():
    dictionary = encoder("jumprelu", threshold=torch.arange(12) / 8)
    feature = dictionary.feature(6, code="post")
    assert (feature.activation, feature.threshold, feature.code) == ("jumprelu", 0.75, "post")
    assert encoder("identity").feature(0, code="post").code == "pre"
    with pytest.raises(InvalidFeatureError, match="feature 3 of dictionary 'sae' cannot be used"):
        encoder("topk", k=2).feature(3, code="post")


def test_decoding():
    dictionary = EncoderDictionary(
        name="sae",
        layer="late",
        vectors=torch.eye(2),
        activation="relu",
        decoder=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        offset=torch.tensor([10.0, 20.0]),
    )
    assert dictionary.decode(torch.tensor([2.0, -1.0])).tolist() == [9.0, 20.0]
    with pytest.raises(InvalidFeatureError, match="no decoder"):
        encoder().decode(torch.zeros(1, 12))


def test_features_are_made_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr(
        DirectionDictionary, "_feature", lambda self, unit, code: made.append(unit) or Channel(layer="late", unit=unit)
    )
    dictionary = DirectionDictionary(name="large", layer="late", vectors=torch.ones(5000, 3))
    many = dictionary.features("1000:3000")
    assert (len(many), made) == (2000, [])
    assert many[-1].unit == 2999
    assert [feature.unit for feature in many[10:12]] == [1010, 1011]
    assert made == [2999, 1010, 1011]
    assert len(dictionary.features()) == 5000
    assert [f.unit for f in dictionary.features(range(4, 0, -2))] == [4, 2]


@pytest.mark.parametrize(
    ("units", "error", "text"),
    [
        ("3:13", UnitOutOfRangeError, "13"),
        ("5:5", InvalidRequestError, "empty"),
        ("a:b", InvalidFeatureError, "0:512"),
        (range(10, 13), UnitOutOfRangeError, "0 to 11; 12"),
        (range(-2, 3), UnitOutOfRangeError, "-2"),
    ],
)
def test_ranges_that_are_none(units, error, text):
    with pytest.raises(error, match=text):
        encoder().features(units)


def test_labels():
    dictionary = ChannelDictionary(name="bank", layer="late", units=3, labels=("fur", "sky", "sky"))
    assert dictionary.feature("fur").unit == 0
    with pytest.raises(InvalidFeatureError, match="nearest are fur"):
        dictionary.index("furr")
    with pytest.raises(InvalidFeatureError, match=r"2 features called 'sky': \[1, 2\]"):
        dictionary.index("sky")
    with pytest.raises(InvalidFeatureError, match="2 labels, expected 3"):
        ChannelDictionary(name="bank", layer="late", units=3, labels=("a", "b"))
    with pytest.raises(UnitOutOfRangeError, match="0 to 2; 3 was asked for"):
        dictionary.feature(3)


def test_another_layers_width_names_both_numbers(tiny: Model):
    dictionary = DirectionDictionary(name="bank", layer="early", vectors=torch.ones(2, 8))
    with pytest.raises(InvalidFeatureError, match=r"8 units.*6 units"):
        dictionary.check(tiny.card)
    with pytest.raises(InvalidFeatureError, match=r"8 units.*5 on their last axis"):
        dictionary.encode(torch.zeros(3, 5))
    elsewhere = DirectionDictionary(name="bank", layer="lat", vectors=torch.ones(2, 8))
    with pytest.raises(UnknownLayerError, match="late"):
        elsewhere.check(tiny.card)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vectors": torch.ones(8)}, r"shape \[8\], expected floats \[features, units\]"),
        ({"vectors": torch.ones(4, 8, dtype=torch.int64)}, "int64"),
        ({"vectors": torch.ones(0, 8)}, "0 features"),
        ({"bias": torch.zeros(5)}, r"bias has shape \[5\], expected \[4\]"),
        ({"center": torch.zeros(4)}, r"center has shape \[4\], expected \[8\]"),
        ({"center": torch.full((8,), NAN)}, "center holds"),
        ({"decoder": torch.zeros(8, 4)}, r"decoder has shape \[8, 4\], expected \[4, 8\]"),
        ({"activation": "gelu"}, "gelu"),
        ({"activation": "topk"}, "needs k"),
        ({"activation": "topk", "k": 5}, "k is 5, expected 1 to 4"),
        ({"k": 2}, "needs k, and it alone"),
        ({"activation": "jumprelu"}, "needs thresholds"),
        ({"activation": "jumprelu", "threshold": torch.tensor([0.0, -1.0, 0.0, 0.0])}, "negative"),
        ({"layer": "late:1"}, "no layer's name"),
    ],
)
def test_parts_that_do_not_fit(changes, text):
    good = {"name": "sae", "layer": "late", "vectors": torch.ones(4, 8), "activation": "relu"}
    with pytest.raises(InvalidFeatureError, match=text):
        EncoderDictionary(**{**good, **changes})


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_a_broken_row_disturbs_no_other(activation: str):
    whole = encoder(activation, **({"k": 3} if activation == "topk" else {}))
    vectors = whole.vectors.clone()
    vectors[4, 2] = NAN
    broken = EncoderDictionary(
        name="sae",
        layer="late",
        vectors=vectors,
        bias=whole.bias,
        center=whole.center,
        activation=activation,
        k=whole.k,
    )
    others = [unit for unit in range(12) if unit != 4]
    without = EncoderDictionary(
        name="sae",
        layer="late",
        vectors=whole.vectors[others],
        bias=whole.bias[others],
        center=whole.center,
        activation=activation,
        k=whole.k,
    )
    x = torch.randn(50, 8, generator=generator(1))
    codes = broken.encode(x)
    torch.testing.assert_close(codes[:, others], without.encode(x))
    assert not codes[:, 4].any()
    with pytest.raises(InvalidFeatureError, match="^feature 4 of dictionary 'sae' cannot be used: [a-zA-Z ;]+$"):
        broken.feature(4)


def test_codes_are_differentiable():
    x = torch.randn(4, 8, generator=generator(1), requires_grad=True)
    dictionary = encoder("topk", k=3)
    dictionary.encode(x).sum().backward()
    on = (dictionary.encode(x) > 0).float()
    torch.testing.assert_close(x.grad, on.detach() @ dictionary.vectors)


def test_another_device_is_a_copy():
    dictionary = encoder("jumprelu", threshold=torch.zeros(12))
    there = dictionary.to("meta")
    assert {there.vectors.device.type, there.threshold.device.type, there.center.device.type} == {"meta"}
    assert there.encode(torch.zeros(3, 8, device="meta")).shape == (3, 12)
    assert dictionary.vectors.device.type == "cpu"


def test_it_says_what_it_is():
    assert repr(encoder()) == "<dictionary 'sae': 12 features (encoder) of late, 8 units>"
