"""Training crops with labels that follow from the masks: what a crop does not show is not asked of it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from accentor.engine.reference import INPUT_SIZE
from accentor.engine.reference.scenes import LABELS, MIN_VISIBLE, SHAPES, TEXTURES, Scene, render_scene

RENDER_SIZE = 192
OWNER_STRIDE = 2
MAX_OBJECTS = 4
RENDER_CHUNK = 50

WIDE_SHARE = 0.4
WIDE_SIDES = (0.8, 1.0)
ALL_SIDES = (0.08, 1.0)

TRACE = 0.003
"""Below this share of the crop an object counts as absent; between it and the next two nothing is asked."""
COLOR_SHARE = 0.02
TEXTURE_SHARE = 0.025
TEXTURE_PERIODS = 1.6
SHAPE_TRACE = 0.04


class RenderedScene(NamedTuple):
    """What training keeps of a scene: uint8 pixels [3, H, W], owner map [h, w] (0 = ground), and per-object rows."""

    image: npt.NDArray[np.uint8]
    owner: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float32]
    periods: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SceneBank:
    """Rendered scenes in memory.

    Attributes
    ----------
    images
        uint8 [N, 3, H, W].
    owners
        Index of the object that owns each pixel plus one, 0 for the ground; uint8 [N, H / 2, W / 2].
    codes
        Logit index of every object's shape, texture and colour, -1 where there is no object; [N, 4, 3].
    areas
        Area of each whole object in owner pixels; [N, 4].
    periods
        Texture period of each object in sides of the scene; [N, 4].
    """

    images: Tensor
    owners: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float32]
    periods: npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Crops [B, 3, 112, 112] in 0..1, targets [B, labels] of 0 and 1, and the weights [B, labels] of what is asked."""

    images: Tensor
    targets: Tensor
    weights: Tensor


def _condense(scene: Scene) -> RenderedScene:
    height, width, _ = scene.image.shape
    owner = np.zeros((height, width), np.uint8)
    codes = np.full((MAX_OBJECTS, 3), -1, np.int64)
    areas = np.ones(MAX_OBJECTS, np.float32)
    periods = np.zeros(MAX_OBJECTS, np.float32)
    for index, item in enumerate(scene.objects):
        owner[item.mask] = index + 1
        codes[index] = [LABELS.index(label) for label in item.labels]
        areas[index] = item.mask.sum() / max(item.visible, 1e-6) / OWNER_STRIDE**2
        periods[index] = item.period
    coarse = owner[::OWNER_STRIDE, ::OWNER_STRIDE]
    return RenderedScene(scene.image.transpose(2, 0, 1), coarse, codes, areas, periods)


def _render_many(seeds: Sequence[int], size: int) -> list[RenderedScene]:
    return [_condense(render_scene(seed, size)) for seed in seeds]


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Keep the linear algebra of processes started meanwhile to one thread, lest they fight over the cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def render_bank(seeds: Sequence[int], processes: int, size: int = RENDER_SIZE) -> SceneBank:
    """Render scenes on several cores.

    Parameters
    ----------
    seeds
        One seed a scene.
    processes
        How many processes share the work; with 1 it is done in this one.
    size
        Side of the scenes in pixels.

    Returns
    -------
    SceneBank
        The scenes in the order of the seeds.
    """
    chunks = [seeds[start : start + RENDER_CHUNK] for start in range(0, len(seeds), RENDER_CHUNK)]
    rendered: Iterable[list[RenderedScene]]
    if processes == 1:
        rendered = [_render_many(chunk, size) for chunk in chunks]
    else:
        with _single_threaded_children(), ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            rendered = list(pool.map(partial(_render_many, size=size), chunks))
    columns = [np.stack(column) for column in zip(*(scene for chunk in rendered for scene in chunk), strict=True)]
    return SceneBank(torch.from_numpy(columns[0]), *columns[1:])


def _inside(owner: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.bincount(owner.ravel(), minlength=MAX_OBJECTS + 1)[1:].astype(np.float32)


def crop_targets(
    inside: npt.NDArray[np.float32],
    crop_areas: npt.NDArray[np.float32],
    sides: npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    areas: npt.NDArray[np.float32],
    periods: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Derive what crops show from how much of each object they hold.

    A shape is present when 60 % of the object is in the crop, a colour or a texture when it fills enough of the crop,
    a texture only when the crop spans its period. What is there but not readable gets no weight.

    Parameters
    ----------
    inside
        Owner pixels of each object in the crop [B, 4].
    crop_areas
        Owner pixels of the crop [B].
    sides
        Side of the crop in sides of the scene [B].
    codes, areas, periods
        The rows of `SceneBank` that the crops come from.

    Returns
    -------
    tuple
        Targets and weights, both [B, labels] of 0 and 1.
    """
    share = inside / crop_areas[:, None]
    part = inside / areas
    spanned = sides[:, None] >= TEXTURE_PERIODS * periods
    readable = np.stack([part >= MIN_VISIBLE, (share >= TEXTURE_SHARE) & spanned, share >= COLOR_SHARE], axis=2)
    traced = np.stack([part >= SHAPE_TRACE, share >= TRACE, share >= TRACE], axis=2)
    exists = codes >= 0
    rows = np.broadcast_to(np.arange(len(codes))[:, None, None], codes.shape)
    targets = np.zeros((len(codes), len(LABELS)), np.float32)
    weights = np.ones_like(targets)
    doubtful = exists & traced & ~readable
    weights[rows[doubtful], codes[doubtful]] = 0
    unspanned = (exists[:, :, 1] & traced[:, :, 1] & ~spanned).any(axis=1)
    weights[unspanned, len(SHAPES) : len(SHAPES) + len(TEXTURES)] = 0
    present = exists & readable
    targets[rows[present], codes[present]] = 1
    weights[rows[present], codes[present]] = 1
    return targets, weights


def sample_batch(bank: SceneBank, count: int, rng: np.random.Generator) -> Batch:
    """Draw random crops of random scenes, half of them mirrored.

    Parameters
    ----------
    bank
        The scenes.
    count
        How many crops.
    rng
        Source of the choice.

    Returns
    -------
    Batch
        Crops resized to the networks' input, with targets and weights.
    """
    chosen = rng.integers(len(bank.images), size=count)
    wide = rng.random(count) < WIDE_SHARE
    fractions = np.where(wide, rng.uniform(*WIDE_SIDES, count), rng.uniform(*ALL_SIDES, count))
    size = bank.images.shape[-1]
    sides = (fractions * size / OWNER_STRIDE).astype(int).clip(2)
    corners = (rng.random((count, 2)) * (size // OWNER_STRIDE - sides[:, None] + 1)).astype(int)
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    crops, inside = [], []
    for index, side, (top, left) in zip(chosen, sides, corners, strict=True):
        y, x, length = top * OWNER_STRIDE, left * OWNER_STRIDE, side * OWNER_STRIDE
        crop = bank.images[index, :, y : y + length, x : x + length]
        crops.append(resize(crop[None]))
        inside.append(_inside(bank.owners[index, top : top + side, left : left + side]))
    targets, weights = crop_targets(
        np.stack(inside),
        (sides**2).astype(np.float32),
        (sides * OWNER_STRIDE / size).astype(np.float32),
        bank.codes[chosen],
        bank.areas[chosen],
        bank.periods[chosen],
    )
    images = torch.cat(crops).float() / 255
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return Batch(images, torch.from_numpy(targets), torch.from_numpy(weights))


def resize(images: Tensor) -> Tensor:
    """Resize images [B, 3, H, W] to the networks' input size, antialiased."""
    return functional.interpolate(images, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True)
