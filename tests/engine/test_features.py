"""The objective, each kind of feature by hand on each kind of layer; and vectors read from files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from accentor.engine.features import Objective, inline
from accentor.errors import InvalidFeatureError
from accentor.spec import Channel, Direction, LayerInfo, Logit, ModelCard, Neuron, Sum, parse_feature

N, T = 3, 2
SHAPES = {"conv": (5, 4, 6), "tokens": (7, 5), "vector": (5,), "": (9,)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def card() -> ModelCard:
    layers = tuple(LayerInfo(name=name, type="X", shape=shape) for name, shape in SHAPES.items() if name)
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


def by_hand(text_or_feature, activations, pair, crop):
    """One feature of one crop of one pair, written out with loops over nothing but positions."""
    feature = parse_feature(text_or_feature) if isinstance(text_or_feature, str) else text_or_feature
    if isinstance(feature, Sum):
        return sum(term.weight * by_hand(term.feature, activations, pair, crop) for term in feature.terms)
    row = pair * T + crop
    if isinstance(feature, Logit):
        return activations[""][row, feature.unit].item()
    here = activations[feature.layer][row]
    positions = [here[:, y, x] for y in range(4) for x in range(6)] if feature.layer == "conv" else here.view(-1, 5)
    if isinstance(feature, Neuron):
        y, x = feature.position or (2, 3)
        return here[feature.unit, y, x].item()
    if isinstance(feature, Channel):
        return sum(position[feature.unit].item() for position in positions) / len(positions)
    vector = torch.tensor(feature.vector)
    return sum((position @ vector).item() for position in positions) / len(positions)


def direction(layer):
    return Direction(layer=layer, vector=(0.5, -1.0, 0.0, 2.0, 0.25))


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
]


@pytest.mark.parametrize("feature", FEATURES, ids=str)
def test_values(card, activations, feature):
    parsed = parse_feature(feature) if isinstance(feature, str) else feature
    values = Objective([parsed] * N, card, CPU)(activations)
    assert values.shape == (N, T)
    for pair in range(N):
        for crop in range(T):
            expected = by_hand(feature, activations, pair, crop)
            assert values[pair, crop].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_pairs_of_different_features(card, activations):
    chosen = [FEATURES[13], FEATURES[8], FEATURES[6]]
    parsed = [parse_feature(one) if isinstance(one, str) else one for one in chosen]
    objective = Objective(parsed, card, CPU)
    assert objective.layers == {"", "conv", "tokens"}
    values = objective(activations)
    for pair, feature in enumerate(chosen):
        for crop in range(T):
            assert values[pair, crop].item() == pytest.approx(by_hand(feature, activations, pair, crop), abs=1e-5)


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
