"""Train the reference network and its judge from nothing: `python -m accentor.engine.reference.train`.

Scenes are rendered and crops of them shown with noise. In the second part of the reference's training each crop is
first moved a little against the network (one step of gradient, the Fast Gradient Method of arXiv 1412.6572, in the L2
norm), which makes the gradients of the finished network look like the features they stand for (arXiv 1805.12152). On
two free cores both take 13 minutes.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from accentor.engine.reference import WEIGHTS, load_judge, load_reference
from accentor.engine.reference.dataset import Batch, SceneBank, render_bank, sample_batch
from accentor.engine.reference.evaluation import Scores, normalize, score
from accentor.engine.reference.networks import JudgeNet, ReferenceNet, fold_batch_norm
from accentor.engine.reference.scenes import LABELS, render_scene

TRAINING_SEED = 1_000_000
"""First seed of the training scenes; samples lie below."""
EVALUATION_SEED = 2_000_000
"""First seed of the scenes that scores are measured on."""
EVALUATION_SIZE = 256
WEIGHT_DECAY = 0.02
NOISE_STD = 0.08
GAIN = 0.15
ADVERSARY_NORM = 1.2
"""Largest L2 norm of the adversarial step, in pixel values 0..1 over the whole crop."""


@dataclass(frozen=True)
class Plan:
    """How long and on how much to train.

    Attributes
    ----------
    scenes, evaluation_scenes
        How many scenes to render for training and for the scores.
    steps, adversarial_from
        Optimiser steps, and the part of them (0..1) after which the adversary joins.
    batch
        Crops a step.
    learning_rate
        Peak of the one-cycle schedule.
    """

    scenes: int
    evaluation_scenes: int
    steps: int
    adversarial_from: float
    batch: int
    learning_rate: float


PLANS = {
    "reference": Plan(8000, 1000, 3000, 0.55, 64, 4e-3),
    "judge": Plan(8000, 1000, 2600, 1.0, 64, 4e-3),
}
QUICK = Plan(64, 64, 24, 0.5, 16, 3e-3)

NETWORKS: dict[str, tuple[Callable[..., nn.Module], Callable[[Path], nn.Module], int]] = {
    "reference": (ReferenceNet, load_reference, 1),
    "judge": (JudgeNet, load_judge, 2),
}
"""Name to how it is built, how its weights are read back, and its random seed."""


@dataclass(frozen=True)
class Report:
    """What came of one training: scores after rounding to float16, size and time, and the loss per step."""

    scores: Scores
    parameters: int
    file_bytes: int
    seconds: float
    losses: list[float]


def _perturb(images: Tensor, generator: torch.Generator) -> Tensor:
    count = len(images)
    gain = 1 + GAIN * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    std = NOISE_STD * torch.rand(count, 1, 1, 1, generator=generator)
    return images * gain + std * torch.randn(images.shape, generator=generator)


def _loss(network: nn.Module, images: Tensor, batch: Batch) -> Tensor:
    inputs = normalize(images).contiguous(memory_format=torch.channels_last)
    logits = network(inputs)
    total = functional.binary_cross_entropy_with_logits(logits, batch.targets, batch.weights, reduction="sum")
    return total / batch.weights.sum()


def _adversarial(network: nn.Module, images: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
    """Move images along the gradient of the loss, by a random norm up to `ADVERSARY_NORM`."""
    network.eval()
    moved = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(network, moved, batch), moved)
    network.train()
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
    length = ADVERSARY_NORM * torch.rand(len(images), 1, 1, 1, generator=generator)
    mean: Tensor = images + gradient / norm * length
    return mean


def fit(network: nn.Module, bank: SceneBank, plan: Plan, seed: int) -> list[float]:
    """Train a network built with batch norm, in place.

    Parameters
    ----------
    network
        The network.
    bank
        Training scenes.
    plan
        How long, and how.
    seed
        Of crops and noise.

    Returns
    -------
    list
        The loss of every step.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, total_steps=plan.steps, pct_start=0.15
    )
    losses = []
    for step in track(range(plan.steps), description="training"):
        batch = sample_batch(bank, plan.batch, rng)
        images = _perturb(batch.images, generator)
        if step >= plan.adversarial_from * plan.steps:
            images = _adversarial(network, images, batch, generator)
        loss = _loss(network, images, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _write(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path, metadata)


def train(name: str, folder: Path, plan: Plan, bank: SceneBank) -> Report:
    """Train one network, write its weights as float16, and score what was written.

    Parameters
    ----------
    name
        `reference` or `judge`.
    folder
        Where `NAME.safetensors` goes.
    plan
        How long and on how much.
    bank
        Training scenes.

    Returns
    -------
    Report
        Scores and sizes; the scores are in the file's metadata too.
    """
    build, load, seed = NETWORKS[name]
    started = time.perf_counter()
    torch.manual_seed(seed)
    network = build(len(LABELS), batch_norm=True)
    losses = fit(network, bank, plan, seed)
    seconds = time.perf_counter() - started
    network = fold_batch_norm(network.eval()).to(memory_format=torch.contiguous_format)
    path = folder / f"{name}.safetensors"
    _write(network, path, {})
    rounded = load(path)
    fresh = [render_scene(EVALUATION_SEED + i, EVALUATION_SIZE) for i in range(plan.evaluation_scenes)]
    scores = score(rounded, fresh)
    described = {f"map_{group}": f"{value:.4f}" for group, value in asdict(scores).items()}
    _write(network, path, {"labels": " ".join(LABELS), "scenes": str(plan.evaluation_scenes), **described})
    parameters = sum(parameter.numel() for parameter in rounded.parameters())
    return Report(scores, parameters, path.stat().st_size, seconds, losses)


def _table(reports: dict[str, Report]) -> Table:
    table = Table("network", "mAP", "shapes", "textures", "colours", "parameters", "file", "training")
    for name, report in reports.items():
        scores = (f"{value:.4f}" for value in asdict(report.scores).values())
        size, seconds = f"{report.file_bytes / 1e6:.2f} MB", f"{report.seconds:.0f} s"
        table.add_row(name, *scores, f"{report.parameters:,}", size, seconds)
    return table


def run(folder: Path, names: list[str], *, quick: bool = False) -> dict[str, Report]:
    """Train the named networks on the same scenes.

    Parameters
    ----------
    folder
        Where the weights go; made if missing.
    names
        Which of `reference` and `judge`.
    quick
        A few steps on a few scenes, to try the machinery.

    Returns
    -------
    dict
        A report per network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plans = {name: QUICK if quick else PLANS[name] for name in names}
    scenes = max(plan.scenes for plan in plans.values())
    processes = 1 if quick else os.cpu_count() or 1
    bank = render_bank(range(TRAINING_SEED, TRAINING_SEED + scenes), processes)
    return {name: train(name, folder, plans[name], bank) for name in names}


def main() -> None:
    """Read the command line, train, and show the scores."""
    parser = argparse.ArgumentParser(description="Train the reference network and its judge.")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="DIR", help="where the weights go")
    parser.add_argument("--which", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to try the machinery")
    options = parser.parse_args()
    names = list(NETWORKS) if options.which == "all" else [options.which]
    Console().print(_table(run(options.out, names, quick=options.quick)))


if __name__ == "__main__":
    main()
