"""Reading layers: the right values, no deeper than needed, and the network left as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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
        torch.testing.assert_close(found["early"], early)
        late = tiny_net.late(early.relu())
        torch.testing.assert_close(found["late"], late)
        torch.testing.assert_close(found[OUTPUT], tiny_net.head(late.tanh().mean(dim=(2, 3))))


def test_in_place_activation_right_behind_a_captured_layer(tiny, tiny_net):
    """What the layer gave is read, negative values and all; the activation behind it and the rest are unharmed."""
    x = images()
    found = tiny.activations(x, frozenset({"early", "act", OUTPUT}))
    assert (found["early"] < 0).any()
    assert torch.equal(found["act"], found["early"].relu())
    untouched = tiny_net((x - tiny._mean) / tiny._std)
    torch.testing.assert_close(found[OUTPUT], untouched)


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
    assert [layer.name for layer in model.card.layers] == ["between.input", "between", "shared", "after"]
    x = images()
    found = model.activations(x, frozenset({"shared", "between", "between.input"}))
    first = net.shared(x)
    assert torch.equal(found["between.input"], first)
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
    recipe = QUICK.model_copy(update={"precision": "float32"})
    ((_, ending),) = accentuate_pairs(model, [Pair(images()[0], Channel(layer="late", unit=1))], recipe)
    assert ending.after > ending.before


def test_the_card_lists_layers_in_order(tiny):
    assert [(layer.name, layer.type, layer.shape) for layer in tiny.card.layers] == [
        ("early", "Conv2d", (6, 16, 16)),
        ("act.input", "ReLU input", (6, 16, 16)),
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


# --- captured as it was, at no cost ------------------------------------------------------------------------------


class Copies(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.made += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))


def copies_made(model, names):
    """Return how many tensors are copied in one pass that captures these layers."""
    with Copies() as copies:
        model.activations(images().requires_grad_(), frozenset(names))
    return copies.made


def test_only_what_is_overwritten_is_copied(tiny):
    laid_out = copies_made(tiny, {OUTPUT})
    assert laid_out <= 1, "the images, for the network"
    assert copies_made(tiny, {"act", "late", OUTPUT}) == laid_out
    assert copies_made(tiny, {"early"}) == laid_out, "nothing runs behind the last one"
    assert copies_made(tiny, {"early", OUTPUT}) == laid_out + 1
    assert copies_made(tiny, {"act.input", OUTPUT}) == laid_out + 1


class Residual(nn.Module):
    """Changes a layer's output in place by functions, seen by no hook; the second time only for bright images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)
        self.in_place = True

    def forward(self, x):
        x = self.stem(x)
        y = self.conv(x)
        if self.in_place and x.device.type == "cpu":
            if x.isfinite().all() and x[0, 0, 0, 0] != self.stem.bias[0]:
                y += x
                y.relu_()
        else:
            y = (y + x).relu()
        return self.head(y.mean(dim=(2, 3)))


@pytest.mark.parametrize("graded", [True, False])
def test_changes_in_place_that_the_trace_did_not_see(graded):
    """The blank images of the trace do not reach them: the first pass shows them and is run again."""
    net, plain = Residual(), Residual()
    plain.in_place = False
    model, other = (model_of(one, regularization_layer="stem") for one in (net, plain))
    names = frozenset({"conv", "stem", OUTPUT})
    assert not model._trace.overwritten
    for _ in range(2):
        found = []
        for one in (model, other):
            x = images().requires_grad_(graded)
            captured = one.activations(x, names)
            weights = torch.rand(captured["conv"].shape, generator=generator(3))
            value = (captured["conv"] * weights).sum() + captured["stem"].square().sum() + captured[OUTPUT].sum()
            slopes = torch.autograd.grad(value, [x, captured["stem"], captured["conv"]]) if graded else ()
            found.append([*(captured[name] for name in sorted(names)), *slopes])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs)
        assert model._trace.overwritten == {"conv"}


ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU, nn.LeakyReLU, nn.Mish, nn.Sigmoid, nn.Tanh]


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


@pytest.mark.parametrize("kind", [*ACTIVATIONS, QuickGELU])
@pytest.mark.parametrize("in_place", [False, True])
def test_what_an_activation_receives(kind, in_place):
    try:
        activation = kind(inplace=True) if in_place else kind()
    except TypeError:
        pytest.skip("it is never in place")
    torch.manual_seed(0)
    conv, head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
    net = nn.Sequential(conv, activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    model = model_of(net, regularization_layer="0")
    assert model.card.layer("1.input").shape == (4, 30, 30)
    assert model.card.layer("1.input").type == f"{kind.__name__} input"
    x = images().requires_grad_()
    found = model.activations(x, frozenset({"1.input", "1", OUTPUT}))
    received = conv(x)
    assert torch.equal(found["1.input"], received)
    again = kind()(received)
    torch.testing.assert_close(found["1"], again)
    value = head(again.mean(dim=(2, 3)))
    torch.testing.assert_close(found[OUTPUT], value)
    ours = torch.autograd.grad(found[OUTPUT].sum(), [found["1.input"], x])
    theirs = torch.autograd.grad(value.sum(), [received, x])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_what_an_activation_receives_ends_the_pass(tiny, tiny_net):
    def forbidden(*_):
        raise AssertionError("it ran")

    expected = tiny_net.early((images() - tiny._mean) / tiny._std)
    tiny_net.act.forward = forbidden
    assert torch.equal(tiny.activations(images(), frozenset({"act.input"}))["act.input"], expected)
    assert tiny.depth(frozenset({"early"})) < tiny.depth(frozenset({"act.input"})) < tiny.depth(frozenset({"act"}))


class Last(nn.Module):
    """Maps with their channels last, on a grid of rows and columns that differ, changed in place behind."""

    def __init__(self, *, in_place=True):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 8, stride=8)
        self.norm = nn.LayerNorm(6)
        self.act = nn.ReLU(inplace=in_place)
        self.mix = nn.Linear(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.norm(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.mix(self.act(x)).mean(dim=(1, 2)))


@pytest.mark.parametrize("in_place", [False, True])
def test_channels_last_maps_come_with_channels_first(in_place):
    net = Last(in_place=in_place)
    model = model_of(net, regularization_layer="patches")
    infos = {name: model.card.layer(name) for name in ("patches", "norm", "act.input", "act", "mix")}
    assert {name: (one.shape, one.layout, one.channels_last) for name, one in infos.items()} == {
        "patches": ((6, 4, 4), "CHW", False),
        "norm": ((6, 4, 4), "CHW", True),
        "act.input": ((6, 4, 4), "CHW", True),
        "act": ((6, 4, 4), "CHW", True),
        "mix": ((5, 4, 4), "CHW", True),
    }
    x = images().requires_grad_()
    found = model.activations(x, frozenset({"norm", "act.input", "mix", OUTPUT}))
    received = net.norm(net.patches(x).permute(0, 2, 3, 1))
    mixed = net.mix(received.relu())
    value = net.head(mixed.mean(dim=(1, 2)))
    torch.testing.assert_close(found["norm"], received.permute(0, 3, 1, 2))
    torch.testing.assert_close(found["act.input"], received.permute(0, 3, 1, 2))
    torch.testing.assert_close(found["mix"], mixed.permute(0, 3, 1, 2))
    torch.testing.assert_close(found[OUTPUT], value)
    ours = torch.autograd.grad(found[OUTPUT].square().sum(), [found["mix"], found["act.input"], found["norm"], x])
    last = torch.autograd.grad(value.square().sum(), [mixed, received, x])
    first = [one.permute(0, 3, 1, 2) for one in (last[0], last[1], last[1])]
    for one, other in zip(ours, [*first, last[2]], strict=True):
        torch.testing.assert_close(one, other)


def test_many_calls_leave_no_hooks(tiny, tiny_net):
    before = state_of(tiny_net)
    x = images(1)
    with tiny.frozen(), torch.no_grad():
        for _ in range(1000):
            tiny.activations(x, frozenset({"early", "act.input"}), redirect=True)
    same_state(before, state_of(tiny_net))


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
            name: [list(hooks) for key, hooks in sorted(vars(module).items()) if "hooks" in key and hooks is not None]
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
