"""No step waits for the device: what the host reads of it does not grow with the steps; pairs still end early."""

import math

import pytest
import torch
from torch import is_tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from accentor.engine import Pair, accentuate, accentuate_pairs
from accentor.engine.stopping import Frame, Stops
from accentor.spec import Recipe, parse_feature

RECIPE = Recipe(
    steps=4, crops=2, size=40, snapshots=1, precision="float32", noise_std=0.02, noise_range=0.01, opacity_every=1
)
READS = {
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.numpy,
    torch.Tensor.cpu,
    torch.Tensor.__bool__,
    torch.Tensor.__int__,
    torch.Tensor.__float__,
    torch.Tensor.__index__,
    torch.Tensor.__array__,
}
WAITING_OPS = {
    "aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.unique", "aten.lift_fresh",
}  # fmt: skip
"""The last is a tensor made of the host's numbers: it has to be copied to the device."""


class Reads(TorchFunctionMode):
    """Counts what would make the host wait for a device: methods of tensors, and operations below them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in READS
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func.overloadpacket)
        masked = name.startswith("aten.index") and any(
            one.dtype == torch.bool for one in tree_leaves(args[1:]) if is_tensor(one)
        )
        self.count += name in WAITING_OPS or masked
        return func(*args, **(kwargs or {}))


def photo(size=(40, 40)):
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(small, size, mode="bicubic").clamp(0, 1)[0]


def reads(model, settings, steps):
    recipe = Recipe.model_validate(RECIPE.model_dump() | settings | {"steps": steps})
    with Reads() as of_tensors, Waits() as below:
        accentuate(model, photo(), "logit:1 + 0.1*channel:late:2", recipe)
    return of_tensors.count, below.count


def test_reads_are_counted():
    with Reads() as of_tensors, Waits() as below:
        value = torch.ones(2)
        value.tolist()
        bool(value.sum() > 1)
        value[value > 0]
        torch.tensor([1.0])
    assert of_tensors.count >= 2
    assert below.count >= 3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"parameterization": "phase"},
        {"augmentation": "jitter"},
        {"augmentation": "centered", "noise_at": "input"},
        {"ball": 0.01},
        {"regularizer": "orthogonal", "regularization_layer": ("early", "late")},
        {"regularizer": "pearson"},
        {"start": "noise", "regularization": 0.0},
        {"redirected_relu": True},
        {"opacity_every": 3, "opacity_feature": "neuron:late:3@0,0"},
        {"stop_at": 1e9},
    ],
    ids=str,
)
def test_no_step_waits_for_the_device(tiny, monkeypatch, settings):
    if "stop_at" in settings:
        monkeypatch.setattr(Stops, "all_ended", _never_asked)
    reads(tiny, settings, 1)
    assert reads(tiny, settings, 4) == reads(tiny, settings, 12)


def _never_asked(stops, frame, *, ask, real=Stops.all_ended):
    stops._asked_every = 1_000
    return real(stops, frame, ask=ask)


def frame(step, values, image=0.0):
    count = len(values)
    return Frame(
        step,
        torch.full((count, 1, 2, 2), image),
        torch.tensor(values),
        torch.full((count,), image),
        torch.full((count, 2, 2), image),
    )


def test_each_is_kept_as_it_was_when_it_reached_its_target():
    stops = Stops(torch.tensor([1.0, 2.0, math.inf]), frame(0, [0.0, 0.0, 0.0]))
    assert not stops.all_ended(frame(1, [1.5, 1.5, 1.5], 0.1), ask=True)
    assert not stops.all_ended(frame(2, [0.5, 2.0, 2.0], 0.2), ask=True)
    assert stops.all_ended(frame(3, [9.0, 9.0, math.nan], 0.3), ask=True)
    assert stops.steps() == (1, 2, None)
    assert stops.reached.images[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.0])
    assert stops.reached.value[:2].tolist() == [1.5, 2.0]
    assert stops.reached.accumulated[:2, 0, 0].tolist() == pytest.approx([0.1, 0.2])


def test_a_device_that_has_to_be_waited_for_is_asked_now_and_then(tiny, monkeypatch):
    """It takes some steps more, and every pair is as it was at its target."""

    def pairs():
        return [Pair(photo(), parse_feature("logit:1"), stop_at=target) for target in (values[1], values[3])]

    recipe = RECIPE.model_copy(update={"steps": 20})
    values = [point.value for point in accentuate(tiny, photo(), "logit:1", Recipe.model_validate(
        recipe.model_dump() | {"snapshots": 20})).trajectory]  # fmt: skip
    plain = dict(accentuate_pairs(tiny, pairs(), recipe, micro_batch=2))
    steps = []
    monkeypatch.setattr(Stops, "all_ended", _asked_every_eighth(steps))
    late = dict(accentuate_pairs(tiny, pairs(), recipe, micro_batch=2))
    assert steps == list(range(9))
    for index in (0, 1):
        assert late[index].stopped_at == plain[index].stopped_at is not None
        assert late[index].trajectory == plain[index].trajectory
        torch.testing.assert_close(late[index].pixels, plain[index].pixels, rtol=0, atol=0)
        torch.testing.assert_close(late[index].opacity, plain[index].opacity)


def _asked_every_eighth(steps, real=Stops.all_ended):
    def all_ended(stops, frame, *, ask):
        steps.append(frame.step)
        stops._asked_every = 8
        return real(stops, frame, ask=ask)

    return all_ended


def test_a_run_in_which_no_pair_is_finite_ends_at_its_next_snapshot(tiny, tiny_net):
    steps = []
    recipe = RECIPE.model_copy(update={"steps": 40, "snapshots": 4, "regularization": 0.0})
    broken = nn.Parameter(torch.full_like(tiny_net.head.bias, math.inf))
    tiny_net.head.bias = broken
    (ending,) = (
        one for _, one in accentuate_pairs(
            tiny, [Pair(photo(), parse_feature("logit:1"))], recipe, on_step=lambda report: steps.append(report.step)
        )
    )  # fmt: skip
    assert ending.code == "not-finite"
    assert max(steps, default=0) < 40
