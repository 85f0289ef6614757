"""Transitions of jobs and batches, by value, on a real Redis server."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from tests.servers import free_port

from accentor.errors import (
    IllegalTransitionError,
    ModelNotReadyError,
    NotFoundError,
    StateUnavailableError,
    UnknownModelError,
)
from accentor.settings import Settings
from accentor.spec import BatchState, Counts, Failure, JobState, LayerInfo, ModelCard, Progress
from accentor.spec.states import JOB_TRANSITIONS
from accentor.state import JobStore, connect
from accentor.state.keys import batch_keys

Q, R, S, F, C = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED
REASON = Failure(code="not-finite", detail="step 3 gave NaN", attempts=2)
MEBIBYTE = 2**20


def card(name: str) -> ModelCard:
    layer = LayerInfo(name="conv", type="Conv2d", shape=(4, 8, 8))
    return ModelCard(
        name=name, source="toy", digest="0" * 64, input_size=32, regularization_layer="conv", layers=(layer,)
    )


def check_sum(store: JobStore, batch: str) -> Counts:
    """Return the counts, having checked them against the status string and the total."""
    status = store.status(batch)
    states = Counter(store.job_states(batch, 0, status.total))
    counts = status.counts
    assert (counts.queued, counts.running, counts.succeeded, counts.failed, counts.canceled) == (
        states[Q], states[R], states[S], states[F], states[C],
    )  # fmt: skip
    assert sum(states.values()) == status.total
    assert counts.cached <= counts.succeeded
    return counts


def take(store: JobStore, jobs: int) -> str:
    """Hand out the first jobs of the one batch, let the worker ``w/a`` take them, and return their shard."""
    shard = store.shards.hand_out("bulk", "toy", window=9, jobs=jobs, due_s=60)
    assert shard is not None
    assert store.shards.take(shard.id, "w/a", alive_s=60) is not None
    return shard.id


def test_a_new_batch_is_queued(store: JobStore, new_batch: Callable[..., str]) -> None:
    before = datetime.now(UTC)
    batch = new_batch("b", total=3, lane="interactive")
    status = store.status(batch)
    assert (status.id, status.state, status.model, status.lane) == ("b", BatchState.QUEUED, "toy", "interactive")
    assert (status.total, status.counts, status.revision) == (3, Counts(queued=3), 0)
    assert status.metadata == {"who": "tests"}
    assert abs((status.created_at - before).total_seconds()) < 5
    assert (status.started_at, status.finished_at, status.rate, status.eta_s) == (None, None, None, None)
    assert store.job_states(batch, 0, 99) == [Q, Q, Q]
    assert store.model_digest(batch) == "0" * 64


def test_creating_twice_changes_nothing(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch("b", total=3)
    store.start_jobs(batch, [0])
    new_batch("b", total=3)
    assert store.status(batch).counts == Counts(queued=2, running=1)
    assert store.shards.hand_out("bulk", "toy", window=9, jobs=3, due_s=9) is not None
    assert store.shards.hand_out("bulk", "toy", window=9, jobs=3, due_s=9) is None


def test_a_batch_from_start_to_end(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=3)
    assert store.start_jobs(batch, [0, 2]) == [0, 2]
    running = store.status(batch)
    assert (running.state, running.counts) == (BatchState.RUNNING, Counts(queued=1, running=2))
    assert running.started_at is not None
    assert store.finish_job(batch, 0, S)
    assert store.finish_job(batch, 1, S, cached=True)
    halfway = store.status(batch)
    assert halfway.counts == Counts(running=1, succeeded=2, cached=1)
    assert halfway.rate is not None
    assert halfway.eta_s == pytest.approx(1 / halfway.rate)
    assert store.finish_job(batch, 2, F, failure=REASON)
    ended = store.status(batch)
    assert (ended.state, ended.counts) == (BatchState.PARTIALLY_FAILED, Counts(succeeded=2, failed=1, cached=1))
    assert ended.finished_at is not None
    assert ended.eta_s is None
    assert ended.rate == pytest.approx(2 / (ended.finished_at - ended.started_at).total_seconds())  # type: ignore[operator]
    assert store.job_states(batch, 1, 3) == [S, F]
    assert store.failure(batch, 2) == REASON
    assert store.failure(batch, 0) is None


def test_jobs_end_together(store: JobStore, new_batch: Callable[..., str], redis_client: "redis.Redis[bytes]") -> None:
    batch = new_batch(total=6)
    store.start_jobs(batch, [1, 2, 5])
    store.report_progress(batch, {2: Progress(step=1, steps=2), 5: Progress(step=1, steps=2)})
    assert store.finish_jobs(batch, [5, 0, 1, 5], S, cached=True) == [5, 0, 1]
    assert store.finish_jobs(batch, [1, 3, 5], F, failure=REASON) == [3]
    assert store.status(batch).counts == Counts(queued=1, running=1, succeeded=3, failed=1, cached=3)
    assert store.job_states(batch, 0, 6) == [S, S, R, F, Q, S]
    assert [store.failure(batch, index) for index in (1, 3)] == [None, REASON]
    assert store.ends(batch, 0, 9) == [5, 0, 1, 3]
    assert redis_client.hkeys(batch_keys(batch)[3]) == [b"2"]
    revision = store.status(batch).revision
    assert store.finish_jobs(batch, [0, 3], C) == []
    with pytest.raises(NotFoundError, match="has no job 6"):
        store.finish_jobs(batch, [2, 6], S)
    assert store.status(batch).revision == revision
    assert store.finish_jobs(batch, [2, 4], C) == [2, 4]
    assert store.status(batch).state is BatchState.PARTIALLY_FAILED


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ([S, S], BatchState.SUCCEEDED),
        ([F, F], BatchState.FAILED),
        ([S, F], BatchState.PARTIALLY_FAILED),
        ([C, C], BatchState.CANCELED),
        ([C, S], BatchState.SUCCEEDED),
        ([F, C], BatchState.FAILED),
    ],
)
def test_how_a_batch_ends(
    store: JobStore, new_batch: Callable[..., str], ends: list[JobState], state: BatchState
) -> None:
    batch = new_batch(total=2)
    for index, end in enumerate(ends):
        assert store.status(batch).finished_at is None
        store.finish_job(batch, index, end, failure=REASON if end is F else None)
    assert store.status(batch).state is state


@pytest.mark.parametrize(("first", "second"), list(itertools.product([S, F, C], repeat=2)))
def test_an_ended_job_stays_as_it_ended(
    store: JobStore, new_batch: Callable[..., str], first: JobState, second: JobState
) -> None:
    batch = new_batch(total=2)
    store.start_jobs(batch, [0])
    assert store.finish_job(batch, 0, first, failure=REASON if first is F else None)
    before = store.status(batch)
    assert not store.finish_job(batch, 0, second, failure=REASON if second is F else None)
    assert store.start_jobs(batch, [0]) == []
    assert store.job_state(batch, 0) is first
    after = store.status(batch)
    assert (after.counts, after.revision, after.state) == (before.counts, before.revision, before.state)


@pytest.mark.parametrize(
    ("state", "extra"),
    [
        (Q, {}),
        (R, {}),
        (F, {}),
        (S, {"failure": REASON}),
        (C, {"cached": True}),
        (F, {"failure": REASON, "cached": True}),
    ],
)
def test_no_end_is_refused(
    store: JobStore, new_batch: Callable[..., str], state: JobState, extra: dict[str, object]
) -> None:
    batch = new_batch(total=1)
    with pytest.raises(IllegalTransitionError):
        store.finish_job(batch, 0, state, **extra)  # type: ignore[arg-type]
    assert store.status(batch).counts == Counts(queued=1)


def test_unknown_batches_and_jobs(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=2)
    for call in (
        lambda: store.status("nowhere"),
        lambda: store.start_jobs("nowhere", [0]),
        lambda: store.finish_job("nowhere", 0, S),
        lambda: store.request_cancel("nowhere"),
        lambda: store.job_state("nowhere", 0),
        lambda: store.recent(3, "nowhere"),
    ):
        with pytest.raises(NotFoundError, match="there is no batch nowhere"):
            call()
    for index in (-1, 2):
        with pytest.raises(NotFoundError, match=f"batch b has no job {index}"):
            store.finish_job(batch, index, S)
        with pytest.raises(NotFoundError, match=f"batch b has no job {index}"):
            store.job_state(batch, index)
    assert check_sum(store, batch) == Counts(queued=2)


def test_requeued_jobs_lose_their_progress(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=4)
    shard = take(store, 4)
    store.start_jobs(batch, [0, 1])
    store.report_progress(batch, {0: Progress(step=3, steps=9, value=1.5), 3: Progress(step=1, steps=9)})
    assert store.progress(batch, 0) == Progress(step=3, steps=9, value=1.5)
    assert store.progress(batch, 3) is None
    assert store.shards.release(shard, "w/a", due_s=60) == 4
    assert store.progress(batch, 0) is None
    assert store.status(batch).state is BatchState.RUNNING
    assert check_sum(store, batch) == Counts(queued=4)


def test_every_change_grows_the_revision(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=2)
    shard = take(store, 2)
    steps: list[Callable[[], object]] = [
        lambda: store.start_jobs(batch, [0]),
        lambda: store.report_progress(batch, {0: Progress(step=1, steps=2)}),
        lambda: store.shards.release(shard, "w/a", due_s=60),
        lambda: store.finish_job(batch, 0, S),
        lambda: store.request_cancel(batch),
    ]
    for revision, step in enumerate(steps, start=1):
        step()
        assert store.status(batch).revision == revision


def test_cancel_is_at_once_for_what_is_queued(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=10)
    shard = take(store, 2)
    store.start_jobs(batch, [0, 1, 2])
    store.finish_job(batch, 0, S)
    assert not store.cancel_requested(batch)
    status = store.request_cancel(batch)
    assert (status.state, status.counts) == (BatchState.CANCELING, Counts(running=2, succeeded=1, canceled=7))
    assert store.cancel_requested(batch)
    assert store.request_cancel(batch).revision == status.revision
    assert store.start_jobs(batch, [5]) == []
    assert store.shards.release(shard, "w/a", due_s=60) == 0
    assert store.job_state(batch, 1) is C
    store.finish_job(batch, 2, C)
    ended = store.status(batch)
    assert (ended.state, ended.finished_at is not None) == (BatchState.CANCELED, True)
    assert check_sum(store, batch) == Counts(succeeded=1, canceled=9)
    assert store.request_cancel(batch).state is BatchState.CANCELED


def test_a_batch_that_has_ended_cannot_be_canceled(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=1)
    store.finish_job(batch, 0, S)
    with pytest.raises(IllegalTransitionError, match="it is succeeded"):
        store.request_cancel(batch)
    assert not store.cancel_requested(batch)


def test_a_canceled_batch_is_handed_out_no_more(store: JobStore, new_batch: Callable[..., str]) -> None:
    new_batch("b1", total=10)
    new_batch("b2", total=10)
    assert store.shards.hand_out("bulk", "toy", window=9, jobs=2, due_s=9).id == "b1.0-2"  # type: ignore[union-attr]
    store.request_cancel("b1")
    assert store.shards.hand_out("bulk", "toy", window=9, jobs=2, due_s=9).id == "b2.0-2"  # type: ignore[union-attr]
    assert store.shards.hand_out("bulk", "toy", window=9, jobs=2, due_s=9).id == "b2.2-4"  # type: ignore[union-attr]


def test_racing_threads_end_each_job_once(store: JobStore, new_batch: Callable[..., str]) -> None:
    total = 200
    batch = new_batch(total=total)
    won: list[int] = []
    barrier = threading.Barrier(4)

    def run(seed: int) -> None:
        barrier.wait()
        for index in random.Random(seed).sample(range(total), total):  # noqa: S311
            store.start_jobs(batch, [index])
            if store.finish_job(batch, index, random.Random(index + seed).choice([S, C])):  # noqa: S311
                won.append(index)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(total))
    counts = check_sum(store, batch)
    assert counts.succeeded + counts.canceled == total


def test_failures_come_in_order_and_in_pages(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=200_000)
    for index in (150_000, 3, 70_000):
        store.finish_job(batch, index, F, failure=REASON.model_copy(update={"detail": str(index)}))
    first = store.failures(batch, 0, 2)
    assert [(index, failure.detail) for index, failure in first] == [(3, "3"), (70_000, "70000")]
    assert [index for index, _ in store.failures(batch, 70_001, 2)] == [150_000]
    assert store.failures(batch, 150_001, 2) == []
    assert store.find_jobs(batch, {Q}, start=2, limit=3) == [2, 4, 5]


def test_recent_batches_come_newest_first_and_in_pages(store: JobStore, new_batch: Callable[..., str]) -> None:
    for name in ("b1", "b2", "b3"):
        new_batch(name)
        time.sleep(0.002)
    assert [status.id for status in store.recent(2)] == ["b3", "b2"]
    new_batch("b4")
    assert [status.id for status in store.recent(2, "b2")] == ["b1"]


def test_models_are_announced(store: JobStore) -> None:
    with pytest.raises(ModelNotReadyError):
        store.model("toy")
    store.announce_model(card("toy"), "here:1")
    store.announce_model(card("other"), "here:1")
    assert store.model("toy") == card("toy")
    assert [found.name for found in store.models()] == ["other", "toy"]
    with pytest.raises(UnknownModelError, match="there are other, toy"):
        store.model("tow")


def test_what_is_cached_does_not_count_as_speed(store: JobStore, new_batch: Callable[..., str]) -> None:
    batch = new_batch(total=100)
    for index in range(90):
        store.finish_job(batch, index, S, cached=True)
    assert (store.status(batch).rate, store.status(batch).eta_s) == (None, None)
    store.finish_job(batch, 90, S)
    status = store.status(batch)
    assert status.rate is not None
    assert status.eta_s == pytest.approx(9 / status.rate)
    seconds = (datetime.now(UTC) - (status.started_at or datetime.now(UTC))).total_seconds()
    assert status.rate * seconds < 2


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(hours=1)])
def test_the_speed_is_by_the_clock_of_redis(
    store: JobStore, new_batch: Callable[..., str], monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Skewed":
            return super().now(tz) + ahead

    monkeypatch.setattr("accentor.state.jobs.datetime", Skewed)
    batch = new_batch()
    store.start_jobs(batch, [0])
    time.sleep(0.01)
    store.finish_job(batch, 0, S)
    for status in (store.status(batch), *store.recent(5)):
        assert status.rate is not None
        assert 0.1 < status.rate <= 100


def test_models_are_ready_while_a_worker_says_so(store: JobStore) -> None:
    store.announce_model(card("toy"), "here:1", ready_s=0.3)
    store.announce_model(card("toy"), "there:1")
    store.announce_model(card("other"), "here:12")
    assert store.ready_models() == {"toy", "other"}
    store.retract_models("there:1")
    assert store.ready_models() == {"toy", "other"}
    time.sleep(0.4)
    assert store.ready_models() == {"other"}
    store.keep_ready(["toy"], "here:1")
    assert store.ready_models() == {"toy", "other"}
    store.retract_models("here:")
    assert store.ready_models() == set()
    assert [found.name for found in store.models()] == ["other", "toy"]
    assert store.model("toy") == card("toy")


def reach(store: JobStore, state: JobState) -> None:
    """Bring job 0 of the batch ``b``, taken by ``w/a``, into a state, if the scripts let it."""
    if state is Q:
        store.shards.release("b.0-2", "w/a", due_s=60)
    elif state is R:
        store.start_jobs("b", [0])
    else:
        store.finish_job("b", 0, state, failure=REASON if state is F else None)


RETRY = (F, Q)
"""Legal, and not offered yet."""


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(JobState, 2)))
def test_the_scripts_allow_what_the_contract_does(
    store: JobStore, new_batch: Callable[..., str], before: JobState, after: JobState
) -> None:
    batch = new_batch("b", total=2)
    take(store, 2)
    if before is not Q:
        reach(store, before)
    assert store.job_state(batch, 0) is before
    reach(store, after)
    legal = after in JOB_TRANSITIONS[before] and (before, after) != RETRY
    assert store.job_state(batch, 0) is (after if legal else before)


def test_a_million_jobs_take_a_byte_each(
    store: JobStore, new_batch: Callable[..., str], redis_client: "redis.Redis[bytes]"
) -> None:
    def memory() -> int:
        return int(redis_client.info("memory")["used_memory"])

    total = 1_000_000
    before = memory()
    batch = new_batch(total=total)
    assert memory() - before < 0.1 * MEBIBYTE
    store.finish_job(batch, total - 1, S)
    for index in range(0, total, 1_000):
        store.finish_job(batch, index, S)
    keys = list(redis_client.scan_iter("accentor:*"))
    assert sum(int(redis_client.memory_usage(key) or 0) for key in keys) <= 4 * MEBIBYTE
    assert memory() - before <= 4 * MEBIBYTE
    started = time.monotonic()
    status = store.request_cancel(batch)
    assert time.monotonic() - started < 2
    assert status.counts == Counts(succeeded=1_001, canceled=998_999)
    assert memory() - before <= 4 * MEBIBYTE


def test_redis_away_is_said_in_our_words(settings: Settings) -> None:
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    lost = JobStore(connect(settings.model_copy(update={"redis_url": nowhere})))
    for call in (lost.ping, lambda: lost.status("b"), lambda: lost.finish_job("b", 0, S), lost.shards.lanes):
        with pytest.raises(StateUnavailableError, match="Redis fails"):
            call()
