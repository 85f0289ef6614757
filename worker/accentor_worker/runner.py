"""Running a shard: a plain function that may be killed at any moment, and may be called twice.

The order makes it so: artefacts, then result.json, then the job's state. Whatever was not finished is found by the next
worker, and what has its result.json is never computed again.
"""

import logging
import mimetypes
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from accentor.errors import (
    AccentorError,
    InvalidRequestError,
    ModelChangedError,
    RequestError,
    ServiceError,
    TimeLimitError,
    UnexpectedError,
)
from accentor.spec import BatchSpec, Failure, JobState, Progress, Recipe
from accentor.state import dispatch
from accentor.storage.keys import artefact_key, batch_spec_key, result_key
from accentor_worker.lease import Lease
from accentor_worker.plan import Images, Item, Ready, by_recipe, chunks
from accentor_worker.services import Ending, LoadedModel, Services
from accentor_worker.watch import Left, Reason, Watch

FALLBACK_TYPE = "application/octet-stream"

logger = logging.getLogger(__name__)


def run_shard(services: Services, shard_id: str) -> None:
    """Run the unfinished jobs of a shard; do nothing if another worker has it, or if it has ended."""
    lease = Lease.take(services, shard_id)
    if lease is None:
        logger.info("shard %s has a worker or has ended", shard_id)
        return
    _hand_out(services)
    pause_s = 0.0
    with lease:
        try:
            _ShardRun(services, lease).run()
        except Left as left:
            logger.info("shard %s is left: %s", shard_id, left.reason)
        except ServiceError as error:
            pause_s = services.settings.lease_s
            logger.warning("shard %s is put back for %g s: %s", shard_id, pause_s, error)
    _let_go(services, lease, pause_s)
    _hand_out(services)


def _let_go(services: Services, lease: Lease, pause_s: float) -> None:
    """Give the shard back; what is left of it is sent again now, or by the sweep after the pause."""
    try:
        left = lease.release(due_s=pause_s or services.settings.republish_s)
        if left and not pause_s:
            services.publish(lease.shard)
    except ServiceError as error:
        logger.warning("shard %s is left to the sweep: %s", lease.shard.id, error)


def _hand_out(services: Services) -> None:
    try:
        dispatch(services.jobs, services.publish, services.settings)
    except ServiceError as error:
        logger.warning("nothing is handed out now: %s", error)
    except Exception:
        logger.exception("nothing is handed out now")


class _ShardRun:
    def __init__(self, services: Services, lease: Lease) -> None:
        self._services = services
        self._jobs = services.jobs
        self._objects = services.objects
        self._shard = lease.shard
        self._watch = Watch(services, lease)
        self._images = Images(services.objects, services.settings.max_image_pixels)
        self._ended = 0

    def run(self) -> None:
        started = time.monotonic()
        self._watch.check()
        todo, twins = self._plan()
        try:
            for recipe, items in by_recipe(todo).items():
                for chunk in chunks(self._decoded(items)):
                    self._watch.check()
                    self._accentuate(recipe, self._started(chunk))
        except Left as left:
            if left.reason is Reason.LATE and not self._ended:
                self._give_up(todo)
            raise
        for twin, first in twins:
            self._end_twin(twin, first)
        if self._ended:
            seconds = (time.monotonic() - started) / self._ended
            self._jobs.shards.note_speed(self._shard.lane, self._shard.model, seconds)

    def _unfinished(self) -> list[int]:
        states = self._jobs.job_states(self._shard.batch, self._shard.start, self._shard.stop)
        return [index for index, state in zip(self._shard.indices, states, strict=True) if not state.terminal]

    @cached_property
    def _model(self) -> LoadedModel:
        return self._services.models.get(self._shard.model)

    def _plan(self) -> tuple[list[Item], list[tuple[Item, Item]]]:
        """Return the jobs to compute, and those that ask for the same as one of these, each with that one."""
        left = self._unfinished()
        if not left:
            return [], []
        try:
            wanted = self._batch_spec().expand(self._model.card)
        except AccentorError as error:
            if isinstance(error, ServiceError):
                raise
            self._fail_all(left, error)
            return [], []
        items: dict[str, Item] = {}
        twins: list[tuple[Item, Item]] = []
        for index in left:
            try:
                spec = wanted[index]
                self._model.card.check_recipe(spec.recipe)
                item = Item(index, spec, spec.key(self._model.card))
            except RequestError as error:
                self._fail(index, error)
                continue
            if self._objects.exists(result_key(item.key)):
                self._jobs.finish_job(self._shard.batch, index, JobState.SUCCEEDED, cached=True)
            elif item.key in items:
                twins.append((item, items[item.key]))
            else:
                items[item.key] = item
        return list(items.values()), twins

    def _batch_spec(self) -> BatchSpec:
        submitted, loaded = self._jobs.model_digest(self._shard.batch), self._model.card.digest
        if submitted != loaded:
            raise ModelChangedError(
                f"the batch was submitted for the weights {submitted} of {self._shard.model}; this worker has {loaded}"
            )
        try:
            return BatchSpec.model_validate_json(self._objects.get(batch_spec_key(self._shard.batch)))
        except ValidationError as error:
            raise InvalidRequestError(f"the batch's specification is not valid here: {error}") from error

    def _decoded(self, items: Sequence[Item]) -> Iterator[Ready]:
        for item in items:
            self._watch.check()
            try:
                yield Ready(item, self._images.get(item.spec.image))
            except RequestError as error:
                self._fail(item.index, error)

    def _started(self, chunk: Sequence[Ready]) -> list[Ready]:
        started = set(self._jobs.start_jobs(self._shard.batch, [one.item.index for one in chunk]))
        return [one for one in chunk if one.item.index in started]

    def _accentuate(self, recipe: Recipe, ready: Sequence[Ready]) -> None:
        """Run jobs together; after an error that nobody foresaw, those that are left one by one."""
        if not ready:
            return
        left = dict(enumerate(ready))
        try:
            for position, ending in self._engine_call(recipe, ready):
                self._end(left[position].item, ending)
                del left[position]
                self._watch.check()
        except (Left, ServiceError):
            raise
        except Exception as error:  # noqa: BLE001
            if len(ready) == 1:
                self._fail(ready[0].item.index, _foreseen(error))
                return
            logger.warning("shard %s: %d jobs go on one by one after %r", self._shard.id, len(left), error)
            for one in left.values():
                self._accentuate(recipe, [one])

    def _engine_call(self, recipe: Recipe, ready: Sequence[Ready]) -> Iterator[tuple[int, Ending | AccentorError]]:
        pairs = [
            self._services.make_pair(image=one.image, feature=one.item.spec.feature, seed=one.item.spec.seed)
            for one in ready
        ]

        def on_step(report: Any) -> None:
            values = report.values or [None] * len(report.indices)
            self._watch.report(
                {
                    ready[position].item.index: Progress(step=report.step, steps=report.steps, value=value)
                    for position, value in zip(report.indices, values, strict=True)
                }
            )

        return self._services.accentuate(
            self._model, pairs, recipe, micro_batch=self._services.settings.micro_batch, on_step=on_step
        )

    def _end(self, item: Item, ending: Ending | AccentorError) -> None:
        if isinstance(ending, AccentorError):
            self._fail(item.index, ending)
            return
        for name, data in ending.files().items():
            content_type = mimetypes.guess_type(name)[0] or FALLBACK_TYPE
            self._objects.put(artefact_key(item.key, name), data, content_type=content_type)
        anonymous = item.spec.model_copy(update={"custom_id": None, "metadata": {}})
        result = ending.to_result(anonymous, item.key).model_dump_json().encode()
        self._objects.put(result_key(item.key), result, content_type="application/json")
        self._jobs.finish_job(self._shard.batch, item.index, JobState.SUCCEEDED)
        self._ended += 1

    def _end_twin(self, twin: Item, first: Item) -> None:
        """End a job as the one that asks for the same has ended; without an end it is left to the next worker."""
        if self._objects.exists(result_key(twin.key)):
            self._jobs.finish_job(self._shard.batch, twin.index, JobState.SUCCEEDED, cached=True)
        elif failure := self._jobs.failure(self._shard.batch, first.index):
            self._jobs.finish_job(self._shard.batch, twin.index, JobState.FAILED, failure=failure)

    def _give_up(self, todo: Sequence[Item]) -> None:
        """Fail what took all the time, the first job if no step was done: the next run has less to do."""
        limit = self._services.settings.task_soft_limit_s
        slow = self._watch.in_hand or [item.index for item in todo[:1]]
        self._fail_all(slow, TimeLimitError(f"not done after {limit} s, the limit for a shard"))

    def _fail_all(self, indices: Sequence[int], error: AccentorError) -> None:
        for index in indices:
            self._fail(index, error)

    def _fail(self, index: int, error: AccentorError) -> None:
        failure = Failure(code=error.code, detail=error.detail, attempts=self._shard.attempts + 1)
        self._jobs.finish_job(self._shard.batch, index, JobState.FAILED, failure=failure)


def _foreseen(error: Exception) -> AccentorError:
    """Return the error itself if it is one of ours, else an `UnexpectedError` with its type and message."""
    if isinstance(error, AccentorError):
        return error
    logger.error("a job failed in a way that nobody foresaw", exc_info=error)
    return UnexpectedError(f"{type(error).__name__}: {error}")
