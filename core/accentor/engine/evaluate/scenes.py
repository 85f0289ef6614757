"""Reference scenes as evidence: images with a feature's mask, images without the feature, and the judge."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from accentor.engine.models import Model
from accentor.engine.reference import INPUT_SIZE, LABELS, MEAN, STD, load_judge
from accentor.engine.reference.scenes import MIN_VISIBLE, Scene, render_scene

FIRST_SEED = 3_000_000
"""Seed of the first of these scenes: above those used in training and in scoring the networks."""
SCENE_SIZE = 256
"""Side of a scene in pixels: the reference model's canvas."""


@dataclass(frozen=True, eq=False)
class LabeledScene:
    """A scene: pixels float [3, H, W] in 0..1, its labels in logit order, and the mask bool [H, W] of each of them.

    A label's mask is that of all objects that have it.
    """

    seed: int
    pixels: Tensor
    labels: tuple[str, ...]
    masks: dict[str, Tensor]

    def shows_nothing_of(self, label: str) -> bool:
        """Tell whether no object has the label, not even one that is mostly hidden."""
        return label not in self.masks


def load_judge_model() -> Model:
    """Load the judge, which takes no part in an optimisation, as a model with the reference's labels."""
    return Model(
        load_judge(),
        input_size=INPUT_SIZE,
        mean=MEAN,
        std=STD,
        labels=LABELS,
        regularization_layer="stage1",
        name="judge",
        source="judge",
    )


def scenes(first: int = FIRST_SEED, size: int = SCENE_SIZE) -> Iterator[LabeledScene]:
    """Draw scenes without end, one a seed, from the first seed on."""
    seed = first
    while True:
        yield label_scene(render_scene(seed, size), seed)
        seed += 1


def label_scene(scene: Scene, seed: int) -> LabeledScene:
    """Return the scene as tensors, with a mask for every label of an object."""
    masks: dict[str, Tensor] = {}
    for item in scene.objects:
        mask = torch.from_numpy(np.ascontiguousarray(item.mask))
        for label in item.labels:
            masks[label] = masks[label] | mask if label in masks else mask
    present = {label for item in scene.objects if item.visible >= MIN_VISIBLE for label in item.labels}
    pixels = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
    return LabeledScene(seed, pixels, tuple(label for label in LABELS if label in present), masks)


def scenes_with(label: str, count: int, first: int = FIRST_SEED, size: int = SCENE_SIZE) -> list[LabeledScene]:
    """Draw scenes that show the label, from the first seed on."""
    return _first_that(count, first, size, lambda scene: label in scene.labels)


def scenes_without(label: str, count: int, first: int = FIRST_SEED, size: int = SCENE_SIZE) -> list[LabeledScene]:
    """Draw scenes with no object that has the label, from the first seed on."""
    return _first_that(count, first, size, lambda scene: scene.shows_nothing_of(label))


def _first_that(count: int, first: int, size: int, fits: Callable[[LabeledScene], bool]) -> list[LabeledScene]:
    return list(islice(filter(fits, scenes(first, size)), count))
