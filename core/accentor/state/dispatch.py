"""Handing out shards, and looking after lost ones: functions over the job store that know nothing of Celery."""

import logging

from accentor.errors import WorkerLostError
from accentor.settings import Settings
from accentor.spec import Failure, JobState, Lane
from accentor.state.jobs import JobStore
from accentor.state.queues import Publish
from accentor.state.records import Lost, Shard

logger = logging.getLogger(__name__)


def dispatch(store: JobStore, publish: Publish, settings: Settings) -> int:
    """Send shards until in each lane ``settings.window`` of them wait or nothing is left; return how many were sent."""
    return sum(_fill(store, publish, settings, lane, model) for lane, model in store.shards.lanes())


def sweep(store: JobStore, publish: Publish, settings: Settings) -> int:
    """Send shards again that lost their message or their worker; return how many were looked after.

    Jobs that have not begun by their batch's deadline fail.
    """
    store.pass_deadlines()
    count = 0
    for lane, model in store.shards.lanes():
        found = store.shards.find_lost(lane, model, lease_s=settings.lease_s, due_s=settings.republish_s)
        for shard, why in found:
            logger.warning("shard %s is lost (%s, attempt %d)", shard.id, why, shard.attempts)
            if why is Lost.DIED and shard.attempts >= settings.max_attempts:
                _isolate(store, publish, settings, shard)
            else:
                publish(shard)
        count += len(found)
    return count


def shard_length(settings: Settings, lane: Lane, seconds_per_job: float | None) -> int:
    """Return how many jobs a shard should hold."""
    if lane == "interactive":
        return 1
    if seconds_per_job is None:
        return min(settings.first_shard_jobs, settings.max_shard_jobs)
    fitting = settings.shard_seconds / max(seconds_per_job, settings.shard_seconds / settings.max_shard_jobs)
    return max(1, round(fitting))


def _fill(store: JobStore, publish: Publish, settings: Settings, lane: Lane, model: str) -> int:
    jobs = shard_length(settings, lane, store.shards.speed(lane, model))
    count = 0
    while shard := store.shards.hand_out(lane, model, window=settings.window, jobs=jobs, due_s=settings.republish_s):
        publish(shard)
        count += 1
    return count


def _isolate(store: JobStore, publish: Publish, settings: Settings, shard: Shard) -> None:
    states = store.job_states(shard.batch, shard.start, shard.stop)
    left = [index for index, state in zip(shard.indices, states, strict=True) if not state.terminal]
    if len(left) > 1:
        for part in store.shards.split(shard, _halves(left, settings), due_s=settings.republish_s):
            publish(part)
        return
    for index in left:
        detail = f"its worker died {shard.attempts} times on it"
        failure = Failure(code=WorkerLostError.code, detail=detail, attempts=shard.attempts)
        store.finish_job(shard.batch, index, JobState.FAILED, failure=failure)
    store.shards.release(shard.id, due_s=settings.republish_s)


def _halves(left: list[int], settings: Settings) -> list[tuple[range, int]]:
    """Split the unfinished jobs in two: a half is split again at its first death, a job alone gets all its attempts."""
    middle = len(left) // 2
    parts = (left[:middle], left[middle:])
    return [(range(part[0], part[-1] + 1), 0 if part[0] == part[-1] else settings.max_attempts - 1) for part in parts]
