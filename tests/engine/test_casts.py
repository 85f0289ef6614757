"""Copies of a model in another type, and the memory layout of images."""

import copy

import pytest
import torch
from torch import nn

from accentor.engine import Model, accentuate
from accentor.engine.layers import INPUT, OUTPUT
from accentor.errors import InvalidRecipeError
from accentor.spec import Recipe

LAYERS = frozenset({"early", "act.input", "late", OUTPUT})


def images(count=2):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_same_values_to_the_types_precision(tiny, tiny_net):
    before = copy.deepcopy(tiny_net.state_dict())
    twin = tiny.cast(torch.bfloat16)
    assert twin.card is tiny.card
    exact, cast = (model.activations(images(), LAYERS) for model in (tiny, twin))
    for name in LAYERS:
        assert cast[name].dtype == torch.bfloat16
        torch.testing.assert_close(cast[name].float(), exact[name], atol=0.02, rtol=0.02)
    assert cast["late"].is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[key]) for key, value in tiny_net.state_dict().items())
    assert next(tiny_net.parameters()).dtype == torch.float32


def test_images_are_normalised_before_they_are_cast():
    """bfloat16 has 8 bits: near 1 the differences of an image are lost in it, near 0 they are not."""
    model = Model(nn.Sequential(nn.Identity(), nn.Conv2d(1, 1, 1)), input_size=8, mean=(1.0,), std=(0.01,))
    x = 1 + torch.linspace(-1e-3, 0, 64).view(1, 1, 8, 8)
    seen = model.cast(torch.bfloat16).activations(x, frozenset({"0", INPUT}))
    assert torch.equal(seen[INPUT], x)
    assert torch.equal(seen["0"], ((x - 1) / torch.tensor(0.01)).bfloat16())
    assert seen["0"].unique().numel() == 64


def test_gradients_reach_the_float32_images(tiny):
    twin = tiny.cast(torch.bfloat16)
    slopes = []
    for model in (tiny, twin):
        x = images().requires_grad_()
        (slope,) = torch.autograd.grad(model.activations(x, LAYERS)[OUTPUT].float().sum(), x)
        assert slope.dtype == torch.float32
        slopes.append(slope.flatten())
    assert nn.functional.cosine_similarity(*slopes, dim=0) > 0.999


def test_made_once_and_again_when_the_weights_change(tiny, tiny_net):
    twin = tiny.cast(torch.bfloat16)
    assert tiny.cast(torch.bfloat16) is twin
    assert tiny.cast(torch.float32) is tiny
    assert twin.cast(torch.bfloat16) is twin
    with torch.no_grad():
        tiny_net.head.bias += 1.0
    changed = tiny.cast(torch.bfloat16)
    assert changed is not twin
    difference = changed.activations(images(), LAYERS)[OUTPUT] - twin.activations(images(), LAYERS)[OUTPUT]
    torch.testing.assert_close(difference.float(), torch.ones(2, 4), atol=0.02, rtol=0)


def test_a_copy_has_the_hooks_that_the_network_has_now(tiny, tiny_net):
    plain = tiny.cast(torch.bfloat16)
    hook = tiny_net.late.register_forward_hook(lambda module, given, found: found * 0)
    assert not tiny.cast(torch.bfloat16).activations(images(), LAYERS)["late"].any()
    hook.remove()
    after = tiny.cast(torch.bfloat16)
    assert torch.equal(after.activations(images(), LAYERS)["late"], plain.activations(images(), LAYERS)["late"])


def test_a_copy_has_the_numbers_that_the_network_has_now():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model = Model(network, input_size=8)
    before = model.cast(torch.bfloat16)
    network[1].running_mean += 1.0
    moved = model.cast(torch.bfloat16)
    assert moved is not before
    network[0].weight.data = torch.zeros(4, 3, 3, 3)
    assert model.cast(torch.bfloat16) is not moved


def test_the_copy_is_frozen_whatever_the_original(tiny_net):
    tiny_net.train()
    twin = Model(tiny_net, input_size=32).cast(torch.bfloat16)
    assert not twin.module.training
    assert not any(parameter.requires_grad for parameter in twin.module.parameters())
    assert tiny_net.training
    assert all(parameter.requires_grad for parameter in tiny_net.parameters())


def test_a_double_precision_network(tiny_net):
    model = Model(tiny_net.double(), input_size=32)
    assert model.activations(images(), frozenset({OUTPUT}))[OUTPUT].dtype == torch.float64


class FloatOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).flatten(1) @ torch.ones(4 * 36, 2)


def test_a_network_that_does_not_run_in_it():
    model = Model(FloatOnly(), input_size=8, name="picky")
    with pytest.raises(InvalidRecipeError, match="picky does not run in bfloat16"):
        model.cast(torch.bfloat16)


class Viewing(nn.Module):
    """Maps that lie channels last cannot be viewed as one row."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 36, 2)

    def row(self, maps):
        return maps.view(len(maps), -1)

    def forward(self, x):
        return self.head(self.row(self.conv(x)))


class Reshaping(Viewing):
    def row(self, maps):
        return maps.reshape(len(maps), -1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_that_views_its_maps(precision):
    torch.manual_seed(0)
    viewing, reshaping = Viewing(), Reshaping()
    reshaping.load_state_dict(viewing.state_dict())
    x, recipe = torch.rand(3, 8, 8), Recipe(steps=2, crops=2, precision=precision)
    found, wanted = (accentuate(Model(one, input_size=8), x, "logit:1", recipe) for one in (viewing, reshaping))
    assert found.precision == precision
    assert (found.before, found.after) == pytest.approx((wanted.before, wanted.after), rel=1e-3)
    assert found.after > found.before


def test_images_lie_channels_last_where_the_network_takes_it(tiny):
    assert tiny.activations(images(), LAYERS)["late"].is_contiguous(memory_format=torch.channels_last)
