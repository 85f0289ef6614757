"""ReLUs on bits: the values and gradients of PyTorch, bit for bit, whatever the call, layout or graph."""

import pytest
import torch
from tests.engine.test_redirection import FORMS
from torch import Tensor, nn

from accentor.engine import Model, Pair, accentuate_pairs
from accentor.engine.rectification import rectified
from accentor.spec import parse_feature, resolve_recipe

BF16 = torch.bfloat16


def inputs() -> Tensor:
    """Return [4, 6, 5, 5] with both zeros, infinities and the smallest numbers, channels last."""
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0)).to(BF16)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e-40, -1e-40], dtype=BF16)
    x[0, 0].view(-1)[: len(special)] = special
    return x.contiguous(memory_format=torch.channels_last)


def results(function, *, wanted: bool, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    with rectified(wanted=wanted):
        y = function(leaf * 1.0)
    y.backward(torch.linspace(-1, 1, y.numel()).to(BF16).view(y.shape))
    return y.detach(), leaf.grad


def same(one: Tensor, other: Tensor) -> bool:
    return one.stride() == other.stride() and torch.equal(one.view(torch.int16), other.view(torch.int16))


def in_a_view(x: Tensor) -> Tensor:
    x[:, 1:3].relu_()
    return x * 2


@pytest.mark.parametrize("function", [*FORMS.values(), in_a_view], ids=[*FORMS, "in a view"])
def test_values_and_gradients(function):
    for x in (inputs(), inputs().contiguous(), inputs()[:, ::2]):
        plain, ours = (results(function, wanted=wanted, x=x) for wanted in (False, True))
        assert (ours[0].relu() + 0.0).isfinite().any()
        for one, other in zip(plain, ours, strict=True):
            assert same(one + 0.0, other + 0.0)
        with torch.no_grad():
            left, right = x.clone(), x.clone()
            expected = function(left)
            with rectified():
                found = function(right)
            assert same(expected + 0.0, found + 0.0)
            assert (found is right) == (expected is left)


def test_nan_becomes_zero_or_stays():
    bits = torch.tensor([0x7FC0, 0x7F81, -1, -64, -127], dtype=torch.int16)
    with rectified():
        found = bits.view(BF16).relu()
    assert found.isnan().tolist() == [True, True, False, False, False]
    assert found[2:].tolist() == [0.0, 0.0, 0.0]


def test_that_bits_are_what_is_compared(monkeypatch):
    """And of bfloat16 alone."""
    calls = []
    bits = torch.Tensor.view
    monkeypatch.setattr("accentor.engine.rectification._bits", lambda x: calls.append(x) or bits(x, torch.int16))
    with rectified():
        torch.randn(3).relu()
        assert calls == []
        torch.randn(3).to(BF16).relu()
        assert len(calls) == 1


class Spoiling(nn.Module):
    """Has layers that are overwritten by a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.relu(self.first(x))).relu_().mean(dim=(2, 3))


@pytest.mark.parametrize("feature", ["channel:first:2", "channel:relu:2", "channel:second:1", "channel:relu.input:1"])
def test_pictures_are_the_same_bit_for_bit(monkeypatch, feature):
    torch.manual_seed(0)
    model = Model(Spoiling(), input_size=24)
    recipe = resolve_recipe({"steps": 6, "precision": "bfloat16", "regularization_layer": "first", "size": 40})
    pair = Pair(torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1)), parse_feature(feature))

    def picture() -> Tensor:
        (_, ending), *_ = accentuate_pairs(model, [pair], recipe)
        return torch.cat([ending.pixels.flatten(), ending.opacity.flatten()])

    ours = picture()
    used = []
    monkeypatch.setattr(
        "accentor.engine.models.model.rectified", lambda *, wanted: used.append(wanted) or rectified(wanted=False)
    )
    assert torch.equal(ours, picture())
    assert True in used
