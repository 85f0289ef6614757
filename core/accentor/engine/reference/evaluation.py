"""How well a network reads whole scenes it has never seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from accentor.engine.reference import MEAN, STD
from accentor.engine.reference.dataset import resize
from accentor.engine.reference.scenes import COLORS, LABELS, SHAPES, TEXTURES, Scene

BATCH = 64


@dataclass(frozen=True)
class Scores:
    """Mean average precision over all labels and over those of each group, 0..1."""

    overall: float
    shapes: float
    textures: float
    colors: float


def normalize(images: Tensor) -> Tensor:
    """Take images [B, 3, H, W] from 0..1 to what the networks were trained on."""
    mean = torch.tensor(MEAN, dtype=images.dtype, device=images.device)[:, None, None]
    std = torch.tensor(STD, dtype=images.dtype, device=images.device)[:, None, None]
    return (images - mean) / std


def average_precision(scores: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]) -> float:
    """Mean, over the positives in order of falling score, of the precision down to each.

    Parameters
    ----------
    scores
        One score an example [N].
    positive
        Which examples are positive [N]; at least one.

    Returns
    -------
    float
        0..1.
    """
    hits = positive[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def predict(network: nn.Module, scenes: Sequence[Scene]) -> npt.NDArray[np.float32]:
    """Run a network over whole scenes, resized to its input.

    Parameters
    ----------
    network
        Reference or judge, in eval mode.
    scenes
        The scenes.

    Returns
    -------
    ndarray
        Logits [N, labels].
    """
    logits = []
    with torch.inference_mode():
        for start in range(0, len(scenes), BATCH):
            pixels = np.stack([scene.image for scene in scenes[start : start + BATCH]])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
            logits.append(network(normalize(resize(images).float() / 255)).numpy())
    return np.concatenate(logits)


def score(network: nn.Module, scenes: Sequence[Scene]) -> Scores:
    """Measure the mean average precision of a network on whole scenes.

    Parameters
    ----------
    network
        Reference or judge, in eval mode.
    scenes
        Scenes in which every label occurs.

    Returns
    -------
    Scores
        Overall and per group.
    """
    logits = predict(network, scenes)
    truth = np.array([[label in scene.labels for label in LABELS] for scene in scenes])
    precision = {label: average_precision(logits[:, k], truth[:, k]) for k, label in enumerate(LABELS)}

    def mean(labels: Sequence[str]) -> float:
        return float(np.mean([precision[label] for label in labels]))

    return Scores(mean(LABELS), mean(SHAPES), mean(TEXTURES), mean(COLORS))
