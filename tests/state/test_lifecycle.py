"""Retry, deadlines, deletion, lifetimes, uploads, the order of ends and shards for several at once, on real Redis."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis
from tests.shards import outstanding
from tests.state.stubs import MODEL, Outbox

from accentor.errors import IllegalTransitionError, NotFoundError
from accentor.settings import Settings
from accentor.spec import BatchState, Counts, Failure, JobState, Lane
from accentor.state import JobStore, NewBatch, Shard, dispatch, sweep
from accentor.state.keys import DEADLINES, EXPIRIES, batch_keys, ring_key

LANE: tuple[Lane, str] = ("bulk", MODEL)
REASON = Failure(code="not-finite", detail="NaN")


def create(store: JobStore, name: str = "b", total: int = 10, lane: Lane = "bulk", **more: int) -> str:
    store.create_batch(NewBatch(name, MODEL, "0" * 64, lane, total, datetime.now(UTC), **more))  # type: ignore[arg-type]
    return name


def end(store: JobStore, batch: str, succeed: range | list[int], fail: range | list[int] = ()) -> None:  # type: ignore[assignment]
    for index in succeed:
        assert store.finish_job(batch, index, JobState.SUCCEEDED)
    for index in fail:
        assert store.finish_job(batch, index, JobState.FAILED, failure=REASON)


def hand_out_all(store: JobStore, jobs: int = 4) -> list[tuple[int, int]]:
    found = []
    while shard := store.shards.hand_out(*LANE, window=999, jobs=jobs, due_s=60):
        found.append((shard.start, shard.stop))
    return found


# --- retry -------------------------------------------------------------------------------------------------------


def test_only_failed_jobs_are_queued_again(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store)
    assert hand_out_all(store, 10) == [(0, 10)]
    end(store, "b", [0, 1, 2, 4, 6, 8, 9], [3, 5, 7])
    before = store.status("b")
    assert before.state is BatchState.PARTIALLY_FAILED
    status = store.retry("b")
    assert (status.state, status.counts) == (BatchState.RUNNING, Counts(queued=3, succeeded=7))
    assert status.finished_at is None
    assert status.revision > before.revision
    assert store.failures("b") == []
    assert not redis_client.exists(batch_keys("b")[2])
    assert store.find_jobs("b", {JobState.QUEUED}) == [3, 5, 7]
    assert hand_out_all(store, 3) == [(3, 6), (7, 10)]
    end(store, "b", [3, 5, 7])
    assert store.status("b").state is BatchState.SUCCEEDED


def test_a_retry_skips_long_runs_of_what_is_done(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    total = 200_000
    create(store, total=total)
    hand_out_all(store, total)
    record, states, *_ = batch_keys("b")
    redis_client.set(states, b"s" * (total - 1) + b"f")
    redis_client.hset(record, mapping={"queued": 0, "succeeded": total - 1, "failed": 1, "state": "partially_failed"})
    store.retry("b")
    assert hand_out_all(store, 64) == [(total - 1, total)]


def test_what_cannot_be_retried(store: JobStore) -> None:
    create(store, total=2)
    with pytest.raises(IllegalTransitionError, match="only a batch that has ended"):
        store.retry("b")
    end(store, "b", [0, 1])
    with pytest.raises(IllegalTransitionError, match="no failed jobs"):
        store.retry("b")
    with pytest.raises(NotFoundError):
        store.retry("nowhere")


def test_a_retried_batch_is_in_its_ring_once(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, total=1)
    end(store, "b", [], [0])
    store.retry("b")
    assert redis_client.lrange(ring_key(*LANE), 0, -1) == [b"b"]
    assert hand_out_all(store) == [(0, 1)]


# --- deadline ----------------------------------------------------------------------------------------------------


def pass_deadline(store: JobStore, client: "redis.Redis[bytes]", name: str = "b") -> int:
    client.zadd(DEADLINES, {name: 1})
    return store.pass_deadlines()


def test_jobs_that_have_not_begun_by_the_deadline_fail(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, total=1_000, deadline_s=60)
    hand_out_all(store, 500)
    store.start_jobs("b", [0, 1])
    end(store, "b", [0])
    assert store.pass_deadlines() == 0
    assert pass_deadline(store, redis_client) == 998
    status = store.status("b")
    assert (status.state, status.counts) == (BatchState.RUNNING, Counts(running=1, succeeded=1, failed=998))
    assert status.failure is not None
    assert status.failure.code == "deadline"
    assert store.failure("b", 999) == status.failure
    assert store.failure("b", 1) is None
    assert [index for index, _ in store.failures("b", limit=3)] == [2, 3, 4]
    assert store.start_jobs("b", [5]) == []
    end(store, "b", [1])
    assert store.status("b").state is BatchState.PARTIALLY_FAILED
    assert hand_out_all(store) == []
    assert store.pass_deadlines() == 0


def test_a_batch_that_never_began_fails_at_its_deadline(
    store: JobStore, redis_client: "redis.Redis[bytes]", outbox: Outbox, quick: Settings
) -> None:
    create(store, deadline_s=60)
    deadline = store.status("b").deadline_at
    assert deadline is not None
    assert 55 < (deadline - datetime.now(UTC)).total_seconds() <= 60.5
    redis_client.zadd(DEADLINES, {"b": 1})
    sweep(store, outbox, quick)
    assert (store.status("b").state, store.status("b").counts) == (BatchState.FAILED, Counts(failed=10))
    assert not redis_client.exists(ring_key(*LANE))
    assert dispatch(store, outbox, quick) == 0


def test_a_retry_has_no_deadline(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, deadline_s=60)
    pass_deadline(store, redis_client)
    status = store.retry("b")
    assert (status.counts, status.deadline_at, status.failure) == (Counts(queued=10), None, None)
    assert store.pass_deadlines() == 0


def test_what_has_ended_or_is_canceled_has_no_deadline(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, total=1, deadline_s=60)
    end(store, "b", [0])
    assert redis_client.zcard(DEADLINES) == 0
    create(store, "c", deadline_s=60)
    store.start_jobs("c", [0])
    store.request_cancel("c")
    assert pass_deadline(store, redis_client, "c") == 0
    assert store.status("c").counts == Counts(running=1, canceled=9)


# --- deletion and lifetime ---------------------------------------------------------------------------------------


def test_a_deleted_batch_is_seen_by_nobody(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, total=1)
    with pytest.raises(IllegalTransitionError, match="cancel it before"):
        store.delete("b")
    end(store, "b", [0])
    store.delete("b", results=True)
    for look in (store.status, store.retry, store.delete, lambda name: store.job_states(name, 0, 1)):
        with pytest.raises(NotFoundError):
            look("b")
    assert store.recent(10) == []
    assert store.expired() == [("b", "0" * 64, True)]
    store.forget("b")
    assert store.expired() == []
    assert not redis_client.exists(*batch_keys("b"))


def test_a_batch_expires_a_lifetime_after_its_end(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, total=2, lifetime_s=3600)
    assert store.status("b").expires_at is None
    end(store, "b", [0], [1])
    status = store.status("b")
    assert status.finished_at is not None
    assert status.expires_at is not None
    assert (status.expires_at - status.finished_at).total_seconds() == pytest.approx(3600, abs=0.01)
    assert store.expired() == []
    redis_client.zadd(EXPIRIES, {"b": time.time() - 1})
    assert store.expired() == [("b", "0" * 64, True)]
    store.retry("b")
    assert store.expired() == []
    assert store.status("b").expires_at is None


def test_a_batch_without_a_lifetime_stays(store: JobStore) -> None:
    create(store, total=1)
    end(store, "b", [0])
    assert store.status("b").expires_at is None
    assert store.expired() == []


def test_an_upload_that_gives_no_sign_of_life_is_abandoned(store: JobStore) -> None:
    store.note_upload("alive", alive_s=60)
    store.note_upload("dead", alive_s=-1)
    store.note_upload("created", alive_s=-1)
    create(store, "created")
    assert store.abandoned_uploads() == ["dead"]
    store.end_upload("dead")
    assert store.abandoned_uploads() == []


# --- order of ends -----------------------------------------------------------------------------------------------


def test_ends_are_told_in_their_order(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    create(store, total=300)
    end(store, "b", [299, 5, 0], [256])
    store.finish_job("b", 7, JobState.CANCELED)
    store.finish_job("b", 5, JobState.SUCCEEDED)
    assert store.ends("b", 0, 100) == [299, 5, 0, 256]
    assert store.ends("b", 1, 2) == [5, 0]
    assert store.ends("b", 4, 10) == []
    assert redis_client.strlen(batch_keys("b")[4]) == 16


# --- several shards for one worker -------------------------------------------------------------------------------


def take_some(store: JobStore, limit: int, holder: str = "w/a") -> list[str]:
    return [shard.id for shard in store.shards.take_some("interactive", MODEL, holder, limit=limit, alive_s=60)]


def test_single_jobs_are_taken_together(store: JobStore, redis_client: "redis.Redis[bytes]") -> None:
    for number in range(6):
        create(store, f"j{number}", 1, "interactive")
    for _ in range(2):
        store.shards.hand_out("interactive", MODEL, window=9, jobs=1, due_s=60)
    create(store, "other", 1)
    assert store.shards.any_left("interactive", MODEL)
    assert take_some(store, 3) == ["j0.0-1", "j1.0-1", "j2.0-1"]
    assert outstanding(redis_client, "interactive", MODEL) == (0, 3)
    assert store.shards.take("j1.0-1", "w/b", alive_s=60) is None
    assert store.shards.renew("j2.0-1", "w/a", alive_s=60)
    assert take_some(store, 9, "v/a") == ["j3.0-1", "j4.0-1", "j5.0-1"]
    assert take_some(store, 9) == []
    assert not store.shards.any_left("interactive", MODEL)
    assert store.shards.give_back("v") == 3
    assert outstanding(redis_client, "interactive", MODEL) == (3, 3)
    assert not store.shards.renew("j3.0-1", "v/a", alive_s=60)


def test_speed_by_work(store: JobStore) -> None:
    assert store.shards.seconds_per_work(MODEL) is None
    store.shards.note_speed("bulk", MODEL, 6.0, work=600)
    store.shards.note_speed("interactive", MODEL, 2.0, work=100)
    assert store.shards.seconds_per_work(MODEL) == pytest.approx(0.7 * 0.01 + 0.3 * 0.02)
    assert store.shards.speed("bulk", MODEL) == pytest.approx(6.0)


def test_a_million_jobs_cost_redis_little(
    store: JobStore, new_batch: Callable[..., str], redis_client: "redis.Redis[bytes]"
) -> None:
    before = int(redis_client.info("memory")["used_memory"])
    new_batch("big", total=1_000_000)
    assert int(redis_client.info("memory")["used_memory"]) - before < 100_000
    shards = [store.shards.hand_out(*LANE, window=9, jobs=64, due_s=60) for _ in range(9)]
    assert all(isinstance(shard, Shard) for shard in shards)
    store.finish_job("big", 999_999, JobState.SUCCEEDED)
    assert int(redis_client.info("memory")["used_memory"]) - before < 4_000_000
