"""Accentuating pairs of a feature and an image: one, a list, or a stream of them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from accentor.engine.accentuation import Accentuation
from accentor.engine.canvas import ImageLike
from accentor.engine.couplings import Coupling
from accentor.engine.models import Model
from accentor.engine.running import Ending, OnStep, Pair, Runner, StepReport, prepare
from accentor.errors import InvalidFeatureError, InvalidRequestError
from accentor.spec import Feature, Recipe, parse_feature, resolve_recipe
from accentor.spec.features import FeatureBase

FeatureLike = str | Feature
ImageT = TypeVar("ImageT", bound=ImageLike)
FeatureT = TypeVar("FeatureT", bound=FeatureLike)


@overload
def accentuate(
    model: Model,
    images: ImageLike,
    features: FeatureLike,
    recipe: str | Recipe = ...,
    *,
    seed: int | Sequence[int] = ...,
    device: str | None = ...,
    progress: bool = ...,
    micro_batch: int | None = ...,
    memory: str | int | None = ...,
    coupling: Coupling | None = ...,
) -> Accentuation: ...
@overload
def accentuate(
    model: Model,
    images: list[ImageT] | tuple[ImageT, ...],
    features: FeatureLike | list[FeatureT] | tuple[FeatureT, ...],
    recipe: str | Recipe = ...,
    *,
    seed: int | Sequence[int] = ...,
    device: str | None = ...,
    progress: bool = ...,
    micro_batch: int | None = ...,
    memory: str | int | None = ...,
    coupling: Coupling | None = ...,
) -> list[Accentuation]: ...
@overload
def accentuate(
    model: Model,
    images: ImageLike,
    features: list[FeatureT] | tuple[FeatureT, ...],
    recipe: str | Recipe = ...,
    *,
    seed: int | Sequence[int] = ...,
    device: str | None = ...,
    progress: bool = ...,
    micro_batch: int | None = ...,
    memory: str | int | None = ...,
    coupling: Coupling | None = ...,
) -> list[Accentuation]: ...
def accentuate(
    model: Model,
    images: ImageLike | Sequence[ImageLike],
    features: FeatureLike | Sequence[FeatureLike],
    recipe: str | Recipe = "natural",
    *,
    seed: int | Sequence[int] = 0,
    device: str | None = None,
    progress: bool = False,
    micro_batch: int | None = None,
    memory: str | int | None = None,
    coupling: Coupling | None = None,
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
        Random seed of the crops and the noise, or one for each pair. Given it, a run repeats on the same device.
    device
        Where to run, such as ``cuda:0``; none: where the model is.
    progress
        Whether to show a progress bar.
    micro_batch
        Pairs optimised at once; none: found by the engine. Results do not depend on it.
    memory
        Bound on what the engine allocates on the device, such as ``4GiB``; none: most of what a GPU has free.
    coupling
        A value of all pairs together that is added to their features, such as `Diversity`; they run as one batch.
        The values told in the results are the features' own.

    Returns
    -------
    Accentuation or list of Accentuation
        One for a single image, feature and seed, else a list in their order.

    Raises
    ------
    RequestError
        If the image, the feature or the recipe is wrong: the first that is, before anything is computed.
    JobError
        If an optimisation failed.
    """
    if not isinstance(model, Model):
        raise InvalidRequestError(f"the model is {model!r}: expected one from load_model")
    chosen = resolve_recipe(recipe)
    pairs = _pair_up(images, features, seed)
    model = model.to(device) if device is not None else model
    for index, pair in enumerate(pairs):
        prepare(model, index, pair, chosen)
    results: dict[int, Accentuation] = {}
    with _progress_bar(len(pairs), shown=progress) as advance:
        size = micro_batch if coupling is None else len(pairs)
        runner = Runner(model, chosen, micro_batch=size, memory=memory, on_step=advance, coupling=coupling)
        for index, ending in runner.run(pairs):
            if not isinstance(ending, Accentuation):
                raise ending
            results[index] = ending
            if advance is not None:
                advance(StepReport((index,), 1, 1, ()))
    ordered = [results[index] for index in range(len(pairs))]
    return ordered if any(map(_is_list, (images, features, seed))) else ordered[0]


def accentuate_pairs(
    model: Model,
    pairs: Iterable[Pair],
    recipe: Recipe,
    *,
    micro_batch: int | None = None,
    memory: str | int | None = None,
    on_step: OnStep | None = None,
) -> Iterator[tuple[int, Ending]]:
    """Accentuate a stream of pairs with one recipe, yielding each as its micro-batch ends.

    A pair that cannot be accentuated yields its own error and does not disturb the others. Only a few micro-batches of
    images are in memory at once, however many pairs there are.

    Parameters
    ----------
    model, recipe
        What all pairs share.
    pairs
        Any iterable; read as they are needed. Pairs of one canvas size run together, hence not quite in their order.
    micro_batch
        Pairs optimised at once; none: found by the engine. Results do not depend on it.
    memory
        Bound on what the engine allocates on the device, such as ``4GiB``; none: most of what a GPU has free.
    on_step
        Called a few times a second, and after the recipe's last step; what it raises ends the call.

    Yields
    ------
    tuple of int and Accentuation, JobError or RequestError
        The index of the pair, with its result or its error.
    """
    model.card.check_recipe(recipe)
    yield from Runner(model, recipe, micro_batch=micro_batch, memory=memory, on_step=on_step).run(pairs)


def _pair_up(
    images: ImageLike | Sequence[ImageLike],
    features: FeatureLike | Sequence[FeatureLike],
    seeds: int | Sequence[int],
) -> list[Pair]:
    """Pair up lists of one length; what is single goes with all."""
    given: dict[str, Any] = {"images": images, "features": features, "random seeds": seeds}
    counts = {name: len(value) for name, value in given.items() if _is_list(value)}
    if 0 in counts.values() or len(set(counts.values())) > 1:
        told = " and ".join(f"{len(value) if _is_list(value) else 1} {name}" for name, value in given.items())
        raise InvalidRequestError(f"{told} were given: expected at least one each, and lists equally long")
    count = next(iter(counts.values()), 1)
    columns = (value if _is_list(value) else [value] * count for value in given.values())
    return [Pair(image, as_feature(feature), seed) for image, feature, seed in zip(*columns, strict=True)]


def as_feature(value: FeatureLike) -> Feature:
    """Return a feature, or the one that a string form names; `InvalidFeatureError` for anything else."""
    if isinstance(value, str):
        return parse_feature(value)
    if isinstance(value, FeatureBase):
        return value
    raise InvalidFeatureError(f"{value!r} is no feature: expected a Feature, or its string form such as 'logit:207'")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[OnStep | None]:
    if not shown:
        yield None
        return
    from rich.progress import Progress

    done: dict[int, float] = {}
    with Progress() as bar:
        task = bar.add_task("accentuating", total=total)

        def advance(report: StepReport) -> None:
            done.update(dict.fromkeys(report.indices, report.step / report.steps))
            bar.update(task, completed=sum(done.values()))

        yield advance
