"""Gradients of convolutions by images: those of PyTorch, whatever stride, padding and size, and nothing else."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradgradcheck
from torch.nn import functional

from accentor.engine import Model, Pair, accentuate_pairs, stems
from accentor.engine.stems import image_gradient, stemmed
from accentor.spec import parse_feature, resolve_recipe


@pytest.mark.parametrize("size", [(16, 16), (17, 22), (23, 13)])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (7, 7), (4, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_the_gradient_is_autograds(size, kernel, stride):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, *kernel, generator=generator, dtype=torch.float64)
    for padding in ((0, 0), (1, 1), (3, 0), (6, 9)):
        output = torch.conv2d(images, weight, None, stride, padding)
        gradient = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        (expected,) = torch.autograd.grad(output, images, gradient)
        found = image_gradient(gradient, weight, size, stride, padding)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_it_can_be_differentiated_again():
    images = torch.rand(1, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = weights(2, 3, 3, 3).double()
    with stemmed():
        assert gradgradcheck(lambda x: torch.conv2d(x, weight, None, 2, 1).tanh(), images)


def weights(*shape: int, wanted: bool = False) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_(wanted)


def autocast(function):
    with torch.autocast("cpu", torch.bfloat16):
        return function()


OURS = {
    "a layer": lambda x: nn.Conv2d(3, 8, 3, stride=2).requires_grad_(requires_grad=False)(x),
    "reflections": lambda x: functional.conv2d(functional.pad(x, (1, 1, 1, 1), "reflect"), weights(8, 3, 3, 3)),
    "a function": lambda x: functional.conv2d(x, weights(8, 3, 7, 7), weights(8), stride=2, padding=3),
    "by keywords": lambda x: functional.conv2d(input=x, weight=weights(8, 3, 4, 4), stride=(4,), padding=[1, 2]),
    "lists of one": lambda x: torch.conv2d(x, weights(8, 3, 2, 2), stride=[2], padding=0),
    "four channels": lambda x: functional.conv2d(torch.cat([x, x[:, :1]], dim=1), weights(8, 4, 3, 3)),
    "one channel": lambda x: functional.conv2d(x[:, 1:2], weights(8, 1, 3, 3)),
    "overwritten": lambda x: functional.conv2d(x, weights(8, 3, 3, 3), stride=2).relu_(),
}
OTHERS = {
    "same padding": lambda x: functional.conv2d(x, weights(8, 3, 3, 3), padding="same"),
    "dilation": lambda x: functional.conv2d(x, weights(8, 3, 3, 3), dilation=2),
    "groups": lambda x: functional.conv2d(x, weights(6, 1, 3, 3), groups=3),
    "two strides": lambda x: functional.conv2d(x, weights(8, 3, 3, 3), stride=(1, 2)),
    "weights that learn": lambda x: functional.conv2d(x, weights(8, 3, 3, 3, wanted=True)),
    "a bias that learns": lambda x: functional.conv2d(x, weights(8, 3, 3, 3), weights(8, wanted=True)),
    "five channels": lambda x: functional.conv2d(torch.cat([x, x[:, :2]], dim=1), weights(8, 5, 3, 3)),
    "complex numbers": lambda x: functional.conv2d(x * 1j, weights(8, 3, 3, 3) * (1 + 2j)).abs(),
    "autocast": lambda x: autocast(lambda: functional.conv2d(x, weights(8, 3, 3, 3))).float(),
    "one image without a batch": lambda x: functional.conv2d(x[0, :, :4], weights(8, 3, 3, 3)),
    "no gradient": lambda x: functional.conv2d(x.detach(), weights(8, 3, 3, 3)) + x.sum(),
}


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_which_convolutions_pass_it(monkeypatch, name):
    calls = []
    monkeypatch.setattr(stems, "image_gradient", lambda *given: calls.append(given) or image_gradient(*given))
    images = torch.randn(2, 3, 16, 18, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def result(*, wanted: bool) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        with stemmed(wanted=wanted):
            output = (OURS | OTHERS)[name](images)
        (gradient,) = torch.autograd.grad((output * torch.linspace(-1, 1, output.shape[-1])).sum(), images)
        return output.detach(), gradient

    values, gradient = result(wanted=False)
    assert calls == []
    found, passed = result(wanted=True)
    assert len(calls) == (name in OURS)
    assert torch.equal(found, values)
    torch.testing.assert_close(passed, gradient)


class Small(nn.Module):
    """Its first layer is of an odd stride, its second is no stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.second = nn.Conv2d(3, 12, 5, stride=3, padding=2), nn.Conv2d(12, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.stem(x).relu()).mean(dim=(2, 3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_pass_it_and_give_the_same_pictures(monkeypatch, precision):
    torch.manual_seed(0)
    model = Model(Small(), input_size=32)
    settings = {"steps": 6, "precision": precision, "regularization_layer": "stem", "size": 48}
    seed = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(1))
    pair = Pair(seed, parse_feature("channel:second:2"))

    def picture() -> Tensor:
        (_, ending), *_ = accentuate_pairs(model, [pair], resolve_recipe(settings))
        return ending.pixels

    calls = []
    monkeypatch.setattr(stems, "image_gradient", lambda *given: calls.append(given) or image_gradient(*given))
    ours = picture()
    assert len(calls) >= 6
    monkeypatch.setattr("accentor.engine.models.model.stemmed", lambda **_: stemmed(wanted=False))
    calls.clear()
    plain = picture()
    assert calls == []
    assert (ours - seed).abs().mean() > 20 * (ours - plain).abs().mean()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_of_it_is_in_a_network_that_is_compiled(monkeypatch, wrapped):
    net = Small().requires_grad_(requires_grad=False)
    images, out = torch.rand(2, 3, 32, 32, requires_grad=True), frozenset({""})
    expected = torch.autograd.grad(Model(net, input_size=32).activations(images, out)[""].sum(), images)
    if wrapped:
        net.stem = torch.compile(net.stem, backend="eager")
    else:
        net.stem.compile(backend="eager")
    monkeypatch.setattr(stems, "image_gradient", None)
    found = torch.autograd.grad(Model(net, input_size=32).activations(images, out)[""].sum(), images)
    torch.testing.assert_close(found, expected)


def test_it_is_not_looked_for_where_there_is_no_gradient(monkeypatch):
    """Any function mode keeps PyTorch from its fast paths, such as that of attention."""
    looked = []
    monkeypatch.setattr(
        "accentor.engine.models.model.stemmed", lambda *, wanted: looked.append(wanted) or stemmed(wanted=wanted)
    )
    model, images, out = Model(Small(), input_size=32), torch.rand(2, 3, 32, 32), frozenset({""})
    looked.clear()
    model.activations(images, out)
    model.activations(images.requires_grad_(), out)
    with torch.no_grad():
        model.activations(images, out)
    assert looked == [False, True, False]
