"""Accentuating pairs of a feature and an image: one, a list, or a stream of them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from accentor.engine.accentuation import Accentuation, to_bytes
from accentor.engine.crops import Augmentation, Stream
from accentor.engine.features import Objective, inline, layers_of
from accentor.engine.models import Model
from accentor.engine.opacity import opacity_map
from accentor.engine.optimize import Outcome, Problem, optimize
from accentor.errors import (
    InvalidFeatureError,
    InvalidImageError,
    InvalidRequestError,
    JobError,
    NotDifferentiableError,
    NotFiniteError,
    OutOfMemoryError,
    RequestError,
)
from accentor.images import check_size, open_image
from accentor.spec import (
    Channel,
    Direction,
    Feature,
    Logit,
    Neuron,
    Recipe,
    Snapshot,
    Sum,
    parse_feature,
    resolve_recipe,
)
from accentor.spec.jobs import MAX_SEED

CPU_MICRO_BATCH = 1
GPU_MICRO_BATCH = 8
REPORT_S = 0.2
"""Seconds between two reports of how far a run is, at least."""

DEAD_NOTE = "the feature's gradient was zero on every crop: it is dead on this image, nothing was changed"

ImageLike = str | Path | bytes | Image.Image | Tensor
FeatureLike = str | Feature
ImageT = TypeVar("ImageT", bound=ImageLike)
FeatureT = TypeVar("FeatureT", bound=FeatureLike)


@dataclass(frozen=True)
class Pair:
    """A feature to accentuate in an image, with the random seed of its crops and noise.

    ``image`` is a path, the bytes of an image file, a PIL image, or a float tensor [3, H, W] in 0..1.
    """

    image: ImageLike
    feature: Feature
    seed: int = 0


@dataclass(frozen=True)
class StepReport:
    """How far a micro-batch is: the pairs' indices, and the feature's value of each over the crops of this step."""

    indices: tuple[int, ...]
    step: int
    steps: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class _Ready:
    index: int
    feature: Feature
    resolved: Feature
    seed: int
    pixels: Tensor


OnStep = Callable[[StepReport], None]
Ending = Accentuation | JobError | RequestError


@overload
def accentuate(
    model: Model,
    images: ImageLike,
    features: FeatureLike,
    recipe: str | Recipe = ...,
    *,
    seed: int = ...,
    device: str | None = ...,
    progress: bool = ...,
    micro_batch: int | None = ...,
) -> Accentuation: ...
@overload
def accentuate(
    model: Model,
    images: list[ImageT] | tuple[ImageT, ...],
    features: FeatureLike | list[FeatureT] | tuple[FeatureT, ...],
    recipe: str | Recipe = ...,
    *,
    seed: int = ...,
    device: str | None = ...,
    progress: bool = ...,
    micro_batch: int | None = ...,
) -> list[Accentuation]: ...
@overload
def accentuate(
    model: Model,
    images: ImageLike,
    features: list[FeatureT] | tuple[FeatureT, ...],
    recipe: str | Recipe = ...,
    *,
    seed: int = ...,
    device: str | None = ...,
    progress: bool = ...,
    micro_batch: int | None = ...,
) -> list[Accentuation]: ...
def accentuate(
    model: Model,
    images: ImageLike | Sequence[ImageLike],
    features: FeatureLike | Sequence[FeatureLike],
    recipe: str | Recipe = "natural",
    *,
    seed: int = 0,
    device: str | None = None,
    progress: bool = False,
    micro_batch: int | None = None,
) -> Accentuation | list[Accentuation]:
    """Show what features respond to in images, and where.

    Parameters
    ----------
    model
        From `load_model`.
    images
        A path, the bytes of an image file, a PIL image or a float tensor [3, H, W] in 0..1; or a list of these.
    features
        A feature or its string form, such as ``logit:207``; or a list. Lists pair up; one of a single goes with all.
    recipe
        A preset's name, or a `Recipe`.
    seed
        Random seed of the crops and the noise. Given it, a run repeats on the same device.
    device
        Where to run, such as ``cuda:0``; none: where the model is.
    progress
        Whether to show a progress bar.
    micro_batch
        Pairs optimised at once; none: found by the engine. Results do not depend on it.

    Returns
    -------
    Accentuation or list of Accentuation
        One for a single image and feature, else a list in their order.

    Raises
    ------
    RequestError
        If the image, the feature or the recipe is wrong: the first that is, before anything is computed.
    JobError
        If an optimisation failed.
    """
    chosen = resolve_recipe(recipe)
    pairs = _pair_up(images, features, seed)
    model = model.to(device) if device is not None else model
    ready = [_prepare(model, index, pair, chosen) for index, pair in enumerate(pairs)]
    results: dict[int, Accentuation] = {}
    with _progress_bar(len(pairs) * chosen.steps, shown=progress) as advance:
        for index, ending in _run(model, ready, chosen, micro_batch, advance):
            if not isinstance(ending, Accentuation):
                raise ending
            results[index] = ending
    ordered = [results[index] for index in range(len(pairs))]
    return ordered if _is_list(images) or _is_list(features) else ordered[0]


def accentuate_pairs(
    model: Model,
    pairs: Sequence[Pair],
    recipe: Recipe,
    *,
    micro_batch: int | None = None,
    on_step: OnStep | None = None,
) -> Iterator[tuple[int, Ending]]:
    """Accentuate many pairs with one recipe, yielding each as its micro-batch ends.

    A pair that cannot be accentuated yields its own error and does not disturb the others.

    Parameters
    ----------
    model, pairs, recipe
        All images are decoded before the first pair runs, and kept: 3 MiB each at 512 px.
    micro_batch
        Pairs optimised at once; none: found by the engine. Results do not depend on it.
    on_step
        Called a few times a second, and after the last step; what it raises ends the call.

    Yields
    ------
    tuple of int and Accentuation, JobError or RequestError
        The index of the pair, with its result or its error.
    """
    model.card.check_recipe(recipe)
    ready: list[_Ready] = []
    for index, pair in enumerate(pairs):
        try:
            ready.append(_prepare(model, index, pair, recipe))
        except RequestError as error:
            yield index, error
    yield from _run(model, ready, recipe, micro_batch, on_step)


def _run(
    model: Model, ready: Sequence[_Ready], recipe: Recipe, micro_batch: int | None, on_step: OnStep | None
) -> Iterator[tuple[int, Ending]]:
    """Run pairs of the same canvas and depth together, so that an early feature costs its share of the network."""
    if micro_batch is not None and micro_batch < 1:
        raise InvalidRequestError(f"micro_batch is {micro_batch}: expected at least 1")
    groups: dict[tuple[torch.Size, int], list[_Ready]] = defaultdict(list)
    for one in ready:
        groups[one.pixels.shape, model.depth(layers_of(one.resolved))].append(one)
    size = micro_batch or (CPU_MICRO_BATCH if model.device.type == "cpu" else GPU_MICRO_BATCH)
    for group in groups.values():
        yield from _run_group(model, group, recipe, size, on_step)


def _run_group(
    model: Model, group: Sequence[_Ready], recipe: Recipe, size: int, on_step: OnStep | None
) -> Iterator[tuple[int, Ending]]:
    """Run one micro-batch after the other; one that is too large for the memory is halved, for good."""
    start = 0
    while start < len(group):
        part = group[start : start + size]
        try:
            endings = _run_micro_batch(model, part, recipe, on_step)
        except torch.OutOfMemoryError as error:
            if size > 1:
                size //= 2
                continue
            endings = [OutOfMemoryError(f"{recipe.crops} crops of one pair do not fit the memory: {error}")]
        except NotDifferentiableError as error:
            if len(part) > 1:
                size = 1
                continue
            endings = [error]
        yield from zip((one.index for one in part), endings, strict=True)
        start += len(part)


def _run_micro_batch(model: Model, part: Sequence[_Ready], recipe: Recipe, on_step: OnStep | None) -> Sequence[Ending]:
    started = time.perf_counter()
    seeds = torch.stack([one.pixels for one in part]).to(model.device)
    canvas = (seeds.shape[2], seeds.shape[3])
    streams = [Stream(one.seed, recipe, canvas, model.device) for one in part]
    augmentation = Augmentation(streams, recipe, canvas, model.card.input_size)
    objective = Objective([one.resolved for one in part], model.card, model.device)
    problem = Problem(model, objective, seeds, recipe)
    with model.frozen():
        outcome = optimize(problem, augmentation, on_step=_reporter(part, recipe, on_step))
    opacity = opacity_map(outcome.accumulated, recipe.opacity_percentile, recipe.opacity_blur).cpu()
    seconds = (time.perf_counter() - started) / len(part)
    return [_ending(model, one, row, outcome, opacity[row], recipe, seconds) for row, one in enumerate(part)]


def _ending(
    model: Model, one: _Ready, row: int, outcome: Outcome, opacity: Tensor, recipe: Recipe, seconds: float
) -> Ending:
    pixels = outcome.frames[-1].images[row].cpu()
    trajectory = tuple(
        Snapshot(step=frame.step, value=frame.value[row].item(), distance=frame.distance[row].item())
        for frame in outcome.frames
        if frame.value[row].isfinite() and frame.distance[row].isfinite()
    )
    if len(trajectory) < len(outcome.frames) or not pixels.isfinite().all():
        return NotFiniteError(
            f"{one.feature} became NaN or infinite; try a lower learning rate than {recipe.learning_rate:g}"
        )
    return Accentuation(
        feature=one.feature,
        recipe=recipe,
        seed=one.seed,
        source=one.pixels,
        pixels=pixels,
        opacity=opacity,
        trajectory=trajectory,
        snapshots=tuple(to_bytes(frame.images[row]).cpu() for frame in outcome.frames),
        model_digest=model.card.digest,
        device=str(model.device),
        seconds=seconds,
        notes=() if outcome.accumulated[row].any() else (DEAD_NOTE,),
    )


def _prepare(model: Model, index: int, pair: Pair, recipe: Recipe) -> _Ready:
    model.card.check_recipe(recipe)
    resolved = model.card.resolve(inline(pair.feature))
    if not (isinstance(pair.seed, int) and 0 <= pair.seed <= MAX_SEED):
        raise InvalidRequestError(f"the random seed is {pair.seed!r}: expected a whole number, 0 to {MAX_SEED}")
    return _Ready(index, pair.feature, resolved, pair.seed, fit_canvas(pair.image, model.card.canvas_size(recipe)))


def fit_canvas(image: ImageLike, longer_side: int) -> Tensor:
    """Return the image as float [3, H, W] in 0..1 with this longer side, its aspect kept, antialiased."""
    pixels = _as_tensor(image) if isinstance(image, Tensor) else _pixels_of(open_image(image))
    height, width = pixels.shape[-2:]
    scale = longer_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size == (height, width):
        return pixels
    return interpolate(pixels[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0.0, 1.0)


def _pixels_of(image: Image.Image) -> Tensor:
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255


def _as_tensor(image: Tensor) -> Tensor:
    if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise InvalidImageError(
            f"the image is a tensor of shape {list(image.shape)} and {image.dtype}: expected float [3, H, W] in 0..1"
        )
    check_size(image.shape[2], image.shape[1], "the image")
    low, high = image.min().item(), image.max().item()
    if not (low >= 0.0 and high <= 1.0):
        raise InvalidImageError(f"the image holds values {low:g} to {high:g}: expected 0 to 1")
    return image.detach().float().cpu()


def _pair_up(
    images: ImageLike | Sequence[ImageLike], features: FeatureLike | Sequence[FeatureLike], seed: int
) -> list[Pair]:
    left = _listed(images)
    right = [_feature_of(feature) for feature in _listed(features)]
    if not left or not right:
        raise InvalidRequestError(
            f"{len(left)} images and {len(right)} features were given: expected at least one each"
        )
    left = left * len(right) if not _is_list(images) else left
    right = right * len(left) if not _is_list(features) else right
    if len(left) != len(right):
        raise InvalidRequestError(f"{len(left)} images and {len(right)} features were given: expected equally many")
    return [Pair(image, feature, seed) for image, feature in zip(left, right, strict=True)]


def _feature_of(value: object) -> Feature:
    if isinstance(value, str):
        return parse_feature(value)
    if isinstance(value, Logit | Channel | Neuron | Direction | Sum):
        return value
    raise InvalidFeatureError(f"{value!r} is no feature: expected a Feature, or its string form such as 'logit:207'")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _listed(value: Any) -> list[Any]:
    return list(value) if _is_list(value) else [value]


def _reporter(part: Sequence[_Ready], recipe: Recipe, on_step: OnStep | None) -> Callable[[int, Tensor], None] | None:
    if on_step is None:
        return None
    told = time.monotonic()
    indices = tuple(one.index for one in part)

    def report(step: int, values: Tensor) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= REPORT_S or step == recipe.steps:
            told = now
            on_step(StepReport(indices, step, recipe.steps, tuple(values.tolist())))

    return report


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[OnStep | None]:
    if not shown:
        yield None
        return
    from rich.progress import Progress

    done: dict[int, int] = {}
    with Progress() as bar:
        task = bar.add_task("accentuating", total=total)

        def advance(report: StepReport) -> None:
            done.update(dict.fromkeys(report.indices, report.step))
            bar.update(task, completed=sum(done.values()))

        yield advance
