"""Running a shard: a plain function that may be killed at any moment, and may be called twice.

The order makes it so: artefacts, then result.json, then the job's state. Whatever was not finished is found by the next
worker, and what has its result.json is never computed again.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from accentor.errors import (
    AccentorError,
    RequestError,
    ServiceError,
    StateUnavailableError,
    TimeLimitError,
    UnexpectedError,
)
from accentor.logs import current_shard
from accentor.spec import JobState, Progress, Recipe
from accentor.spec.atlases import AtlasBatch
from accentor.spec.scans import ScanBatch
from accentor.state import Shard, dispatch
from accentor_worker.atlases import AtlasWork
from accentor_worker.lease import BEATS_PER_LEASE, Lease
from accentor_worker.ledger import Ledger
from accentor_worker.pace import Pace
from accentor_worker.plan import Item, Ready, by_recipe, chunks
from accentor_worker.planner import Planner
from accentor_worker.preview import data_url
from accentor_worker.scans import ShardScan
from accentor_worker.services import Ending, Services
from accentor_worker.watch import Left, Reason, Watch

INTERLUDE_S = 0.25
"""Seconds between two looks for single jobs while a shard of a bulk batch runs."""

logger = logging.getLogger(__name__)


class DeviceLostError(BaseException):
    """Raised out of a run when the device computes no more in this process, which is to be replaced; no job's error."""


def run_shard(services: Services, shard_id: str) -> None:
    """Run the unfinished jobs of a shard; do nothing if another worker has it, or if it has ended.

    Single jobs of the interactive lane that wait for the same model are run with it.

    Raises
    ------
    DeviceLostError
        If the device computes no more; what is in hand counts as lost with this process.
    """
    token = current_shard.set(shard_id)
    try:
        lease = Lease.take(services, shard_id)
        if lease is None:
            logger.info("shard %s has a worker or has ended", shard_id)
            return
        _hand_out(services)
        _run(services, lease)
        _hand_out(services)
    finally:
        current_shard.reset(token)


def _run(services: Services, lease: Lease) -> None:
    """Run what is in hand, and give back what is left of it."""
    pause_s = 0.0
    names = ", ".join(shard.id for shard in lease.shards)
    with lease:
        try:
            ShardRun(services, lease).run()
        except Left as left:
            logger.info("%s: left, %s", names, left.reason)
        except ServiceError as error:
            pause_s = services.settings.lease_s
            logger.warning("%s: put back for %g s: %s", names, pause_s, error)
    for shard in lease.shards:
        _let_go(services, lease, shard, pause_s)


def _let_go(services: Services, lease: Lease, shard: Shard, pause_s: float) -> None:
    """Give a shard back; what is left of it is sent again now, or by the sweep after the pause."""
    left = _release(services, lease, shard, pause_s or services.settings.republish_s)
    if not left or pause_s:
        return
    try:
        services.publish(shard)
    except ServiceError as error:
        logger.warning("shard %s is left to the sweep: %s", shard.id, error)


def _release(services: Services, lease: Lease, shard: Shard, due_s: float) -> int:
    """Return the unfinished jobs of a shard that is let go, however long Redis is away: that is no death."""
    warned = False
    while True:
        try:
            return lease.release(shard, due_s=due_s)
        except StateUnavailableError as error:
            if not warned:
                logger.warning("shard %s cannot be put back yet: %s", shard.id, error)
            warned = True
        if services.stop.wait(services.settings.lease_s / BEATS_PER_LEASE):
            return 0


def _hand_out(services: Services) -> None:
    try:
        dispatch(services.jobs, services.publish, services.settings)
    except ServiceError as error:
        logger.warning("nothing is handed out now: %s", error)
    except Exception:
        logger.exception("nothing is handed out now")


class ShardRun:
    """The run of the shards of one lease: all of one lane of one model."""

    def __init__(self, services: Services, lease: Lease) -> None:
        self._services = services
        self._lease = lease
        self._shards = lease.shards
        self._lane, self._model_name = lease.shards[0].lane, lease.shards[0].model
        self._watch = Watch(services, lease)
        self._pace = Pace(services.jobs.measures, lease.shards[0].model)
        self._ledger = Ledger(services)
        self._planner = Planner(services, self._ledger, self._model_name)
        self._ended = 0
        self._work = 0
        self._elsewhere_s = 0.0
        self._next_interlude = 0.0

    def run(self) -> None:
        """Run every unfinished job, the single jobs that come in meanwhile first."""
        started = time.monotonic()
        self._watch.check()
        try:
            todo, twins = self._planner.plan(self._shards)
            self._compute(todo)
            for shard, jobs, batch in self._planner.works:
                self._work_on(shard, jobs, batch)
            for twin, first in twins:
                self._ledger.end_twin(twin, first)
        finally:
            self._ledger.tell()
        self._note_speed(time.monotonic() - started - self._elsewhere_s)

    def _compute(self, todo: Sequence[Item]) -> None:
        try:
            for recipe, items in by_recipe(todo).items():
                for chunk in chunks(self._decoded(items)):
                    self._watch.check()
                    self._accentuate(recipe, self._started(chunk))
                    self._interlude()
        except Left as left:
            if left.reason is Reason.LATE and not self._ended:
                self._give_up(todo)
            raise

    def _work_on(self, shard: Shard, jobs: Sequence[int], batch: ScanBatch | AtlasBatch) -> None:
        """Run the jobs of a scan, each a shard of its dataset, or of an atlas, each a part of it."""
        kind: type[ShardScan | AtlasWork] = ShardScan if isinstance(batch, ScanBatch) else AtlasWork
        work = kind(self._services, batch, self._planner.model)  # type: ignore[arg-type]
        for job in jobs:
            self._watch.check()
            if not self._services.jobs.start_jobs(shard.batch, [job]):
                continue
            try:
                is_known = work.run(job, partial(self._worked, shard, job, work.size(job)))
            except Left as left:
                if left.reason is Reason.LATE:
                    self._ledger.fail(shard, [job], self._late())
                raise
            except ServiceError:
                raise
            except Exception as error:  # noqa: BLE001
                self._check_device(error)
                self._ledger.fail(shard, [job], _foreseen(error))
            else:
                if self._lease.holds(shard):
                    self._services.jobs.finish_job(shard.batch, job, JobState.SUCCEEDED, cached=is_known)

    def _worked(self, shard: Shard, job: int, size: int, done: int) -> None:
        """Say how far a job of a scan or an atlas is; between two such reports single jobs go first."""
        self._watch.check()
        self._interlude()
        if self._watch.due():
            self._services.jobs.report_progress(shard.batch, {job: Progress(step=done, steps=size)})
            self._watch.report((), ())

    def _note_speed(self, seconds: float) -> None:
        if self._ended:
            shards, count = self._services.jobs.shards, self._ended
            shards.note_speed(self._lane, self._model_name, seconds / count, work=self._work / count)

    def _interlude(self) -> None:
        """Run the single jobs that wait for this worker's models, then go on: a person waits for each of them."""
        now = time.monotonic()
        if self._lane == "interactive" or now < self._next_interlude:
            return
        self._next_interlude = now + INTERLUDE_S
        for model in {self._model_name, *self._services.settings.models}:
            if lease := Lease.take_interactive(self._services, model):
                self._ledger.tell()
                logger.info("%d single jobs of %s go first", len(lease.shards), model)
                _run(self._services, lease)
        seconds = time.monotonic() - now
        self._elsewhere_s += seconds
        self._watch.pause(seconds)

    def _decoded(self, items: Sequence[Item]) -> Iterator[Ready]:
        dictionaries = self._services.dictionaries
        for item in items:
            self._watch.check()
            try:
                feature = dictionaries.feature(item.spec.feature, self._planner.model.card)
                yield Ready(item, self._services.images.get(item.spec.image), feature)
            except RequestError as error:
                self._ledger.fail(item.shard, [item.index], error)

    def _started(self, chunk: Sequence[Ready]) -> list[Ready]:
        indices: dict[str, list[int]] = defaultdict(list)
        for one in chunk:
            indices[one.item.shard.batch].append(one.item.index)
        start = self._services.jobs.start_jobs
        started = {(batch, index) for batch, some in indices.items() for index in start(batch, some)}
        return [one for one in chunk if (one.item.shard.batch, one.item.index) in started]

    def _accentuate(self, recipe: Recipe, ready: Sequence[Ready]) -> None:
        """Run jobs together; after an error that nobody foresaw, those that are left one by one."""
        if not ready:
            return
        left = dict(enumerate(ready))
        self._pace.resume()
        try:
            for position, ending in self._engine_call(recipe, ready):
                self._end(left[position].item, ending)
                del left[position]
                self._watch.check()
                self._interlude()
                self._pace.resume()
            self._ledger.tell()
        except (Left, ServiceError):
            raise
        except Exception as error:  # noqa: BLE001
            self._check_device(error)
            if len(ready) == 1:
                self._ledger.fail(ready[0].item.shard, [ready[0].item.index], _foreseen(error))
                return
            logger.warning("%d jobs go on one by one after %s", len(left), repr(error))
        finally:
            self._pace.report()
        for one in left.values():
            self._accentuate(recipe, [one])

    def _check_device(self, error: Exception) -> None:
        """Raise `DeviceLostError` if the device computes no more: every job from here on would fail."""
        if not self._services.computes(self._planner.model):
            raise DeviceLostError(f"{type(error).__name__}: {error}") from error

    def _engine_call(self, recipe: Recipe, ready: Sequence[Ready]) -> Iterator[tuple[int, Ending | AccentorError]]:
        by_value = self._services.dictionaries.recipe(recipe, self._planner.model.card)
        pairs = [
            self._services.make_pair(image=one.image, feature=one.feature, seed=one.item.spec.seed) for one in ready
        ]

        def on_step(report: Any) -> None:
            items = [ready[position].item for position in report.indices]
            self._pace.reach(report.indices, report.step)
            self._watch.in_hand = items
            self._ledger.tell()
            self._watch.check()
            if self._watch.due():
                self._watch.report(items, self._progress(report))

        return self._services.accentuate(
            self._planner.model, pairs, by_value, micro_batch=self._services.settings.micro_batch, on_step=on_step
        )

    def _progress(self, report: Any) -> list[Progress]:
        """Return how far each pair is; single jobs, which a person waits for, show their image as it is now."""
        count = len(report.indices)
        values = report.values or [None] * count
        previews: list[str | None] = [None] * count
        if self._lane == "interactive" and self._watch.wants_preview():
            previews = [*map(data_url, report.images())] or previews
        return [
            Progress(step=report.step, steps=report.steps, value=value, preview=preview)
            for value, preview in zip(values, previews, strict=True)
        ]

    def _end(self, item: Item, ending: Ending | AccentorError) -> None:
        """End a job, unless its shard is not held any more: then it is another worker's, or canceled."""
        if not self._lease.holds(item.shard):
            return
        if isinstance(ending, AccentorError):
            self._ledger.fail(item.shard, [item.index], ending)
            return
        self._ledger.succeed(item, ending)
        self._ended += 1
        self._work += item.spec.recipe.steps * item.spec.recipe.crops

    def _give_up(self, todo: Sequence[Item]) -> None:
        """Fail what took all the time, the first job if no step was done: the next run has less to do."""
        for item in self._watch.in_hand or todo[:1]:
            self._ledger.fail(item.shard, [item.index], self._late())

    def _late(self) -> TimeLimitError:
        limit = self._services.settings.task_soft_limit_s
        return TimeLimitError(f"not done after {limit} s, a shard's limit")


def _foreseen(error: Exception) -> AccentorError:
    """Return the error itself if it is one of ours, else an `UnexpectedError` with its type and message."""
    if isinstance(error, AccentorError):
        return error
    logger.error("a job failed in a way that nobody foresaw", exc_info=error)
    return UnexpectedError(f"{type(error).__name__}: {error}")
