"""Batch norms folded into convolutions: the same values, gradients and pictures, and nothing else folded."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from accentor.engine import Model, Pair, accentuate, accentuate_pairs
from accentor.errors import JobError, RequestError
from accentor.spec import Recipe, parse_feature

RECIPE = Recipe(steps=4, crops=2, size=48, regularization_layer="act", precision="float32")


class Net(nn.Module):
    """Convolutions with batch norms of every relation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.second, self.second_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6, affine=False)
        self.shared, self.shared_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.twice, self.twice_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, 5]."""
        x = self.act(self.first_norm(self.first(x)))
        x = x + self.second_norm(self.second(x))
        given = self.shared(x)
        x = torch.relu(self.shared_norm(given)) + 0.1 * given
        for _ in range(2):
            x = torch.tanh(self.twice_norm(self.twice(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def trained() -> nn.Module:
    """Return the network with batch norms that do something."""
    torch.manual_seed(0)
    net = Net()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.2, 2)  # type: ignore[union-attr]
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 2)
                nn.init.uniform_(layer.bias, -1, 1)
    return net.eval()


@pytest.fixture
def model() -> Model:
    """Return the network as a model."""
    return Model(trained(), input_size=32)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_what_a_batch_norm_alone_receives_is_folded(model: Model) -> None:
    folded = model.folded()
    assert folded.folded_layers == {"first", "second"}
    assert not isinstance(folded.module.get_submodule("first_norm"), nn.BatchNorm2d)
    assert isinstance(folded.module.get_submodule("shared_norm"), nn.BatchNorm2d)
    assert isinstance(folded.module.get_submodule("twice_norm"), nn.BatchNorm2d)


def test_all_other_layers_keep_their_values_and_gradients(model: Model) -> None:
    names = frozenset(layer.name for layer in model.card.layers) - model.folded().folded_layers | {""}
    found = []
    for one in (model, model.folded()):
        x = images().requires_grad_()
        with one.frozen():
            values = one.activations(x, names)
            found.append((values, torch.autograd.grad(values[""].square().sum(), x)[0]))
    (plain, gradient), (folded, other) = found
    assert names >= {"first_norm", "second_norm", "act", "shared", "shared_norm", "twice_norm", "head"}
    for name in names:
        torch.testing.assert_close(folded[name], plain[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-6)


def test_the_network_itself_is_not_changed(model: Model) -> None:
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.module.train()
    model.folded()
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert all(layer.training for layer in model.module.modules())
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.module.modules())


def test_a_copy_is_made_once_and_again_when_the_weights_change(model: Model) -> None:
    folded = model.folded()
    assert model.folded() is folded
    assert folded.cast(torch.bfloat16).folded_layers == folded.folded_layers
    with torch.no_grad():
        model.module.get_submodule("first").weight.zero_()  # type: ignore[union-attr, operator]
    again = model.folded()
    assert again is not folded
    name = frozenset({"first_norm"})
    torch.testing.assert_close(again.activations(images(), name), model.activations(images(), name))


def hooked(net: nn.Module) -> None:
    net.get_submodule("first").register_forward_hook(lambda _, __, output: output * 2)


def hooked_norm(net: nn.Module) -> None:
    net.get_submodule("first_norm").register_forward_pre_hook(lambda _, given: (given[0] * 2,))


def without_statistics(net: nn.Module) -> None:
    net.first_norm = nn.BatchNorm2d(6, track_running_stats=False)


def parametrized(net: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(net.get_submodule("first"))


def own_forward(net: nn.Module) -> None:
    layer = net.get_submodule("first")
    layer.forward = lambda x: 2 * nn.Conv2d.forward(layer, x)  # type: ignore[method-assign, arg-type]


@pytest.mark.parametrize("change", [hooked, hooked_norm, without_statistics, parametrized, own_forward])
def test_a_layer_that_does_more_than_its_kind_is_left(change: Callable[[nn.Module], None]) -> None:
    net = trained()
    change(net)
    model = Model(net, input_size=32)
    assert model.folded().folded_layers == {"second"}
    out = frozenset({""})
    torch.testing.assert_close(model.folded().activations(images(), out), model.activations(images(), out))


def test_what_is_compiled_is_left() -> None:
    net = trained()
    net.get_submodule("head").compile(backend="eager")
    assert not Model(net, input_size=32).folded().folded_layers


class Wrapped(nn.Module):
    """Gives what its convolution gives."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution's output."""
        return self.convolution(x)  # type: ignore[no-any-return]


def test_what_passes_on_a_folded_convolution_is_named(model: Model) -> None:
    net = trained()
    net.first = nn.Sequential(Wrapped(net.get_submodule("first")), nn.Identity())
    seen = Model(net, input_size=32).folded().folded_layers
    assert seen == {"first", "first.0", "first.0.convolution", "first.1", "second"}


class Peeping(Net):
    """Reads what its batch norm is made of."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, 5]."""
        return super().forward(x) + self.first_norm.running_mean.sum()  # type: ignore[union-attr, no-any-return]


def test_a_network_that_reads_its_batch_norm_is_not_folded() -> None:
    model = Model(Peeping().eval(), input_size=32)
    assert model.folded() is model
    assert accentuate(model, images()[0], "logit:1", RECIPE).after > -torch.inf


def test_without_batch_norms_there_is_no_copy(tiny: Model) -> None:
    assert tiny.folded() is tiny
    assert not tiny.folded_layers


def test_a_convolution_that_is_read_is_not_folded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    through = accentuate(model, images()[0], "channel:first:2", RECIPE)
    layer = RECIPE.model_copy(update={"regularization_layer": "second"})
    near = accentuate(model, images()[0], "logit:2", layer)
    monkeypatch.setattr(Model, "folded", lambda self: self)
    assert torch.equal(accentuate(model, images()[0], "channel:first:2", RECIPE).pixels, through.pixels)
    assert torch.equal(accentuate(model, images()[0], "logit:2", layer).pixels, near.pixels)


def test_pictures_are_the_same_up_to_rounding(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    folded = accentuate(model, images()[0], "logit:2", RECIPE)
    monkeypatch.setattr(Model, "folded", lambda self: self)
    plain = accentuate(model, images()[0], "logit:2", RECIPE)
    assert not torch.equal(folded.pixels, plain.pixels)
    torch.testing.assert_close(folded.pixels, plain.pixels, rtol=0, atol=1e-3)
    assert folded.before == plain.before


def test_pairs_do_not_change_one_another(model: Model) -> None:
    """Of one depth are a logit and an output of the last linear layer's; what reads a folded layer goes apart."""
    features = ["logit:2", "channel:first:1 + logit:2", "logit:3"]
    pairs = [Pair(images()[0], parse_feature(feature), 0) for feature in features]
    together = dict(accentuate_pairs(model, pairs, RECIPE, micro_batch=3))
    for index, pair in enumerate(pairs):
        (_, alone), one = *accentuate_pairs(model, [pair], RECIPE), together[index]
        assert not isinstance(alone, JobError | RequestError)
        assert not isinstance(one, JobError | RequestError)
        torch.testing.assert_close(one.pixels, alone.pixels, rtol=0, atol=1e-5)
