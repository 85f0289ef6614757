"""What quality is measured on: the reference model with generated scenes, and a real network with photographs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from accentor.engine import Model, load_model
from accentor.engine.canvas import fit_canvas
from accentor.engine.evaluate import most_exciting
from accentor.engine.evaluate.scenes import FIRST_SEED, SCENE_SIZE, load_judge_model, scenes_with, scenes_without
from accentor.images import open_image
from accentor.spec import Feature, parse_feature

ASSETS = "ACCENTOR_TEST_ASSETS"
NATURAL = 8
"""Natural images that excite a feature, against which coherence is measured."""
NATURAL_POOL = 24
"""Scenes with the label among which these are the strongest."""
NATURAL_SEED = FIRST_SEED + 100_000
SEED_STRIDE = 1_000
"""Scenes of label k are searched from seed k · this on, so that labels do not share their scenes."""
PHOTO_SIZE = 512
APART = 7
"""Photographs between one and the next whose class it is accentuated towards."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Case:
    """One pair: pixels [3, S, S], the logit to accentuate there, the mask [S, S] of what shows it, if it does."""

    name: str
    pixels: Tensor
    unit: int
    seed: int
    mask: Tensor | None = None

    @property
    def feature(self) -> Feature:
        """The logit as a feature."""
        return parse_feature(f"logit:{self.unit}")


@dataclass(frozen=True, eq=False)
class Suite:
    """Pairs with what is needed to judge them; ``natural`` holds the images that excite each logit."""

    name: str
    source: str
    weights: str | None
    model: Model
    judge: Model | None
    cases: tuple[Case, ...]
    natural: dict[int, Tensor]
    multilabel: bool


def reference_suite(images: int, features: int, seeds: int) -> Suite:
    """Return, for each of some labels, this many scenes that show it and as many that do not, times random seeds."""
    model = load_model("reference", device="cpu")
    labels = spread(model.card.labels or (), features)
    cases: list[Case] = []
    for label in labels:
        unit = (model.card.labels or ()).index(label)
        first = FIRST_SEED + unit * SEED_STRIDE
        drawn = scenes_with(label, images, first) + scenes_without(label, images, first)
        for scene in drawn:
            mask = scene.masks.get(label)
            sign = "with" if mask is not None else "without"
            name = f"{label}, scene {scene.seed} {sign}"
            cases += [Case(name, scene.pixels, unit, seed, mask) for seed in range(seeds)]
    natural = {case.unit: _natural_scenes(model, case.unit) for case in cases}
    name = f"reference model, {SCENE_SIZE} px scenes"
    return Suite(name, "reference", None, model, load_judge_model(), tuple(cases), natural, multilabel=True)


def photograph_suite(images: int, features: int, seeds: int, size: int = PHOTO_SIZE) -> Suite | None:
    """Return photographs, each with its own class and those of other photographs; none without the assets."""
    folder = os.environ.get(ASSETS)
    if not folder:
        return None
    weights = str(Path(folder) / "models" / "squeezenet1_0-imagenet.safetensors")
    model = load_model("torchvision:squeezenet1_0", weights=weights, device="cpu")
    paths = sorted((Path(folder) / "images").glob("*.jpg"), key=lambda path: path.stem.partition("_")[2])
    photographs = torch.stack([square(path, size) for path in paths])
    classes = [int(path.stem.partition("_")[0]) for path in paths]
    chosen = spread(tuple(range(len(paths))), images)
    cases = [
        Case(f"{paths[index].stem} as {classes[other]}", photographs[index], classes[other], seed)
        for index in chosen
        for other in ((index + step * APART) % len(paths) for step in range(features))
        for seed in range(seeds)
    ]
    natural = {case.unit: _strongest(model, case.unit, photographs) for case in cases}
    name = f"SqueezeNet 1.0, {size} px photographs"
    return Suite(name, "torchvision:squeezenet1_0", weights, model, None, tuple(cases), natural, multilabel=False)


def square(path: Path, size: int) -> Tensor:
    """Return the largest central square of a picture, resized to [3, size, size]."""
    picture = open_image(path)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return fit_canvas(picture.crop((left, top, left + side, top + side)), size)


def spread(items: tuple[T, ...], count: int) -> tuple[T, ...]:
    """Return this many of the items, evenly spread."""
    return tuple(items[i * len(items) // count] for i in range(min(count, len(items))))


def _natural_scenes(model: Model, unit: int) -> Tensor:
    label = (model.card.labels or ())[unit]
    pool = torch.stack([scene.pixels for scene in scenes_with(label, NATURAL_POOL, NATURAL_SEED)])
    return _strongest(model, unit, pool)


def _strongest(model: Model, unit: int, pool: Tensor) -> Tensor:
    return pool[list(most_exciting(model, f"logit:{unit}", pool, NATURAL))]


def stacked(cases: Sequence[Case]) -> Tensor:
    """Return the cases' pixels [N, 3, S, S]."""
    return torch.stack([case.pixels for case in cases])
