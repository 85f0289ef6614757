"""Running pairs in micro-batches: what goes together, what fits, and what becomes of a pair that does not end well."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from accentor.engine.accentuation import Accentuation, SweepPoint
from accentor.engine.canvas import ImageLike, fit_canvas
from accentor.engine.couplings import Coupling
from accentor.engine.crops import Augmentation, Stream
from accentor.engine.features import Objective, inline, layers_of, notes_of
from accentor.engine.memory import micro_batch as fitting_micro_batch
from accentor.engine.models import Model
from accentor.engine.models.devices import is_out_of_memory, repeating
from accentor.engine.opacity import opacity_of
from accentor.engine.optimize import Outcome, Problem, optimize
from accentor.engine.outputs.pictures import to_bytes
from accentor.engine.precision import choose_precision
from accentor.engine.schedule import snapshot_steps, steps_needed, strength_step
from accentor.engine.stopping import Frame
from accentor.errors import (
    InvalidRecipeError,
    InvalidRequestError,
    JobError,
    NotDifferentiableError,
    NotFiniteError,
    OutOfMemoryError,
    RequestError,
)
from accentor.spec import Feature, Recipe, Snapshot
from accentor.spec.jobs import MAX_SEED

REPORT_S = 0.2
"""Seconds between two reports of how far a run is, at least."""

WAITING = 4
"""Micro-batches of decoded images that may wait for others of their canvas size."""

MET_NOTE = "the seed already meets the activation target: no step was taken"
DEAD_NOTE = "the feature's gradient was zero on every crop: it is dead on this image"
REDIRECTED_NOTE = "the gradient was redirected through ReLUs that are off"

_REFUSALS = ("derivative for", "modified by an inplace operation", "does not require grad")
"""What autograd says of an operation without a derivative, of one in place that it needs, and of a result cut off."""

Ending = Accentuation | JobError | RequestError


@dataclass(frozen=True)
class Pair:
    """A feature to accentuate in an image, with the random seed of its crops and noise.

    ``image`` is a path, the bytes of an image file, a PIL image, or a float tensor [C, H, W] in 0..1. ``stop_at`` is
    this pair's own activation target, instead of the recipe's.
    """

    image: ImageLike
    feature: Feature
    seed: int = 0
    stop_at: float | None = None


@dataclass(frozen=True)
class StepReport:
    """How far a micro-batch is: the pairs' indices, and the feature's value of each over the crops of this step.

    ``step`` counts from 1 to ``steps``; those in which a sweep suppresses the feature come last. ``images()`` gives the
    pictures of the pairs as they are now, uint8 [C, H, W] on the CPU.
    """

    indices: tuple[int, ...]
    step: int
    steps: int
    values: tuple[float, ...]
    images: Callable[[], list[Tensor]] = field(default=list, repr=False, compare=False)


OnStep = Callable[[StepReport], None]


@dataclass(frozen=True)
class Ready:
    """A pair that was checked: its feature with every number in it, and its image on the canvas."""

    index: int
    feature: Feature
    resolved: Feature
    seed: int
    stop_at: float | None
    pixels: Tensor


class Group(NamedTuple):
    """What pairs that run together share: the canvas [C, H, W], how deep they reach, whether batch norms are folded."""

    shape: torch.Size
    depth: int
    folded: bool


def prepare(model: Model, index: int, pair: Pair, recipe: Recipe) -> Ready:
    """Check a pair and decode its image.

    Raises
    ------
    RequestError
        If the recipe, the feature, the random seed or the image is wrong.
    """
    model.card.check_recipe(recipe)
    resolved = model.card.resolve(inline(pair.feature, model.card))
    if isinstance(pair.seed, bool) or not (isinstance(pair.seed, int) and 0 <= pair.seed <= MAX_SEED):
        raise InvalidRequestError(f"the random seed is {pair.seed!r}: expected a whole number, 0 to {MAX_SEED}")
    pixels = fit_canvas(pair.image, model.card.canvas_size(recipe), model.card.channels)
    if recipe.strengths and pair.stop_at is not None:
        raise InvalidRequestError("the recipe has strengths: give no stop_at with it, each says when an image is kept")
    if pair.stop_at is not None and not (isinstance(pair.stop_at, int | float) and math.isfinite(pair.stop_at)):
        raise InvalidRequestError(f"stop_at is {pair.stop_at!r}: expected a finite number, or none")
    stop_at = recipe.stop_at if pair.stop_at is None else pair.stop_at
    return Ready(index, pair.feature, resolved, pair.seed, stop_at, pixels)


class Runner:
    """Runs a stream of pairs with one recipe: those of the same canvas and depth together, as many as fit.

    Parameters
    ----------
    model, recipe
        What all pairs share.
    micro_batch
        Pairs optimised at once; none: found from ``memory``.
    memory
        Bound on what is allocated on the device; see `accentor.engine.memory.micro_batch`.
    on_step
        Told how far a micro-batch is.
    coupling
        Added to f; then ``micro_batch`` is the number of pairs, which all have one canvas size.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        *,
        micro_batch: int | None = None,
        memory: str | int | None = None,
        on_step: OnStep | None = None,
        coupling: Coupling | None = None,
    ) -> None:
        if micro_batch is not None and micro_batch < 1:
            raise InvalidRequestError(f"micro_batch is {micro_batch}: expected at least 1")
        self._model = model
        self._recipe = recipe
        self._wanted = micro_batch
        self._memory = memory
        self._on_step = on_step
        self._raised: Exception | None = None
        self._coupling = coupling
        self._sizes: dict[Group, int] = {}
        shown = recipe.opacity_feature
        self._shown = None if shown is None else model.card.resolve(inline(shown, model.card))
        with _memory_told(f"{model.card.name} does not fit the memory"):
            self._folded = model.folded()
            self._precision = _cast(self._folded, recipe).precision

    def run(self, pairs: Iterable[Pair]) -> Iterator[tuple[int, Ending]]:
        """Yield the index of every pair with its ending, in the order in which they end."""
        waiting: dict[Group, list[Ready]] = defaultdict(list)
        for index, pair in enumerate(pairs):
            try:
                ready = prepare(self._model, index, pair, self._recipe)
            except RequestError as error:
                yield index, error
                continue
            group = self._group(ready)
            waiting[group].append(ready)
            if len(waiting[group]) >= self._size(group, ready):
                yield from self._run_all(group, waiting.pop(group))
            elif sum(map(len, waiting.values())) >= WAITING * self._size(group, ready):
                fullest = max(waiting, key=lambda one: len(waiting[one]))
                yield from self._run_all(fullest, waiting.pop(fullest))
        for group, members in waiting.items():
            yield from self._run_all(group, members)

    def _group(self, one: Ready) -> Group:
        """Return what the pair shares with those that may run beside it."""
        if self._coupling is not None:
            return Group(one.pixels.shape, 0, folded=False)
        folded = self._folded.folded_layers.isdisjoint(self._read_layers(one))
        return Group(one.pixels.shape, self._model.depth(self._layers(one)), folded)

    def _layers(self, one: Ready) -> frozenset[str]:
        return layers_of(one.resolved) | (layers_of(self._shown) if self._shown is not None else frozenset())

    def _read_layers(self, one: Ready) -> frozenset[str]:
        """Return the layers of the pair's features, and those of R."""
        return self._layers(one) | frozenset(self._model.card.regularization_layers(self._recipe))

    def _network(self, group: Group) -> Model:
        """Return what the steps of a group run through."""
        return _cast(self._folded if group.folded else self._model, self._recipe)

    def _size(self, group: Group, one: Ready) -> int:
        """Return how many pairs of a group run at once."""
        if group not in self._sizes:
            canvas = (group.shape[1], group.shape[2])
            layers = self._read_layers(one)
            with _memory_told(f"one crop of {canvas[1]} × {canvas[0]} pixels does not fit the memory"):
                self._sizes[group] = self._wanted or fitting_micro_batch(
                    self._network(group), layers, self._recipe, canvas, self._memory
                )
        return self._sizes[group]

    def _run_all(self, group: Group, members: Sequence[Ready]) -> Iterator[tuple[int, Ending]]:
        """Run one micro-batch after the other; one that is too large for the memory is halved, for good."""
        if self._coupling is not None and len(members) != self._wanted:
            raise InvalidRequestError(
                f"{self._wanted} pairs are coupled, {len(members)} of them have a canvas of {list(group.shape)}: "
                "expected images of one aspect"
            )
        start = 0
        alone = False
        while start < len(members):
            part = members[start : start + (1 if alone else self._sizes[group])]
            try:
                endings = self._run_together(group, part)
            except RuntimeError as error:
                if error is self._raised or not is_out_of_memory(error):
                    raise
                if len(part) > 1 and self._coupling is None:
                    self._sizes[group] = len(part) // 2
                    continue
                detail = f"{self._recipe.crops} crops of {len(part)} pair(s) do not fit the memory: {error}"
                endings = [OutOfMemoryError(detail)] * len(part)
            except NotDifferentiableError as error:
                if error is self._raised:
                    raise
                if len(part) > 1 and self._coupling is None:
                    alone = True
                    continue
                endings = [NotDifferentiableError(error.detail)] * len(part)
            yield from zip((one.index for one in part), endings, strict=True)
            start += len(part)

    def _run_together(self, group: Group, part: Sequence[Ready]) -> Sequence[Ending]:
        started = time.perf_counter()
        network = self._network(group)
        up = self._optimize(network, part)
        down = self._optimize(network, part, suppress=True) if steps_needed(self._recipe, suppress=True) else None
        seconds = (time.perf_counter() - started) / len(part)
        return [self._ending(one, row, up, down, seconds) for row, one in enumerate(part)]

    @torch.inference_mode(mode=False)
    @torch.enable_grad()
    def _optimize(self, network: Model, part: Sequence[Ready], *, suppress: bool = False) -> Outcome:
        recipe, card, device = self._recipe, self._model.card, self._model.device
        features = [-one.resolved if suppress else one.resolved for one in part]
        steps = steps_needed(recipe, suppress=suppress)
        seeds = torch.stack([one.pixels for one in part]).to(device)
        canvas = (seeds.shape[2], seeds.shape[3])
        streams = [Stream(one.seed, recipe, canvas, device) for one in part]
        problem = Problem(
            model=self._model,
            network=network,
            objective=Objective(features, card, device),
            seeds=seeds,
            recipe=recipe,
            shown=None if self._shown is None else Objective([self._shown] * len(part), card, device),
            stop_at=self._targets(part),
            coupling=self._coupling,
        )
        augmentation = Augmentation(streams, recipe, canvas, card.input_size, card.channels)
        with self._model.frozen(), network.frozen(), repeating(device):
            try:
                return optimize(problem, augmentation, steps=steps, on_step=self._reporter(part, suppress=suppress))
            except RuntimeError as error:
                if error is self._raised or not _is_of_gradients(error):
                    raise
                raise NotDifferentiableError(f"the network has no gradient here: {error}") from error

    def _targets(self, part: Sequence[Ready]) -> Tensor | None:
        """Return the activation targets [N], infinite for a pair without one; none if no pair has one."""
        if all(one.stop_at is None for one in part):
            return None
        return torch.tensor(
            [torch.inf if one.stop_at is None else one.stop_at for one in part], device=self._model.device
        )

    def _reporter(self, part: Sequence[Ready], *, suppress: bool) -> Callable[[int, Tensor, Tensor], None] | None:
        tell = self._on_step
        if tell is None:
            return None
        told = time.monotonic()
        indices = tuple(one.index for one in part)
        up, down = (steps_needed(self._recipe, suppress=less) for less in (False, True))

        def reach(step: int, values: Tensor, images: Tensor) -> None:
            nonlocal told
            now = time.monotonic()
            taken = up + step if suppress else step
            if now - told >= REPORT_S or taken == up + down:
                told = now
                own = tuple((-values if suppress else values).tolist())
                report = StepReport(indices, taken, up + down, own, lambda: list(to_bytes(images).cpu()))
                with self._callers():
                    tell(report)

        return reach

    @contextmanager
    def _callers(self) -> Iterator[None]:
        """Remember what the caller's own code raises, lest it be taken for an error of the run."""
        try:
            yield
        except Exception as error:
            self._raised = error
            raise

    def _ending(self, one: Ready, row: int, up: Outcome, down: Outcome | None, seconds: float) -> Ending:
        stopped = up.stopped[row]
        last = self._recipe.steps if stopped is None else stopped
        marks = {0, last, *snapshot_steps(self._recipe)}
        frames = [frame for frame in up.frames if frame.step in marks and frame.step <= last]
        if stopped is not None and frames[-1].step < stopped:
            frames.append(replace(up.reached, step=stopped))
        pixels = frames[-1].images[row].cpu()
        used = [*(up.frames if stopped is None else frames), *(down.frames if down is not None else ())]
        if frames[-1].step < last or not all(_is_finite(frame, row) for frame in used):
            return NotFiniteError(
                f"{one.feature} became NaN or infinite; try a lower learning rate than {self._recipe.learning_rate:g}"
            )
        accumulated = tuple(frame.accumulated[row].cpu() for frame in frames)
        return Accentuation(
            feature=one.feature,
            recipe=self._recipe,
            seed=one.seed,
            source=one.pixels if self._recipe.start == "seed" else frames[0].images[row].cpu(),
            pixels=pixels,
            opacity=opacity_of(
                frames[-1].accumulated[row][None], self._recipe.opacity_percentile, self._recipe.opacity_blur
            )[0].cpu(),
            trajectory=tuple(_snapshot(frame, row) for frame in frames),
            snapshots=tuple(to_bytes(frame.images[row]).cpu() for frame in frames),
            model_digest=self._model.card.digest,
            device=str(self._model.device),
            seconds=seconds,
            notes=self._notes(one, last, dead=not bool(accumulated[-1].any())),
            accumulated=accumulated,
            sweep=self._sweep(row, up, down),
            model=self._model.card.name,
            precision=self._precision,
            stopped_at=stopped,
        )

    def _notes(self, one: Ready, last: int, *, dead: bool) -> tuple[str, ...]:
        notes = list(notes_of(one.resolved))
        if last == 0:
            return (*notes, MET_NOTE)
        if self._recipe.redirected_relu:
            notes.append(REDIRECTED_NOTE)
        if dead:
            notes.append(DEAD_NOTE)
        return tuple(notes)

    def _sweep(self, row: int, up: Outcome, down: Outcome | None) -> tuple[SweepPoint, ...]:
        """Return the images at the recipe's strengths; those of the suppressed feature with its own value."""
        points = []
        for strength in self._recipe.strengths:
            step = strength_step(self._recipe, strength)
            outcome, sign = (down, -1.0) if strength < 0 and down is not None else (up, 1.0)
            frame = next(frame for frame in outcome.frames if frame.step == step)
            snapshot = _snapshot(frame, row)
            value = sign * snapshot.value
            points.append(SweepPoint(strength, step, value, snapshot.distance, to_bytes(frame.images[row]).cpu()))
        return tuple(points)


def _cast(model: Model, recipe: Recipe) -> Model:
    """Return the model in the precision that its steps run in; float32 if it only runs in that."""
    precision = choose_precision(recipe, model.device)
    try:
        return model.cast(precision)
    except InvalidRecipeError:
        if recipe.precision != "auto" or precision == torch.float32:
            raise
        return model.cast(torch.float32)


@contextmanager
def _memory_told(what: str) -> Iterator[None]:
    """Raise `OutOfMemoryError` with what did not fit in place of the many that PyTorch has for it."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{what}: {error}") from error


def _is_of_gradients(error: RuntimeError) -> bool:
    """Tell whether autograd says that the network cannot be differentiated."""
    return any(text in str(error) for text in _REFUSALS)


def _snapshot(frame: Frame, row: int) -> Snapshot:
    return Snapshot(step=frame.step, value=frame.value[row].item(), distance=frame.distance[row].item())


def _is_finite(frame: Frame, row: int) -> bool:
    return all(bool(values[row].isfinite().all()) for values in (frame.value, frame.distance, frame.images))
