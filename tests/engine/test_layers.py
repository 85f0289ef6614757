"""Reading layers: the right values, no deeper than needed, and the network left as it was."""

import copy

import pytest
import torch
from torch import nn

from accentor.engine import Model, Pair, accentuate_pairs
from accentor.engine.layers import OUTPUT
from accentor.errors import InvalidFeatureError
from accentor.spec import Channel, Logit, Recipe

QUICK = Recipe(steps=2, crops=2, size=24, snapshots=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=2, size=32):
    return torch.rand(count, 3, size, size, generator=generator())


def model_of(module, **options):
    return Model(module, **{"input_size": 32, "mean": (0.0,) * 3, "std": (1.0,) * 3} | options)


def test_normalisation_and_values(tiny_net):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    model = Model(tiny_net, input_size=32, mean=mean, std=std)
    x = images()
    with torch.no_grad():
        found = model.activations(x, frozenset({"early", "late", OUTPUT}))
        normal = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        early = tiny_net.early(normal)
        assert torch.equal(found["early"], early)
        late = tiny_net.late(early.relu())
        assert torch.equal(found["late"], late)
        assert torch.equal(found[OUTPUT], tiny_net.head(late.tanh().mean(dim=(2, 3))))


def test_in_place_activation_right_behind_a_captured_layer(tiny, tiny_net):
    """What the layer gave is read, negative values and all; the activation behind it and the rest are unharmed."""
    x = images()
    found = tiny.activations(x, frozenset({"early", "act", OUTPUT}))
    assert (found["early"] < 0).any()
    assert torch.equal(found["act"], found["early"].relu())
    untouched = tiny_net((x - tiny._mean) / tiny._std)
    assert torch.equal(found[OUTPUT], untouched)


def test_gradient_through_an_in_place_activation(tiny_net):
    """The same as with an activation that is not in place."""
    plain = copy.deepcopy(tiny_net)
    plain.act = nn.ReLU()
    gradients = []
    for net in (tiny_net, plain):
        x = images().requires_grad_()
        found = model_of(net).activations(x, frozenset({"early", "act", OUTPUT}))
        value = found["early"].square().sum() + found["act"].sum() + found[OUTPUT].sum()
        gradients.append(torch.autograd.grad(value, x)[0])
    assert torch.equal(*gradients)


def test_containers_and_their_last_child():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), nn.ReLU(inplace=True), nn.Flatten())
    model = model_of(net, regularization_layer="0")
    found = model.activations(images(), frozenset({"0.0", "0", "0.1"}))
    assert torch.equal(found["0"], found["0.1"])
    assert torch.equal(found["0.1"], found["0.0"].relu())


class Twice(nn.Module):
    """One convolution used twice, with another between."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.between = nn.Tanh()
        self.after = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.after(self.shared(self.between(self.shared(x)))).mean(dim=(2, 3))


def test_a_shared_module_counts_by_its_last_run():
    net = Twice()
    model = model_of(net, regularization_layer="shared")
    assert [layer.name for layer in model.card.layers] == ["between", "shared", "after"]
    x = images()
    found = model.activations(x, frozenset({"shared", "between"}))
    first = net.shared(x)
    assert torch.equal(found["between"], first.tanh())
    assert torch.equal(found["shared"], net.shared(first.tanh()))


@pytest.mark.parametrize(
    ("names", "runs"),
    [({"early"}, [1, 0, 0]), ({"early", "late"}, [1, 1, 0]), ({"late"}, [1, 1, 0]), ({"head"}, [1, 1, 1])],
)
def test_runs_no_deeper_than_needed(tiny_net, names, runs):
    model = model_of(tiny_net)
    calls = dict.fromkeys(("early", "late", "head"), 0)

    def counting(name, forward):
        def counted(*arguments):
            calls[name] += 1
            return forward(*arguments)

        return counted

    for name in calls:
        layer = getattr(tiny_net, name)
        layer.forward = counting(name, layer.forward)
    model.activations(images(), frozenset(names))
    assert list(calls.values()) == runs


def test_shallow_features_never_reach_the_head(tiny_net):
    """In the whole loop, the clean measurements included."""
    model = model_of(tiny_net, regularization_layer="early")

    def forbidden(*_):
        raise AssertionError("the head ran")

    tiny_net.head.forward = forbidden
    ((_, ending),) = accentuate_pairs(model, [Pair(images()[0], Channel(layer="late", unit=1))], QUICK)
    assert ending.after > ending.before


def test_the_card_lists_layers_in_order(tiny):
    assert [(layer.name, layer.type, layer.shape) for layer in tiny.card.layers] == [
        ("early", "Conv2d", (6, 16, 16)),
        ("act", "ReLU", (6, 16, 16)),
        ("late", "Conv2d", (8, 8, 8)),
        ("head", "Linear", (4,)),
    ]
    assert tiny.card.outputs == 4
    assert tiny.depth(frozenset({"early"})) < tiny.depth(frozenset({"late", "early"})) < tiny.depth(frozenset({OUTPUT}))


class Tokens(nn.Module):
    """Patches as tokens through attention, whose own output is a tuple."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.norm(self.attention(tokens, tokens, tokens, need_weights=False)[0])


def test_tokens():
    model = model_of(Tokens(), regularization_layer="patches")
    shapes = {layer.name: layer.shape for layer in model.card.layers}
    assert shapes["norm"] == (16, 8)
    assert "attention" not in shapes
    assert model.card.outputs is None
    with pytest.raises(InvalidFeatureError, match="no logits"):
        model.card.resolve(Logit(unit=0))
    ((_, ending),) = accentuate_pairs(model, [Pair(images()[0], Channel(layer="norm", unit=7))], QUICK)
    assert ending.after > ending.before


class Sometimes(nn.Module):
    """Skips a layer for dark images; a blank image is bright enough."""

    def __init__(self):
        super().__init__()
        self.always = nn.Conv2d(3, 4, 3)
        self.rarely = nn.ReLU()

    def forward(self, x):
        y = self.always(x)
        return self.rarely(y) if x.mean() >= 0 else y


def test_a_layer_that_did_not_run():
    model = model_of(Sometimes(), regularization_layer="always")
    with pytest.raises(InvalidFeatureError, match="did not run its layers rarely"):
        model.activations(images() - 2.0, frozenset({"rarely"}))


# --- left as it was ----------------------------------------------------------------------------------------------


class Delicate(nn.Module):
    """Everything that could be disturbed: batch statistics, dropout, frozen parts, hooks of one's own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        self.fails = False

    def forward(self, x):
        if self.fails and torch.is_grad_enabled():
            raise RuntimeError("broken on purpose")
        return self.head(self.drop(self.norm(self.conv(x)).mean(dim=(2, 3))))


@pytest.fixture
def delicate():
    torch.manual_seed(0)
    net = Delicate()
    net.train()
    net.norm.eval()
    net.conv.weight.requires_grad_(requires_grad=False)
    net.head.weight.grad = torch.ones_like(net.head.weight)
    net.ran = []
    net.head.register_forward_hook(lambda *_: net.ran.append("hook"))
    net.register_forward_pre_hook(lambda *_: net.ran.append("pre"))
    return net


def state_of(net):
    return (
        {key: value.clone() for key, value in net.state_dict().items()},
        {
            name: (p.requires_grad, id(p), None if p.grad is None else p.grad.clone())
            for name, p in net.named_parameters()
        },
        {name: module.training for name, module in net.named_modules()},
        {
            name: [list(hooks) for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)]
            for name, module in net.named_modules()
        },
    )


def same_state(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    for name, (needed, identity, gradient) in before[1].items():
        assert after[1][name][:2] == (needed, identity)
        assert (gradient is None) == (after[1][name][2] is None)
        assert gradient is None or torch.equal(gradient, after[1][name][2])
    assert before[2:] == after[2:]


PAIRS = [Pair(images()[0], Logit(unit=1)), Pair(images()[1], Channel(layer="conv", unit=0))]


def test_the_network_is_untouched(delicate):
    before = state_of(delicate)
    model = model_of(delicate, regularization_layer="conv")
    same_state(before, state_of(delicate))
    delicate.ran.clear()
    endings = [ending for _, ending in accentuate_pairs(model, PAIRS, QUICK, micro_batch=2)]
    assert all(ending.after > ending.before for ending in endings)
    same_state(before, state_of(delicate))
    assert {"hook", "pre"} <= set(delicate.ran), "the caller's own hooks went on running"


def test_dropout_and_batch_statistics_are_off(delicate):
    model = model_of(delicate, regularization_layer="conv")
    one, again = (next(accentuate_pairs(model, PAIRS[:1], QUICK))[1] for _ in range(2))
    assert torch.equal(one.pixels, again.pixels)


def test_the_network_is_untouched_after_an_error_in_it(delicate):
    model = model_of(delicate, regularization_layer="conv")
    before = state_of(delicate)
    delicate.fails = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        list(accentuate_pairs(model, PAIRS, QUICK))
    same_state(before, state_of(delicate))


def test_the_network_is_untouched_when_the_caller_stops(delicate):
    model = model_of(delicate, regularization_layer="conv")
    before = state_of(delicate)

    def stop(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(accentuate_pairs(model, PAIRS, QUICK, on_step=stop))
    same_state(before, state_of(delicate))
    steps = accentuate_pairs(model, PAIRS, QUICK)
    next(steps)
    same_state(before, state_of(delicate))
    steps.close()
    same_state(before, state_of(delicate))
