"""Handing out shards, leases, lost shards and poison jobs, on a real Redis server."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis
from pydantic import SecretStr
from tests.servers import RedisServer, wait_until
from tests.shards import outstanding
from tests.state.stubs import MODEL, Outbox

from accentor.settings import Settings
from accentor.spec import BatchState, Counts, JobState
from accentor.state import JobStore, NewBatch, Shard, connect, dispatch, queue_name, sweep
from accentor.state.dispatch import shard_length
from accentor.state.keys import shard_key

LANE = ("bulk", MODEL)


def hand_out(store: JobStore, jobs: int = 2, window: int = 99) -> str | None:
    shard = store.shards.hand_out("bulk", MODEL, window=window, jobs=jobs, due_s=60)
    return None if shard is None else shard.id


def expect_sweep(store: JobStore, outbox: Outbox, settings: Settings) -> list[str]:
    """Sweep until something was sent again."""
    wait_until(lambda: sweep(store, outbox, settings) > 0, timeout_s=5, what="a lost shard")
    return outbox.ids()


def test_batches_take_turns(store: JobStore, new_batch: Callable[..., str]) -> None:
    new_batch("big", total=1_000_000)
    assert [hand_out(store) for _ in range(2)] == ["big.0-2", "big.2-4"]
    new_batch("late", total=3)
    new_batch("later", total=1)
    assert [hand_out(store) for _ in range(6)] == [
        "big.4-6", "late.0-2", "later.0-1", "big.6-8", "late.2-3", "big.8-10",
    ]  # fmt: skip


def test_lanes_and_models_are_apart(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings
) -> None:
    new_batch("b1", total=100)
    new_batch("b2", total=1, lane="interactive")
    new_batch("b3", total=2, model="a/other:model")
    assert dispatch(store, outbox, quick) == 4
    sent = sorted((shard.id, shard.lane, shard.model) for shard in outbox.shards)
    assert sent == [
        ("b1.0-4", "bulk", MODEL),
        ("b1.4-8", "bulk", MODEL),
        ("b2.0-1", "interactive", MODEL),
        ("b3.0-2", "bulk", "a/other:model"),
    ]


def test_the_window_bounds_what_waits_not_what_runs(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings, redis_client: "redis.Redis[bytes]"
) -> None:
    new_batch(total=1_000)
    assert dispatch(store, outbox, quick) == quick.window == 2
    assert dispatch(store, outbox, quick) == 0
    for shard in list(outbox.shards):
        assert store.shards.take(shard.id, "w1/a", alive_s=60) is not None
    assert outstanding(redis_client, *LANE) == (0, 2)
    assert dispatch(store, outbox, quick) == 2
    assert outstanding(redis_client, *LANE) == (2, 2)


def test_racing_hands_never_give_a_job_twice(store: JobStore, new_batch: Callable[..., str]) -> None:
    totals = {"b1": 301, "b2": 100, "b3": 7}
    for name, total in totals.items():
        new_batch(name, total=total)
    given: list[Shard] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        while shard := store.shards.hand_out("bulk", MODEL, window=10_000, jobs=3, due_s=60):
            given.append(shard)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, total in totals.items():
        indices = sorted(index for shard in given if shard.batch == name for index in shard.indices)
        assert indices == list(range(total))


def test_a_shard_has_one_worker(
    store: JobStore, new_batch: Callable[..., str], redis_client: "redis.Redis[bytes]"
) -> None:
    new_batch()
    assert hand_out(store) == "b.0-2"
    taken = store.shards.take("b.0-2", "w1/a", alive_s=60)
    assert taken == Shard("b.0-2", "b", 0, 2, "bulk", MODEL, 0)
    assert store.shards.take("b.0-2", "w2/b", alive_s=60) is None
    assert not store.shards.renew("b.0-2", "w2/b", alive_s=60)
    assert store.shards.release("b.0-2", "w2/b", due_s=60) == 0
    assert outstanding(redis_client, *LANE) == (0, 1)
    assert store.shards.renew("b.0-2", "w1/a", alive_s=60)
    assert store.shards.take("nowhere.0-2", "w2/b", alive_s=60) is None


def test_a_released_shard_waits_with_its_jobs_queued(
    store: JobStore, new_batch: Callable[..., str], redis_client: "redis.Redis[bytes]"
) -> None:
    new_batch()
    hand_out(store, jobs=4)
    store.shards.take("b.0-4", "w1/a", alive_s=60)
    store.start_jobs("b", [0, 1, 2])
    store.finish_job("b", 0, JobState.SUCCEEDED)
    assert store.shards.release("b.0-4", "w1/a", due_s=60) == 3
    assert store.status("b").counts == Counts(queued=9, succeeded=1)
    assert outstanding(redis_client, *LANE) == (1, 0)
    again = store.shards.take("b.0-4", "w2/b", alive_s=60)
    assert again is not None
    assert again.attempts == 0


def test_a_finished_shard_is_gone(
    store: JobStore, new_batch: Callable[..., str], redis_client: "redis.Redis[bytes]"
) -> None:
    new_batch(total=2)
    hand_out(store)
    store.shards.take("b.0-2", "w1/a", alive_s=60)
    for index in (0, 1):
        store.finish_job("b", index, JobState.SUCCEEDED)
    assert store.shards.release("b.0-2", "w1/a", due_s=60) == 0
    assert outstanding(redis_client, *LANE) == (0, 0)
    assert not redis_client.exists(shard_key("b.0-2"))


def test_a_dead_workers_shard_is_sent_again(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings
) -> None:
    new_batch()
    hand_out(store, jobs=4)
    store.shards.take("b.0-4", "w1/a", alive_s=0.05)
    store.start_jobs("b", [0, 1])
    store.finish_job("b", 0, JobState.SUCCEEDED)
    assert expect_sweep(store, outbox, quick) == ["b.0-4"]
    assert store.status("b").counts == Counts(queued=9, succeeded=1)
    assert sweep(store, outbox, quick) == 0
    assert not store.shards.renew("b.0-4", "w1/a", alive_s=60)
    again = store.shards.take("b.0-4", "w2/b", alive_s=60)
    assert again is not None
    assert again.attempts == 1


def test_a_living_workers_shard_is_let_alone(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings
) -> None:
    new_batch(total=2)
    hand_out(store)
    store.shards.take("b.0-2", "w1/a", alive_s=0.1)
    for _ in range(10):
        time.sleep(0.05)
        assert store.shards.renew("b.0-2", "w1/a", alive_s=0.1)
        assert sweep(store, outbox, quick) == 0
    assert outbox.ids() == []


def test_a_worker_that_overslept_its_lease_may_still_say_so(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings
) -> None:
    """As after a pause of the whole machine, or of Redis: the first look only doubts."""
    new_batch(total=2)
    hand_out(store)
    store.shards.take("b.0-2", "w1/a", alive_s=0.01)
    time.sleep(0.3)
    assert sweep(store, outbox, quick) == 0
    assert store.shards.renew("b.0-2", "w1/a", alive_s=60)
    time.sleep(0.1)
    assert sweep(store, outbox, quick) == 0


def test_a_death_that_is_known_needs_no_waiting(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings
) -> None:
    new_batch(total=2)
    hand_out(store)
    store.shards.take("b.0-2", "host:12/a", alive_s=60)
    assert not store.shards.mark_dead("b.0-2", "host:1")
    assert sweep(store, outbox, quick) == 0
    assert store.shards.mark_dead("b.0-2", "host:12")
    assert sweep(store, outbox, quick) == 1
    assert outbox.ids() == ["b.0-2"]


def test_racing_sweeps_count_a_death_once(store: JobStore, new_batch: Callable[..., str], quick: Settings) -> None:
    new_batch(total=2)
    hand_out(store)
    store.shards.take("b.0-2", "w/a", alive_s=60)
    store.shards.mark_dead("b.0-2", "w")
    outboxes = [Outbox() for _ in range(4)]
    threads = [threading.Thread(target=sweep, args=(store, outbox, quick)) for outbox in outboxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [shard.attempts for outbox in outboxes for shard in outbox.shards] == [1]


def test_a_lost_message_is_sent_again_once_its_queue_was_empty_for_long(
    store: JobStore,
    new_batch: Callable[..., str],
    outbox: Outbox,
    quick: Settings,
    redis_client: "redis.Redis[bytes]",
) -> None:
    queue = queue_name("bulk", MODEL)
    redis_client.rpush(queue, b"a message")
    new_batch(total=2)
    hand_out(store)
    time.sleep(2 * quick.lease_s)
    assert sweep(store, outbox, quick) == 0
    redis_client.delete(queue)
    started = time.monotonic()
    assert expect_sweep(store, outbox, quick) == ["b.0-2"]
    assert time.monotonic() - started >= quick.lease_s * 0.9
    assert sweep(store, outbox, quick) == 0
    again = store.shards.take("b.0-2", "w/a", alive_s=60)
    assert again is not None
    assert again.attempts == 0


def test_a_shard_that_is_due_is_sent_again_if_the_queue_lacks_a_message(
    store: JobStore,
    new_batch: Callable[..., str],
    outbox: Outbox,
    quick: Settings,
    redis_client: "redis.Redis[bytes]",
) -> None:
    new_batch(total=4)
    hand_out(store)
    hand_out(store)
    store.shards.take("b.0-2", "w/a", alive_s=60)
    store.shards.release("b.0-2", "w/a", due_s=0.1)
    redis_client.rpush(queue_name("bulk", MODEL), b"first", b"second")
    time.sleep(0.2)
    assert sweep(store, outbox, quick) == 0
    redis_client.lpop(queue_name("bulk", MODEL))
    assert sweep(store, outbox, quick) == 1
    assert outbox.ids() == ["b.0-2"]
    assert sweep(store, outbox, quick) == 0


@pytest.mark.parametrize("total", [1, 2, 16])
def test_a_poison_job_fails_alone(
    store: JobStore,
    new_batch: Callable[..., str],
    outbox: Outbox,
    quick: Settings,
    total: int,
    redis_client: "redis.Redis[bytes]",
) -> None:
    """Every worker that begins the poison dies on it; the others end their jobs."""
    poison = total // 3
    new_batch(total=total)
    settings = quick.model_copy(update={"first_shard_jobs": 16})
    deaths = 0
    dispatch(store, outbox, settings)
    while outbox.shards:
        name = outbox.shards.pop(0).id
        shard = store.shards.take(name, "w/a", alive_s=60)
        assert shard is not None
        store.start_jobs(shard.batch, shard.indices)
        if poison in shard.indices:
            deaths += 1
            store.shards.mark_dead(name, "w")
            sweep(store, outbox, settings)
            continue
        for index in shard.indices:
            store.finish_job(shard.batch, index, JobState.SUCCEEDED)
        store.shards.release(name, "w/a", due_s=60)
    status = store.status("b")
    assert status.counts == Counts(succeeded=total - 1, failed=1)
    assert status.state is (BatchState.FAILED if total == 1 else BatchState.PARTIALLY_FAILED)
    failure = store.failure("b", poison)
    assert failure is not None
    assert (failure.code, failure.attempts) == ("worker-lost", 3)
    assert failure.detail == "its worker died 3 times on it"
    halvings = (total - 1).bit_length()
    alone = settings.max_attempts
    assert deaths == (alone if total == 1 else alone + (halvings - 1) + alone)
    assert outstanding(redis_client, *LANE) == (0, 0)


def test_a_dead_workers_canceled_jobs_are_canceled(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings, redis_client: "redis.Redis[bytes]"
) -> None:
    new_batch(total=6)
    hand_out(store, jobs=4)
    store.shards.take("b.0-4", "w/a", alive_s=60)
    store.start_jobs("b", range(4))
    assert store.request_cancel("b").state is BatchState.CANCELING
    store.shards.mark_dead("b.0-4", "w")
    sweep(store, outbox, quick)
    assert outbox.ids() == []
    status = store.status("b")
    assert (status.state, status.counts) == (BatchState.CANCELED, Counts(canceled=6))
    assert outstanding(redis_client, *LANE) == (0, 0)


def test_shards_aim_at_a_length_in_seconds(settings: Settings, store: JobStore) -> None:
    assert shard_length(settings, "interactive", 0.001) == 1
    assert shard_length(settings, "bulk", None) == settings.first_shard_jobs == 4
    assert shard_length(settings, "bulk", 1.5) == 40
    assert shard_length(settings, "bulk", 1e-9) == settings.max_shard_jobs == 1024
    assert shard_length(settings, "bulk", 1e9) == 1
    assert store.shards.speed("bulk", MODEL) is None
    store.shards.note_speed("bulk", MODEL, 2.0)
    store.shards.note_speed("bulk", MODEL, 4.0)
    assert store.shards.speed("bulk", MODEL) == pytest.approx(0.7 * 2.0 + 0.3 * 4.0)


def test_all_is_there_after_redis_was_killed(
    durable_redis: RedisServer, settings: Settings, outbox: Outbox, quick: Settings
) -> None:
    client = connect(settings.model_copy(update={"redis_url": SecretStr(durable_redis.url)}))
    store = JobStore(client)
    store.create_batch(NewBatch("b", MODEL, "0" * 64, "bulk", 10, datetime.now(UTC)))
    dispatch(store, outbox, quick)
    store.shards.take("b.0-4", "w/a", alive_s=0.1)
    store.start_jobs("b", [0, 1])
    store.finish_job("b", 0, JobState.SUCCEEDED)
    outbox.ids()
    before = store.status("b")
    durable_redis.stop(9)
    durable_redis.start()
    assert store.status("b").counts == before.counts == Counts(queued=8, running=1, succeeded=1)
    sent: list[str] = []
    while len(sent) < 2:
        sent += expect_sweep(store, outbox, quick)
    assert sorted(sent) == ["b.0-4", "b.4-8"]
    assert hand_out(store, jobs=4) == "b.8-10"
    client.close()


def test_a_worker_that_stops_gives_its_shards_back(
    store: JobStore, new_batch: Callable[..., str], outbox: Outbox, quick: Settings, redis_client: "redis.Redis[bytes]"
) -> None:
    new_batch(total=8)
    for token in ("w:1/a", "w:1/b", "w:12/c"):
        shard = hand_out(store)
        assert shard is not None
        store.shards.take(shard, token, alive_s=60)
    store.start_jobs("b", range(6))
    assert store.shards.give_back("w:1") == 2
    assert store.shards.give_back("w:1") == 0
    assert store.status("b").counts == Counts(queued=6, running=2)
    assert outstanding(redis_client, *LANE) == (2, 1)
    assert sorted(expect_sweep(store, outbox, quick)) == ["b.0-2", "b.2-4"]
    again = store.shards.take("b.0-2", "w:2/x", alive_s=60)
    assert again is not None
    assert again.attempts == 0
