"""The objective, each kind of feature by hand on each kind of layer; and values read from files and dictionaries."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary
from accentor.engine.features import Objective, by_position, inline, layers_of, notes_of
from accentor.engine.layers import INPUT
from accentor.errors import InvalidFeatureError, UnitOutOfRangeError
from accentor.spec import (
    Blur,
    Channel,
    Cosine,
    CosinePower,
    Direction,
    Encoder,
    Entry,
    LayerInfo,
    Logit,
    ModelCard,
    Neuron,
    Product,
    Spatial,
    Sum,
    Window,
    parse_feature,
)

N, T = 3, 2
SHAPES = {
    "conv": (5, 4, 6),
    "last": (4, 6, 5),
    "cls": (10, 5),
    "tokens": (7, 5),
    "vector": (5,),
    "": (9,),
    INPUT: (3, 4, 5),
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def card() -> ModelCard:
    layouts = {"last": {"layout": "HWC"}}
    layers = tuple(
        LayerInfo(name=name, type="X", shape=shape, **layouts.get(name, {}))
        for name, shape in SHAPES.items()
        if name not in ("", INPUT)
    )
    return ModelCard(
        name="fake",
        source="fake",
        digest="0" * 64,
        input_size=8,
        outputs=9,
        regularization_layer="conv",
        layers=layers,
    )


@pytest.fixture
def activations() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(N * T, *shape, generator=generator).requires_grad_() for name, shape in SHAPES.items()}


GRIDS = {"conv": (4, 6), "last": (4, 6), "cls": (3, 3)}


def grid_of(layer, here):
    """The activations at a layer by place: {(row, column): [C]}, with the class token under cls."""
    if layer == "conv":
        return {(y, x): here[:, y, x] for y in range(4) for x in range(6)}
    if layer == "last":
        return {(y, x): here[y, x] for y in range(4) for x in range(6)}
    if layer == "cls":
        return {"cls": here[0]} | {(y, x): here[1 + 3 * y + x] for y in range(3) for x in range(3)}
    return {(0, i): here[i] for i in range(7)} if layer == "tokens" else {(0, 0): here}


def places_of(at, grid):
    if at is None:
        return [here for place, here in grid.items() if place != "cls"]
    if isinstance(at, Window):
        return [grid[y, x] for y in range(*at.rows) for x in range(*at.columns)]
    return [grid[at]]


def by_hand(text_or_feature, activations, pair, crop):
    """One feature of one crop of one pair, written out with loops over nothing but positions, differentiable."""
    feature = parse_feature(text_or_feature) if isinstance(text_or_feature, str) else text_or_feature
    if isinstance(feature, Sum):
        return sum(term.weight * by_hand(term.feature, activations, pair, crop) for term in feature.terms)
    if isinstance(feature, Product):
        return math.prod(by_hand(factor, activations, pair, crop) for factor in feature.factors)
    row = pair * T + crop
    if isinstance(feature, Logit):
        return activations[""][row, feature.unit].double()
    if isinstance(feature, Blur):
        return -0.5 * blurred_by_hand(activations[INPUT][row].double())
    grid = grid_of(feature.layer, activations[feature.layer][row].double())
    if isinstance(feature, Spatial):
        return map_by_hand(feature, grid)
    if isinstance(feature, Neuron):
        rows, columns = GRIDS[feature.layer]
        return grid[feature.position or (rows // 2, columns // 2)][feature.unit]
    values = [at_one(feature, here) for here in places_of(feature.at, grid)]
    return sum(values) / len(values)


def at_one(feature, a):
    if isinstance(feature, Channel):
        return a[feature.unit]
    v = torch.tensor(feature.vector, dtype=torch.float64)
    dot = (a * v).sum()
    cosine = dot / (a.square().sum().sqrt() * v.square().sum().sqrt())
    if isinstance(feature, Cosine):
        return cosine
    if isinstance(feature, CosinePower):
        return max(cosine, torch.tensor(0.1).double()) ** feature.power * dot
    if isinstance(feature, Direction):
        return dot
    center = torch.tensor(feature.center or (0.0,) * len(feature.vector), dtype=torch.float64)
    pre = ((a - center) * v).sum() + feature.bias
    on = feature.code == "pre" or pre > (feature.threshold or 0.0)
    return pre if on else pre * 0.0


def map_by_hand(feature, grid):
    channels, height, width = feature.target.shape
    target = torch.tensor(feature.target.values().tolist(), dtype=torch.float64).view(channels, height, width)
    top, left = feature.offset or (0, 0)
    inside = torch.stack([torch.stack([grid[top + y, left + x] for x in range(width)]) for y in range(height)]).permute(
        2, 0, 1
    )
    dot = (inside * target).sum()
    if feature.power is None:
        return dot
    counted = inside * (target != 0) if feature.norm == "masked" else inside
    cosine = dot / (counted.norm() * target.norm())
    return max(cosine, torch.tensor(0.1).double()) ** feature.power * dot


def blurred_by_hand(image):
    total = 0.0
    for c in range(3):
        for y in range(4):
            for x in range(5):
                near = [(j, i) for j in range(y - 1, y + 2) for i in range(x - 1, x + 2) if 0 <= j < 4 and 0 <= i < 5]
                weights = [1.0 if (j, i) == (y, x) else 0.5 for j, i in near]
                blur = sum(w * image[c, j, i] for w, (j, i) in zip(weights, near, strict=True)) / sum(weights)
                total = total + (image[c, y, x] - blur.detach()) ** 2
    return total / 60


V = (0.5, -1.0, 0.0, 2.0, 0.25)
WINDOW = Window(rows=(1, 3), columns=(0, 2))


def direction(layer, **fields):
    return Direction(layer=layer, vector=V, **fields)


def encoder(layer, **fields):
    return Encoder(layer=layer, vector=V, bias=0.3, center=(0.1, 0.2, -0.3, 0.4, -0.5), **fields)


def target(channels, height, width, seed=0):
    values = torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))
    values[0] = 0.0
    return values


FEATURES = [
    "logit:8",
    "channel:conv:4",
    "channel:tokens:4",
    "channel:vector:4",
    "neuron:conv:1",
    "neuron:conv:1@0,0",
    "neuron:conv:4@3,5",
    direction("conv"),
    direction("tokens"),
    direction("vector"),
    "-channel:conv:2",
    "2*channel:conv:1 - channel:conv:3",
    "channel:conv:1 + channel:conv:1",
    "0.5*logit:0 - 3*neuron:conv:2@1,1 + channel:tokens:0",
    direction("conv") - 0.25 * direction("tokens") + 2 * Logit(unit=3),
    "channel:last:4",
    "channel:cls:4",
    "channel:conv:3@1:4,2:3",
    "channel:last:3@1:4,2:6",
    "channel:cls:3@0:2,1:3",
    "neuron:last:1@2,5",
    "neuron:cls:2@2,1",
    "neuron:cls:2@cls",
    "neuron:cls:0",
    direction("last"),
    direction("cls"),
    direction("cls", at="cls"),
    direction("conv", at=WINDOW),
    direction("conv", at=(2, 3)),
    direction("cls", at=(2, 1)) + direction("cls", at=WINDOW) + direction("cls"),
    Cosine(layer="conv", vector=V),
    Cosine(layer="cls", vector=V),
    Cosine(layer="vector", vector=V),
    Cosine(layer="last", vector=V, at=WINDOW),
    Cosine(layer="cls", vector=V, at="cls"),
    CosinePower(layer="conv", vector=V),
    CosinePower(layer="conv", vector=V, power=2.5),
    CosinePower(layer="cls", vector=V, power=2, at=(0, 1)),
    CosinePower(layer="vector", vector=V, power=0.5),
    Spatial(layer="conv", target=target(5, 4, 6)),
    Spatial(layer="last", target=target(5, 4, 6)),
    Spatial(layer="cls", target=target(5, 3, 3)),
    Spatial(layer="conv", target=target(5, 2, 3), offset=(1, 3)),
    Spatial(layer="conv", target=target(5, 4, 6), power=1),
    Spatial(layer="conv", target=target(5, 4, 6, seed=7), power=2, norm="masked"),
    Spatial(layer="cls", target=target(5, 2, 1), power=1.5, offset=(1, 2)),
    Spatial(layer="conv", target=target(5, 4, 6))
    + Spatial(layer="conv", target=target(5, 1, 1), power=2, offset=(0, 0)),
    encoder("conv"),
    encoder("cls", activation="topk", k=3),
    encoder("conv", activation="relu", code="post"),
    encoder("cls", activation="jumprelu", threshold=0.7, code="post"),
    encoder("last", activation="jumprelu", threshold=0.7, code="post", at=WINDOW),
    encoder("vector", activation="relu") - encoder("vector", activation="relu", code="post"),
    "blur:input",
    "logit:1 * logit:2",
    "-0.5*logit:1 * channel:cls:2 * neuron:conv:1 + 2*logit:3 - channel:conv:2 * channel:conv:2",
    direction("conv") * Cosine(layer="cls", vector=V),
]


@pytest.mark.parametrize("feature", FEATURES, ids=str)
def test_values_and_gradients(card, activations, feature):
    parsed = parse_feature(feature) if isinstance(feature, str) else feature
    values = Objective([card.resolve(parsed)] * N, card, CPU)(activations)
    assert values.shape == (N, T)
    expected = torch.stack(
        [torch.stack([by_hand(feature, activations, pair, crop) for crop in range(T)]) for pair in range(N)]
    )
    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(N, T, generator=torch.Generator().manual_seed(1))
    leaves = [activations[layer] for layer in sorted(layers_of(parsed))]
    ours = torch.autograd.grad((values * weights).sum(), leaves)
    theirs = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert one.any()


def parsed_features():
    return [parse_feature(one) if isinstance(one, str) else one for one in FEATURES]


def test_a_pair_does_not_depend_on_its_batch_mates(card):
    """All kinds in one batch, against each pair alone."""
    generator = torch.Generator().manual_seed(3)
    features = parsed_features()
    batch = {name: torch.randn(len(features) * T, *shape, generator=generator) for name, shape in SHAPES.items()}
    together = Objective(features, card, CPU)(batch)
    for pair, feature in enumerate(features):
        own = {name: value[pair * T : (pair + 1) * T] for name, value in batch.items()}
        torch.testing.assert_close(together[pair], Objective([feature], card, CPU)(own)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("feature", FEATURES, ids=str)
def test_half_precision_is_summed_in_float32(card, activations, feature):
    """As good as the rounding of the activations allows: the sums themselves lose nothing."""
    parsed = parse_feature(feature) if isinstance(feature, str) else feature
    half = {name: value.detach().bfloat16() for name, value in activations.items()}
    rounded = {name: value.float() for name, value in half.items()}
    objective = Objective([parsed] * N, card, CPU)
    values = objective(half)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, objective(rounded), rtol=1e-5, atol=1e-5)


def test_everything_is_made_on_the_device(card):
    """On the meta device, where a tensor left on the CPU is an error."""
    meta = {name: torch.empty(len(FEATURES) * T, *shape, device="meta") for name, shape in SHAPES.items()}
    values = Objective(parsed_features(), card, torch.device("meta"))(meta)
    assert (values.device.type, values.shape) == ("meta", (len(FEATURES), T))


def test_channels_last_is_the_same(card, activations):
    one = activations["conv"].detach()
    for feature in (parse_feature("channel:conv:3"), direction("conv"), Spatial(layer="conv", target=target(5, 4, 6))):
        objective = Objective([feature] * N, card, CPU)
        other = {"conv": one.contiguous(memory_format=torch.channels_last)}
        torch.testing.assert_close(objective({"conv": one}), objective(other))


def test_positions_are_no_copy():
    for memory in (torch.contiguous_format, torch.channels_last):
        one = torch.randn(6, 5, 4, 3).contiguous(memory_format=memory).view(2, 3, 5, 4, 3)
        assert by_position(one, "CHW").data_ptr() == one.data_ptr()
        assert torch.equal(by_position(one, "CHW")[1, 2, 3 * 3 + 1], one[1, 2, :, 3, 1])


def test_a_zero_activation_has_no_cosine(card, activations):
    """It has no direction: its cosine is 0, and so is its gradient."""
    here = torch.zeros(N * T, *SHAPES["conv"], requires_grad=True)
    for feature in (Cosine(layer="conv", vector=V), Spatial(layer="conv", target=target(5, 4, 6), power=1.0)):
        value = Objective([feature] * N, card, CPU)({"conv": here})
        assert not value.any()
        (gradient,) = torch.autograd.grad(value.sum(), here)
        assert gradient.isfinite().all()
        assert isinstance(feature, Spatial) or not gradient.any()


def test_the_order_of_all_kinds(card, activations):
    """Terms of many kinds in every pair land where they belong."""
    features = parsed_features()
    total = sum((0.5 + i) * one for i, one in enumerate(features[:20]))
    other = sum((0.5 + i) * one for i, one in enumerate(reversed(features[20:45])))
    values = Objective([total, other, features[3]], card, CPU)(activations)
    for pair, feature in enumerate((total, other, features[3])):
        for crop in range(T):
            expected = by_hand(feature, activations, pair, crop).item()
            assert values[pair, crop].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_pairs_of_different_features(card, activations):
    chosen = [FEATURES[13], FEATURES[8], FEATURES[6]]
    parsed = [parse_feature(one) if isinstance(one, str) else one for one in chosen]
    objective = Objective(parsed, card, CPU)
    assert objective.layers == {"", "conv", "tokens"}
    values = objective(activations)
    for pair, feature in enumerate(chosen):
        for crop in range(T):
            assert values[pair, crop].item() == pytest.approx(
                by_hand(feature, activations, pair, crop).item(), abs=1e-5
            )


def test_twice_a_minus_b_is_not_minus_of_the_sum(card, activations):
    """The sign bug of xplique: `2*A - B` computed as `-(2*A + B)`."""
    a, b = parse_feature("channel:conv:1"), parse_feature("channel:conv:3")
    values = {
        name: Objective([feature] * N, card, CPU)(activations)
        for name, feature in {"a": a, "b": b, "difference": 2 * a - b, "negative": -(2 * a + b)}.items()
    }
    torch.testing.assert_close(values["difference"], 2 * values["a"] - values["b"])
    torch.testing.assert_close(values["negative"], -2 * values["a"] - values["b"])


def test_pairs_are_independent(card, activations):
    texts = ["2*channel:conv:1 - logit:2", "neuron:conv:0 + channel:tokens:1", "logit:1 - channel:tokens:3"]
    values = Objective([parse_feature(text) for text in texts], card, CPU)(activations)
    for pair in range(N):
        for crop in range(T):
            gradients = torch.autograd.grad(
                values[pair, crop], list(activations.values()), retain_graph=True, allow_unused=True
            )
            for gradient in gradients:
                if gradient is not None:
                    others = [row for row in range(N * T) if row != pair * T + crop]
                    assert not gradient[others].any()


def test_nan_of_one_pair_stays_there(card, activations):
    broken = {name: value.detach().clone() for name, value in activations.items()}
    for value in broken.values():
        value[T : 2 * T] = torch.nan
    values = Objective([parse_feature("channel:conv:1 - logit:2")] * N, card, CPU)(broken)
    assert values[1].isnan().all()
    assert values[[0, 2]].isfinite().all()


# --- directions from files ---------------------------------------------------------------------------------------

BANK = torch.tensor([[1.0, 2.0, 3.0], [-0.5, 0.25, 0.0], [0.0, 0.0, 0.0], [1.0, float("nan"), 0.0]])


@pytest.fixture(params=["safetensors", "npy"])
def bank(request, tmp_path):
    path = tmp_path / f"a bank.{request.param}"
    if request.param == "npy":
        np.save(path, BANK.numpy())
    else:
        save_file({"directions": BANK}, path)
    return path


def test_inline(bank):
    feature = inline(Direction(layer="conv", source=f"{bank}#1"))
    assert feature == Direction(layer="conv", vector=(-0.5, 0.25, 0.0))
    mixed = inline(parse_feature(f"2*direction:conv:{bank}#0 - logit:1"))
    assert mixed == 2 * Direction(layer="conv", vector=(1.0, 2.0, 3.0)) - Logit(unit=1)
    for plain in (Logit(unit=1), feature, parse_feature("2*logit:1 - channel:conv:2")):
        assert inline(plain) == plain


@pytest.mark.parametrize(("row", "part"), [(4, "rows 0 to 3; row 4"), (2, "all zero"), (3, "finite")])
def test_bad_rows(bank, row, part):
    with pytest.raises(InvalidFeatureError, match=part):
        inline(Direction(layer="conv", source=f"{bank}#{row}"))


def test_bad_files(tmp_path):
    def reason(name):
        with pytest.raises(InvalidFeatureError) as caught:
            inline(Direction(layer="conv", source=f"{tmp_path / name}#0"))
        assert name in caught.value.detail
        return caught.value.detail

    for name in ("none.npy", "none.safetensors"):
        assert "cannot be read" in reason(name)
    for name in ("empty.npy", "empty.safetensors", "text.pt"):
        (tmp_path / name).touch()
        assert "cannot be read" in reason(name)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in reason("objects.npy")
    np.save(tmp_path / "flat.npy", np.ones(3))
    assert "shape [3]" in reason("flat.npy")
    save_file({"a": BANK, "b": BANK.clone()}, tmp_path / "two.safetensors")
    assert "2 tensors" in reason("two.safetensors")
    with pytest.raises(InvalidFeatureError, match=r"two.safetensors cannot .* no tensor 'c'; it holds a, b"):
        inline(Direction(layer="conv", source=f"{tmp_path}/two.safetensors:c#0"))


def test_inline_everything(bank):
    """Vectors of all kinds, in sums and products, with their places and powers kept."""
    row, vector = f"{bank}#1", (-0.5, 0.25, 0.0)
    feature = 2 * Cosine(layer="conv", source=row, at=(1, 2)) * CosinePower(
        layer="conv", source=row, power=3.0
    ) - Direction(layer="conv", source=row, at=WINDOW)
    assert inline(feature) == (
        2 * Cosine(layer="conv", vector=vector, at=(1, 2)) * CosinePower(layer="conv", vector=vector, power=3.0)
        - Direction(layer="conv", vector=vector, at=WINDOW)
    )
    product = Cosine(layer="conv", source=row) * Logit(unit=1)
    assert inline(product) == Cosine(layer="conv", vector=vector) * Logit(unit=1)


def test_a_tensor_of_several(tmp_path):
    path = tmp_path / "two.safetensors"
    save_file({"a": BANK, "W dec": 2 * BANK}, path)
    read = inline(parse_feature(f"direction:conv:{path}:W dec#0"))
    assert read == Direction(layer="conv", vector=(2.0, 4.0, 6.0))


def test_maps_from_files(tmp_path):
    maps = torch.arange(24.0).view(2, 2, 2, 3) + 1
    np.save(tmp_path / "one.npy", maps[1].numpy())
    save_file({"m": maps.half(), "n": maps[0].contiguous()}, tmp_path / "maps.safetensors")
    expected = Spatial(layer="conv", target=maps[1], offset=(1, 0), power=2.0, norm="masked")
    assert inline(parse_feature(f"spatial:conv:{tmp_path}/one.npy^2/masked@1,0")) == expected
    assert inline(parse_feature(f"spatial:conv:{tmp_path}/maps.safetensors:m#1^2/masked@1,0")) == expected
    assert inline(parse_feature(f"spatial:conv:{tmp_path}/maps.safetensors:n")) == Spatial(layer="conv", target=maps[0])
    for text, part in {
        "one.npy#0": "expected \\[features, units, rows, columns",
        "maps.safetensors:m#2": "rows 0 to 1",
    }.items():
        with pytest.raises(InvalidFeatureError, match=part):
            inline(parse_feature(f"spatial:conv:{tmp_path}/{text}"))


# --- dictionaries --------------------------------------------------------------------------------------------------

WEIGHTS = torch.randn(12, 5, generator=torch.Generator().manual_seed(5))
BIAS = torch.linspace(-0.5, 0.5, 12)
CENTER = torch.linspace(-1.0, 1.0, 5)


def sae(path, activation="topk", **options):
    k = {"k": 3} if activation == "topk" else {}
    named = {"name": "sae", "layer": "conv", "vectors": WEIGHTS, "bias": BIAS, "center": CENTER}
    return EncoderDictionary(**named | options, activation=activation, **k).save(path / "sae.safetensors")


def test_an_entry_is_read_from_its_dictionary(tmp_path):
    path = sae(tmp_path, "relu")
    read = inline(Entry(dictionary=str(path), unit=4))
    assert isinstance(read, Encoder)
    assert (read.layer, read.activation, read.code) == ("conv", "relu", "pre")
    assert read.vector == pytest.approx(WEIGHTS[4].tolist())
    mixed = inline(parse_feature(f"2*dictionary:{path}#4 * logit:1 - dictionary:{path}#0"))
    assert [len(term.feature.factors_of()) for term in mixed.terms] == [2, 1]
    assert mixed.references == ()
    with pytest.raises(UnitOutOfRangeError, match="0 to 11; 12"):
        inline(Entry(dictionary=str(path), unit=12))


def test_an_encoder_is_read_from_its_dictionary(tmp_path):
    path = sae(tmp_path, "relu")
    read = inline(parse_feature(f"encoder:conv:{path}#4:post@1,2"))
    assert (read.code, read.at, read.activation, read.source) == ("post", (1, 2), "relu", None)
    directions = DirectionDictionary(name="d", layer="conv", vectors=WEIGHTS).save(tmp_path / "d.safetensors")
    assert inline(parse_feature(f"encoder:conv:{directions}#4@1,2")) == Direction(
        layer="conv", vector=tuple(WEIGHTS[4].tolist()), at=(1, 2)
    )
    with pytest.raises(InvalidFeatureError, match="of directions: there is no code"):
        inline(parse_feature(f"encoder:conv:{directions}#4:post"))


def test_the_code_of_a_topk_dictionary(card, activations, tmp_path):
    """Against the definition, position by position, with its gradient; units of two pairs in one dictionary."""
    path = sae(tmp_path)
    features = [parse_feature(f"encoder:conv:{path}#{unit}:post{at}") for unit, at in ((4, ""), (7, "@2,1"), (4, ""))]
    assert [inline(one, card) for one in features] == features
    values = Objective(features, card, CPU)(activations)
    here = activations["conv"].double()
    expected = torch.zeros(N, T, dtype=torch.float64)
    for pair, unit in enumerate((4, 7, 4)):
        for crop in range(T):
            codes = []
            for y, x in [(2, 1)] if pair == 1 else [(y, x) for y in range(4) for x in range(6)]:
                pre = WEIGHTS.double() @ (here[pair * T + crop, :, y, x] - CENTER) + BIAS
                on = unit in pre.argsort(descending=True)[:3].tolist() and pre[unit] > 0
                codes.append(pre[unit] if on else pre[unit] * 0.0)
            expected[pair, crop] = sum(codes) / len(codes)
    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=1e-6)
    ours, theirs = (
        torch.autograd.grad(one[[0, 2]].sum(), activations["conv"], retain_graph=True)[0] for one in (values, expected)
    )
    torch.testing.assert_close(ours, theirs)
    assert ours.any()


def test_a_dictionary_of_another_width(card, tmp_path):
    path = sae(tmp_path, vectors=WEIGHTS[:, :4], center=None)
    with pytest.raises(InvalidFeatureError, match="4 units.*conv of fake has 5 units"):
        inline(parse_feature(f"encoder:conv:{path}#4:post"), card)
    with pytest.raises(InvalidFeatureError, match="4 values, conv of fake has 5 units"):
        card.resolve(inline(parse_feature(f"dictionary:{path}#4")))
    with pytest.raises(InvalidFeatureError, match="4 units, conv has 5 units"):
        Objective([parse_feature(f"encoder:conv:{path}#4:post")], card, CPU)


def test_an_entry_that_was_not_read(card):
    with pytest.raises(InvalidFeatureError, match="has to be read first"):
        Objective([Entry(dictionary="sae", unit=1)], card, CPU)


def test_notes():
    assert notes_of(parse_feature("logit:1 - channel:conv:2")) == ()
    (note,) = notes_of(encoder("conv", activation="topk", k=3) * Logit(unit=1) + encoder("conv", activation="topk"))
    assert "pre-code" in note
    assert "TopK" in note
    assert len(notes_of(encoder("conv", activation="relu") + encoder("conv", activation="topk"))) == 2
    for silent in (
        encoder("conv"),
        encoder("conv", activation="identity"),
        encoder("conv", activation="relu", code="post"),
    ):
        assert notes_of(silent) == ()
