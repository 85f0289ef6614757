"""Redirected ReLU: values as ever, and gradients by the rule, for whole samples that are shut."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from accentor.engine import Model
from accentor.engine.optimize import Measured, _Pull
from accentor.engine.redirection import redirected
from accentor.spec import Recipe

NAN = float("nan")
X = torch.tensor([[-2.0, -1.0, 0.0, 3.0], [-2.0, -1.0, 0.0, -3.0], [7.0, 8.0, -1.0, 6.0], [7.0, 2.0, -1.0, 5.0]])
G = torch.tensor([[1.0, -1.0, 2.0, 3.0], [1.0, -1.0, 2.0, -3.0], [1.0, -1.0, 2.0, -4.0], [1.0, 0.0, 2.0, -3.0]])
RELU = torch.tensor([[0.0, 0.0, 0.0, 3.0], [1.0, 0.0, 2.0, 0.0], [1.0, -1.0, 0.0, -4.0], [1.0, 0.0, 0.0, -3.0]])
RELU6 = torch.tensor([[0.0, 0.0, 0.0, 3.0], [1.0, 0.0, 2.0, 0.0], [0.0, -1.0, 2.0, -4.0], [0.0, 0.0, 0.0, -3.0]])


def gradient(function, x=X, g=G, **options):
    leaf = x.clone().requires_grad_()
    with redirected(**options):
        y = function(leaf * 1.0)
    y.backward(g)
    return y.detach(), leaf.grad


FORMS = {
    "functional": functional.relu,
    "in place": lambda x: functional.relu(x, inplace=True),
    "torch": torch.relu,
    "torch_": torch.relu_,
    "method": lambda x: x.relu(),
    "method_": lambda x: x.relu_(),
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "keyword": lambda x: functional.relu(input=x),
}
FORMS6 = {
    "functional": functional.relu6,
    "in place": lambda x: functional.relu6(x, inplace=True),
    "hardtanh": lambda x: functional.hardtanh(x, 0.0, 6.0),
    "hardtanh_": lambda x: functional.hardtanh_(x, 0.0, 6.0),
    "module": nn.ReLU6(),
    "module in place": nn.ReLU6(inplace=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_relu(form):
    value, slope = gradient(FORMS[form])
    assert torch.equal(value, X.relu())
    assert torch.equal(slope, RELU)


@pytest.mark.parametrize("form", FORMS6)
def test_relu6(form):
    value, slope = gradient(FORMS6[form])
    assert torch.equal(value, X.clamp(0, 6))
    assert torch.equal(slope, RELU6)


def test_off_by_default_and_afterwards():
    for form in (functional.relu, nn.ReLU(inplace=True)):
        assert torch.equal(gradient(form, wanted=False)[1], G * (X > 0))
        with redirected():
            pass
        assert torch.equal(gradient(form, wanted=False)[1], G * (X > 0))


@pytest.mark.parametrize("other", [functional.hardtanh, torch.sigmoid, nn.Hardtanh(-2.0, 6.0), nn.LeakyReLU(0.1)])
def test_others_keep_their_gradient(other):
    assert torch.equal(gradient(other)[1], gradient(other, wanted=False)[1])


def test_gradient_that_is_zero_already_stays_zero():
    assert torch.equal(gradient(functional.relu, g=torch.zeros_like(G))[1], torch.zeros_like(G))


def test_nan_is_not_hidden():
    value, _ = gradient(functional.relu, x=X.clone().fill_(NAN))
    assert value.isnan().all()


def test_the_seed_pulls_alike_where_its_pull_is_taken_apart():
    """In the steps that the opacity map is made of, and in the others."""
    x = torch.full((1, 1, 1, 3), -1.0, requires_grad=True)

    def measured(*, shows):
        with redirected():
            here = functional.relu(x.flatten(1))
        value = x.flatten(1).sum(dim=1, keepdim=True)
        distance = (here - torch.tensor([[1.0, 1.0, -1.0]])).square().sum(dim=1, keepdim=True)
        return Measured(value, distance, value if shows else None)

    pull = _Pull(Recipe(opacity_every=2), SimpleNamespace(exact=False), torch.ones(1))
    assert [pull.shows(step) for step in range(3)] == [True, False, True]
    apart, shown = pull.ascent(measured(shows=True), x, x, 0)
    whole, _ = pull.ascent(measured(shows=False), x, x, 1)
    assert torch.equal(shown, torch.ones_like(x))
    assert apart.flatten().tolist() == whole.flatten().tolist() == [3.0, 3.0, 1.0]


class Dead(nn.Module):
    """A unit whose ReLU is off on every dark image, seen through a second one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.late = nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.conv.bias.fill_(-1.5)
            self.late.bias.fill_(-0.1)

    def forward(self, x):
        return functional.relu(self.late(self.act(self.conv(x)))).mean(dim=(2, 3))


def test_a_dead_feature_comes_alive():
    net = Dead()
    model = Model(net, input_size=8, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")
    layer = frozenset({"act"})

    def climb(**options):
        x = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
        for _ in range(60):
            value = model.activations(x, layer, **options)["act"][:, 2].mean()
            (slope,) = torch.autograd.grad(value, x)
            x = (x + 0.1 * slope.sign()).clamp(0, 4).detach().requires_grad_()
        return value.item()

    assert climb() == 0.0
    assert climb(redirect=True) > 0.05


def test_other_samples_of_the_batch_do_not_matter():
    net = Dead()
    model = Model(net, input_size=8, regularization_layer="conv")
    batch = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 4
    batch[1] = 0.0

    def slope(images):
        x = images.clone().requires_grad_()
        return torch.autograd.grad(model.activations(x, frozenset({""}), redirect=True)[""][:, 1].sum(), x)[0]

    alone = torch.cat([slope(batch[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(slope(batch), alone)


def test_the_network_is_untouched():
    net = Dead()
    model = Model(net, input_size=8, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")
    types = [type(part) for part in net.modules()]
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    value = model.activations(x, frozenset({"act"}), redirect=True)["act"]
    value.sum().backward()
    assert x.grad.abs().sum() > 0
    assert [type(part) for part in net.modules()] == types
    x.grad = None
    model.activations(x, frozenset({"act"}))["act"].sum().backward()
    assert x.grad.abs().sum() == 0
