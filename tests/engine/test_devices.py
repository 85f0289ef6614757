"""The engine on a GPU, as far as a machine without one can tell: see `tests.engine.pretended`."""

import gc

import numpy as np
import pytest
import torch
from tests.engine.conftest import TinyNet
from tests.engine.pretended import CPU, FREE, GPU, MixedDevicesError, Pretended, pretend
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from accentor.engine import Diversity, Model, Pair, accentuate, accentuate_pairs, load_model
from accentor.engine import evaluate as evidence
from accentor.engine.companions import (
    attribution_maps,
    attribution_vectors,
    circuit,
    faithfulness,
    masked,
    receptive_field,
)
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary, register_dictionary
from accentor.engine.features import Objective
from accentor.engine.memory import FREE_SHARE, bytes_per_pair, micro_batch
from accentor.engine.models.devices import computes, is_out_of_memory, read_device, repeating
from accentor.engine.models.weights import untrained
from accentor.engine.running import Runner
from accentor.engine.scan import scan
from accentor.engine.stems import stemmed
from accentor.errors import InvalidRequestError, NotDifferentiableError, OutOfMemoryError
from accentor.spec import Recipe, parse_feature

RECIPE = Recipe(steps=3, crops=2, size=40, snapshots=1, opacity_every=1, precision="float32")
SUM = "logit:1 - 0.5*channel:late:2 + 0.3*logit:2 + channel:late:4 * logit:3"
ATOMIC_ADDS = {"aten.grid_sampler_2d_backward"}
"""Of `jitter`: docs/models.md says so."""


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """The GPU; and a CPU that computes as it does."""
    monkeypatch.setattr("accentor.engine.models.model.stemmed", lambda **_: stemmed(wanted=False))
    return pretend(monkeypatch)


@pytest.fixture
def net() -> TinyNet:
    return TinyNet()


def tiny_model(net: nn.Module) -> Model:
    return Model(net, input_size=32, regularization_layer="early", name="tiny")


def photos(count: int) -> list[torch.Tensor]:
    small = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return list(nn.functional.interpolate(small, (40, 32), mode="bicubic").clamp(0, 1))


def changed(**settings: object) -> Recipe:
    return Recipe.model_validate(RECIPE.model_dump() | settings)


def test_a_pretended_gpu_refuses_what_a_gpu_refuses(mode: Pretended) -> None:
    with mode:
        check_what_a_gpu_refuses(mode)


def check_what_a_gpu_refuses(mode: Pretended) -> None:
    there, here = torch.ones(2, device="cuda"), torch.ones(2)
    assert (there.device, here.device, there.view(2, 1).device, (there * 2).device) == (GPU, CPU, GPU, GPU)
    assert torch.zeros_like(there).device == there.to(torch.float64).device == (there + torch.tensor(1.0)).device == GPU
    assert (there.to(here).device, there.cpu().device, here.to("cuda").device) == (CPU, CPU, GPU)
    for mix in (lambda: there + here, lambda: torch.cat([here, there]), lambda: there[torch.tensor([0])]):
        with pytest.raises(MixedDevicesError):
            mix()
    leaf = here.clone().requires_grad_()
    with pytest.raises(MixedDevicesError):
        (leaf.to("cuda") * there).sum().backward(torch.tensor([1.0])[0].to("cuda") + here)
    with pytest.raises(TypeError, match="Use Tensor.cpu"):
        there.numpy()
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        torch.rand(2, device="cuda", generator=torch.Generator())
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(1, device="cuda:1")
    mode.waits.clear()
    there.cpu()
    there.sum().item()
    torch.zeros(2, device="cuda").index_add(0, torch.tensor([0, 0], device="cuda"), there)
    assert mode.waits == {"copies": 1, "aten._local_scalar_dense": 1, "numbers of the host": 1}
    assert mode.sums == {"aten.index_add"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"parameterization": "phase", "border": 0.2},
        {"parameterization": "pixel", "ball": 0.01},
        {"ball": 0.01, "border": 0.2},
        {"augmentation": "jitter", "noise_std": 0.02, "noise_range": 0.01, "noise_color": 0.1},
        {"augmentation": "centered", "noise_at": "input", "noise_std": 0.02},
        {"noise_std": 0.02, "noise_range": 0.01, "noise_at": "crop"},
        {"regularizer": "pearson", "schedule": "cosine"},
        {"regularizer": "orthogonal", "regularization_layer": ("early", "late")},
        {"start": "noise", "regularization": 0.0, "parameterization": "phase"},
        {"redirected_relu": True, "opacity_every": 3, "opacity_feature": "neuron:late:3@0,0"},
        {"stop_at": 1e9},
        {"strengths": (-1.0, 0.0, 0.5)},
    ],
    ids=str,
)
def test_a_gpu_computes_what_a_cpu_does(
    mode: Pretended, net: TinyNet, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    """Bit for bit, as it is one; no step copies to or from it, and none adds up in an order that is not said."""
    monkeypatch.setattr("accentor.engine.stopping.ASKED_EVERY", 1_000)
    model = tiny_model(net)
    recipe, waits = changed(**settings), []
    images, features, seeds = photos(2), [SUM, "channel:late:5"], [3, 4]
    here = accentuate(model, images, features, recipe, seed=seeds)
    moved = model.to("cuda")
    moved.folded()
    for steps in (3, 5):
        mode.waits.clear()
        with mode:
            there = accentuate(moved, images, features, recipe.model_copy(update={"steps": steps}), seed=seeds)
        waits.append(dict(mode.waits))
        if steps == recipe.steps:
            first = there
    assert waits[0] == waits[1]
    assert mode.sums <= (ATOMIC_ADDS if recipe.augmentation == "jitter" else set())
    for one, other in zip(first, here, strict=True):
        assert (one.device, other.device) == ("cuda:0", "cpu")
        assert one.trajectory == other.trajectory
        for kept in (*one.accumulated, *one.snapshots, one.source, one.pixels, one.opacity):
            assert kept.device == CPU
        torch.testing.assert_close(one.pixels, other.pixels, rtol=0, atol=0)
        torch.testing.assert_close(one.opacity, other.opacity, rtol=0, atol=0)
        assert [point.value for point in one.sweep] == [point.value for point in other.sweep]
        one.files()


def test_every_feature_is_computed_on_the_gpu(mode: Pretended, net: TinyNet, tmp_path) -> None:
    numbers = np.random.default_rng(0)
    np.save(tmp_path / "v.npy", numbers.normal(size=(2, 8)).astype("float32"))
    np.save(tmp_path / "m.npy", numbers.normal(size=(8, 8, 8)).astype("float32"))
    vectors = torch.from_numpy(numbers.normal(size=(12, 8)).astype("float32"))
    register_dictionary(EncoderDictionary(name="top", layer="late", vectors=vectors, activation="topk", k=4), "top")
    texts = [
        SUM, "neuron:late:3@0,0", "neuron:late:2", f"direction:late:{tmp_path}/v.npy#1",
        f"cosine:late:{tmp_path}/v.npy#0", f"cosine_power:late:{tmp_path}/v.npy#0^2", f"spatial:late:{tmp_path}/m.npy",
        "dictionary:top#1", "encoder:late:top#3", "encoder:late:top#3:post", "likeness:late", "blur:input",
    ]  # fmt: skip
    pairs = [Pair(image, parse_feature(text)) for text, image in zip(texts, photos(len(texts)), strict=True)]
    model, recipe = tiny_model(net), changed(steps=2)
    # One at a time: on some processors a convolution of more images is rounded otherwise.
    here = dict(accentuate_pairs(model, pairs, recipe, micro_batch=1))
    with mode:
        there = dict(accentuate_pairs(model.to("cuda"), pairs, recipe, micro_batch=1))
        coupled = accentuate(model.to("cuda"), photos(2), "logit:1", recipe, coupling=Diversity("late"))
    for index, text in enumerate(texts):
        assert there[index].trajectory == here[index].trajectory, text
    assert [one.device for one in coupled] == ["cuda:0"] * 2


def test_companions_and_evidence_of_a_model_on_the_gpu(mode: Pretended, net: TinyNet) -> None:
    """What they return is on the CPU, wherever the images are; but vectors of attribution, as they say."""
    model = tiny_model(net).to("cuda")
    images, batch, features = photos(3), torch.stack(photos(3)), [parse_feature("logit:1")] * 3
    with mode:
        vectors = attribution_vectors(model, torch.rand(2, 3, 32, 32), SUM, ["early"])["early"]
        found = circuit(model, images, "logit:1", ["early"])
        faithful = faithfulness(model, images, "logit:1", found, ablate="mean")
        (attributed, *_) = attribution_maps(model, images, "logit:1", "late")
        field = receptive_field(model, "late")
        values = evidence.feature_values(model, features, batch)
        stronger = evidence.adversarial_at_value(model, features, batch.to("cuda"), values + 0.01, max_steps=2)
        further = evidence.adversarial_at_distance(model, features, batch, torch.ones(3), steps=1)
        apart = evidence.latent_distance(model, batch.to("cuda"), batch * 0.9)
        alike = evidence.coherence(model, "logit:1", batch, batch.to("cuda"), ["early"])["early"]
        moved = evidence.transfer(model, batch, further, [0, 1, 2], multilabel=False)
    assert vectors.device == GPU
    kept = (found.means["early"], faithful.within, attributed.parts, field.gradient, values, stronger, further, apart)
    assert [one.device for one in kept] == [CPU] * len(kept)
    assert alike == evidence.coherence(tiny_model(net), "logit:1", batch, batch, ["early"])["early"]
    assert len(moved.rises) == 3


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("kind", ["channels", "directions", "topk", "jumprelu"])
def test_scans_of_a_model_on_the_gpu(mode: Pretended, net: TinyNet, kind: str, reduce: str) -> None:
    vectors = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    dictionaries = {
        "channels": "late",
        "directions": DirectionDictionary(name="d", layer="late", vectors=vectors),
        "topk": EncoderDictionary(name="t", layer="late", vectors=vectors, activation="topk", k=4),
        "jumprelu": EncoderDictionary(
            name="j", layer="late", vectors=vectors, activation="jumprelu", threshold=torch.full((100,), 0.1)
        ),
    }
    model, images = tiny_model(net), photos(5)
    found = scan(model, dictionaries[kind], images, 2, reduce=reduce, batch=2, threads=1)
    with mode:
        there = scan(model.to("cuda"), dictionaries[kind], images, 2, reduce=reduce, batch=2, threads=1)
    assert there.top.values.device == there.sampled.values.device == CPU
    for one, other in ((there.top, found.top), (there.bottom, found.bottom), (there.sampled, found.sampled)):
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=0)
    assert there.histogram.equal(found.histogram)
    assert mode.sums <= {"aten.scatter_add"}


def test_a_circuit_is_on_the_gpu_before_the_model_runs_through_it(mode: Pretended, net: TinyNet) -> None:
    model, images = tiny_model(net).to("cuda"), torch.rand(2, 3, 32, 32, device="cuda")
    with mode, masked(model, {"early": torch.arange(6) < 3}):
        mode.waits.clear()
        model.activations(images, frozenset({"late"}))
    assert not mode.waits


def test_a_device_has_its_number(mode: Pretended, net: TinyNet) -> None:
    model = tiny_model(net)
    there = model.to("cuda")
    assert (read_device("cuda"), there.device) == (GPU, GPU)
    assert there.to("cuda:0") is there
    assert there.to("cuda") is there
    assert model.to("cpu") is model
    assert load_model("reference").device == GPU
    with pytest.raises(InvalidRequestError, match="there is no device 'cuda:1' here"):
        read_device("cuda:1")


def test_what_the_allocator_keeps_counts_as_free(
    mode: Pretended, net: TinyNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(net).to("cuda")
    sizes = (frozenset({"late"}), RECIPE, (40, 40))
    needed = bytes_per_pair(model, *sizes)
    assert FREE_SHARE * FREE / needed > 64
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2 * needed, FREE))
    assert micro_batch(model, *sizes, None) == 1
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 9 * needed)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: needed)
    assert micro_batch(model, *sizes, None) == 8


class Cut(TinyNet):
    """Has no gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.early(x).detach()).mean(dim=(2, 3)))


def test_nothing_of_a_run_that_failed_stays_on_the_gpu(
    mode: Pretended, net: TinyNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither memory that ran out within a backward pass, nor an ending that is kept, holds tensors of its run."""
    alive: list[int] = []
    run = Runner._run_together
    monkeypatch.setattr(Runner, "_run_together", lambda *given: alive.append(mode.alive()) or run(*given))
    backward, left = torch.Tensor.abs, [9]

    def greedy(tensor: torch.Tensor) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return backward(tensor)

    pairs = [Pair(image, parse_feature("logit:1")) for image in photos(4)]
    whole, cut = tiny_model(net).to("cuda"), tiny_model(Cut()).to("cuda")
    gc.collect()
    gc.disable()
    try:
        with mode, monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "abs", greedy)
            endings = list(accentuate_pairs(whole, pairs, RECIPE, micro_batch=4))
        assert [type(ending).__name__ for _, ending in endings] == ["Accentuation"] * 4
        assert left[0] < 0
        assert alive == [alive[0]] * 3
        with mode:
            endings = list(accentuate_pairs(cut, pairs, RECIPE, micro_batch=2))
        assert all(isinstance(ending, NotDifferentiableError) for _, ending in endings)
        assert mode.alive() == alive[0]
    finally:
        gc.enable()


def test_a_step_is_forgotten_before_the_next_one_grows(net: TinyNet) -> None:
    """What R left of the graph of f, behind its layer, is not kept beside the next step's."""
    seen: list[StorageWeakRef] = []
    kept: list[int] = []
    net.late.register_forward_pre_hook(
        lambda _, given: (
            kept.append(sum(not one.expired() for one in seen))
            or seen.append(StorageWeakRef(given[0].untyped_storage()))
        )
    )
    model = tiny_model(net)
    seen.clear()
    kept.clear()
    accentuate(model, photos(1)[0], "logit:1", changed(steps=5))
    assert kept == [0] * 7


class Normed(TinyNet):
    """Folded, it wants more memory than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.norm, nn.BatchNorm2d):
            raise RuntimeError("CUDA error: out of memory")
        return self.head(self.norm(self.late(self.early(x))).mean(dim=(2, 3)))


class Tight(TinyNet):
    """It wants more memory than there is where its images lie channels last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.stride(1) == 1:
            raise RuntimeError("CUDA error: out of memory")
        return super().forward(x)


def test_memory_that_runs_out_before_the_first_step_is_said(
    mode: Pretended, net: TinyNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the network does not run in bfloat16, nor in float32 instead; nor that its layout is another."""
    model = tiny_model(net).to("cuda")
    pairs = [Pair(photos(1)[0], parse_feature("logit:1"))]

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")

    monkeypatch.setattr(net.head, "forward", full)
    with pytest.raises(RuntimeError, match="ALLOCATION_FAILED"):
        tiny_model(net)
    with pytest.raises(RuntimeError, match="out of memory"):
        tiny_model(Tight())
    with pytest.raises(OutOfMemoryError, match="tiny does not fit the memory: CUDA error: out of memory"):
        list(accentuate_pairs(tiny_model(Normed()), pairs, RECIPE))
    monkeypatch.setattr(nn.Linear, "forward", full)
    with pytest.raises(OutOfMemoryError, match="tiny does not fit the memory"):
        list(accentuate_pairs(model, pairs, changed(precision="auto")))
    with pytest.raises(OutOfMemoryError, match="one crop of 32 × 40 pixels does not fit the memory"):
        list(accentuate_pairs(model, pairs, RECIPE))


@pytest.mark.parametrize(
    ("said", "ran_out"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cuFFT error: CUFFT_ALLOC_FAILED", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
    ],
)
def test_memory_of_a_gpu_that_ran_out_is_told_apart(said: str, ran_out: bool) -> None:
    assert is_out_of_memory(RuntimeError(said)) == ran_out


@pytest.mark.parametrize(
    ("error", "still"),
    [
        (None, True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
    ids=["well", "full", "lost"],
)
def test_a_device_that_is_lost_computes_no_more(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, still: bool
) -> None:
    def zeros(*_: object, real=torch.zeros, **__: object) -> torch.Tensor:
        if error is not None:
            raise error
        return real(1)

    monkeypatch.setattr(torch, "zeros", zeros)
    assert computes(GPU) == still


def test_cudnn_repeats_during_a_run_on_a_gpu(mode: Pretended, net: TinyNet) -> None:
    asked: list[bool] = []
    net.register_forward_pre_hook(lambda *_: asked.append(torch.backends.cudnn.deterministic))
    model = tiny_model(net).to("cuda")
    asked.clear()
    with mode:
        accentuate(model, photos(1)[0], "logit:1", changed(steps=1), micro_batch=1)
    assert set(asked) == {True}
    assert not torch.backends.cudnn.deterministic
    with pytest.raises(ZeroDivisionError), repeating(GPU):
        raise ZeroDivisionError
    with repeating(CPU):
        assert not torch.backends.cudnn.deterministic


def test_building_a_network_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    one, other = (untrained(lambda: nn.Linear(3, 2)).weight for _ in range(2))
    assert one.equal(other)
    assert not seeded
    assert torch.get_rng_state().equal(before)


def test_many_terms_are_added_up_in_their_order(net: TinyNet) -> None:
    """As those of one pair are alone, whatever the others have; a broken one breaks no other."""
    model = tiny_model(net)
    texts = [SUM, "logit:2", "logit:0 + logit:1 + logit:2 + logit:3 - channel:early:1"]
    features = [model.card.resolve(parse_feature(text)) for text in texts]
    activations = {
        "early": torch.randn(6, 6, 16, 16), "late": torch.randn(6, 8, 8, 8), "": torch.randn(6, 4),
    }  # fmt: skip
    together = Objective(features, model.card, CPU)(activations)
    for index, feature in enumerate(features):
        own = {name: values[2 * index : 2 * index + 2] for name, values in activations.items()}
        assert together[index].equal(Objective([feature], model.card, CPU)(own)[0])
    activations[""][2] = torch.nan
    assert Objective(features, model.card, CPU)(activations).isfinite().tolist() == [
        [True] * 2,
        [False, True],
        [True] * 2,
    ]
