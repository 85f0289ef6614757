"""The shipped networks read scenes, and the script that trained them works."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from accentor.engine.reference import (
    INPUT_SIZE,
    LABELS,
    REGULARIZATION_LAYER,
    WEIGHTS,
    load_judge,
    load_reference,
    train,
)
from accentor.engine.reference.dataset import crop_targets, render_bank, sample_batch
from accentor.engine.reference.evaluation import average_precision, predict, score
from accentor.engine.reference.networks import ConvUnit, JudgeNet, ReferenceNet, fold_batch_norm
from accentor.engine.reference.scenes import SHAPES, TEXTURES, Scene, render_scene

LOADERS = {"reference": (load_reference, 0.97), "judge": (load_judge, 0.95)}
MAX_BYTES = 2_000_000


@pytest.fixture(scope="module")
def fresh() -> list[Scene]:
    return [render_scene(seed, 192) for seed in range(3_000_000, 3_000_250)]


@pytest.mark.parametrize("name", LOADERS)
def test_shipped_weights_read_fresh_scenes(name, fresh):
    load, least = LOADERS[name]
    network = load()
    assert not network.training
    assert np.isfinite(predict(network, fresh[:32])).all()
    assert score(network, fresh).overall >= least


@pytest.mark.parametrize("name", LOADERS)
def test_shipped_files_are_small_halves_with_their_scores(name):
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= MAX_BYTES
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["labels"].split() == list(LABELS)
        assert float(file.metadata()["map_overall"]) >= LOADERS[name][1]
        tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
    assert all(tensor.dtype == torch.float16 and tensor.isfinite().all() for tensor in tensors)


def test_the_regularisation_layer_is_early_at_a_quarter_of_the_input():
    network, seen = load_reference(), {}
    layer = network.get_submodule(REGULARIZATION_LAYER)
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.update(shape=tuple(output.shape)))
    network(torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE))
    handle.remove()
    assert seen["shape"] == (2, 40, INPUT_SIZE // 4, INPUT_SIZE // 4)


def test_gradients_at_the_input_are_finite_and_nowhere_dead():
    network = load_reference()
    images = torch.randn(4, 3, INPUT_SIZE, INPUT_SIZE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(images)[:, LABELS.index("stripes")].sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.99


def test_a_logit_is_the_log_mean_exp_of_its_class_map():
    torch.manual_seed(0)
    network, seen = ReferenceNet(5), {}
    network.classifier.register_forward_hook(lambda _module, _inputs, output: seen.update(evidence=output))
    logits = network(torch.randn(2, 3, INPUT_SIZE, INPUT_SIZE))
    assert torch.allclose(logits, seen["evidence"].exp().mean(dim=(2, 3)).log(), atol=1e-5)


@pytest.mark.parametrize("build", [ReferenceNet, JudgeNet])
def test_folding_batch_norm_changes_nothing(build):
    torch.manual_seed(0)
    network = build(7, batch_norm=True)
    images = torch.randn(8, 3, INPUT_SIZE, INPUT_SIZE)
    network.train()(images)
    before = network.eval()(images)
    folded = fold_batch_norm(network)
    plain = build(7).eval()
    plain.load_state_dict(folded.state_dict())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(images), before, atol=1e-4)
    assert torch.allclose(plain(images), before, atol=1e-4)


def test_no_layer_works_in_place():
    for network in (ReferenceNet(3), JudgeNet(3)):
        assert any(isinstance(module, ConvUnit) for module in network.modules())
        assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_average_precision_of_known_orders():
    positive = np.array([True, False, True, False])
    assert average_precision(np.float32([4, 3, 2, 1]), positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.float32([4, 1, 3, 2]), positive) == 1
    assert average_precision(np.float32([1, 4, 2, 3]), positive) == pytest.approx((1 / 3 + 2 / 4) / 2)


def _targets(inside: float, crop: float, side: float, area: float, period: float) -> dict[str, tuple[float, float]]:
    codes = np.full((1, 4, 3), -1)
    codes[0, 0] = [LABELS.index(label) for label in ("star", "stripes", "red")]
    targets, weights = crop_targets(
        np.float32([[inside, 0, 0, 0]]),
        np.float32([crop]),
        np.float32([side]),
        codes,
        np.float32([[area, 1, 1, 1]]),
        np.float32([[period, 0, 0, 0]]),
    )
    return {label: (float(targets[0, k]), float(weights[0, k])) for k, label in enumerate(LABELS)}


def test_a_crop_with_the_whole_object_shows_all_its_labels():
    found = _targets(inside=100, crop=900, side=0.5, area=100, period=0.08)
    assert [found[label] for label in ("star", "stripes", "red")] == [(1, 1)] * 3
    assert found["disc"] == found["dots"] == found["blue"] == (0, 1)


def test_a_crop_inside_the_object_shows_texture_and_colour_but_asks_no_shape():
    found = _targets(inside=30, crop=30, side=0.2, area=100, period=0.08)
    assert found["stripes"] == found["red"] == (1, 1)
    assert found["star"] == (0, 0)
    assert found["disc"] == (0, 1)


def test_a_crop_within_one_period_asks_no_texture_at_all():
    found = _targets(inside=8, crop=8, side=0.07, area=100, period=0.08)
    assert {found[texture] for texture in TEXTURES} == {(0, 0)}
    assert found["red"] == (1, 1)


def test_a_crop_without_the_object_has_none_of_its_labels():
    found = _targets(inside=0, crop=900, side=0.5, area=100, period=0.08)
    assert set(found.values()) == {(0, 1)}


def test_whole_scene_crops_have_the_labels_of_the_scene(monkeypatch):
    monkeypatch.setattr("accentor.engine.reference.dataset.WIDE_SHARE", 1.0)
    monkeypatch.setattr("accentor.engine.reference.dataset.WIDE_SIDES", (1.0, 1.0))
    seeds = range(40, 60)
    batch = sample_batch(render_bank(seeds, processes=1, size=128), 40, np.random.default_rng(0))
    known = {tuple(label in render_scene(seed, 128).labels for label in LABELS) for seed in seeds}
    assert batch.images.shape == (40, 3, INPUT_SIZE, INPUT_SIZE)
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert batch.weights.min() == 1
    assert {tuple(row) for row in batch.targets.bool().tolist()} <= known


def test_quick_training_lowers_the_loss_and_writes_loadable_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--quick", "--which", "reference", "--out", str(tmp_path)])
    train.main()
    assert "mAP" in capsys.readouterr().out
    report = train.run(tmp_path, ["judge"], quick=True)["judge"]
    assert np.mean(report.losses[-6:]) < 0.95 * np.mean(report.losses[:3])
    for load, name in ((load_reference, "reference"), (load_judge, "judge")):
        network = load(tmp_path / f"{name}.safetensors")
        assert network(torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE)).isfinite().all()
    assert report.file_bytes == (tmp_path / "judge.safetensors").stat().st_size


def test_training_repeats_with_its_seed(tmp_path):
    bank = render_bank(range(10), processes=1)
    plan = train.Plan(10, 0, 4, 0.5, 8, 1e-3)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(train.fit(ReferenceNet(len(LABELS), batch_norm=True), bank, plan, seed=3))
    assert all(a == pytest.approx(b, rel=1e-4) for a, b in zip(*losses, strict=True))
    assert any(a != b for a, b in pairwise(losses[0]))


def test_shapes_and_textures_are_in_logit_order():
    assert LABELS[: len(SHAPES)] == SHAPES
    assert LABELS[len(SHAPES) : len(SHAPES) + len(TEXTURES)] == TEXTURES
