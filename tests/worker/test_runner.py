"""Running shards with a stub in place of the engine: what is stored, what fails, and what is left for the next."""

import shutil
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from PIL import Image
from pydantic import SecretStr
from tests.servers import RedisServer, wait_until
from tests.shards import outstanding
from tests.worker.stubs import (
    ARTEFACTS,
    CARD,
    MODEL,
    RECIPE,
    Outbox,
    StubAccentuation,
    StubEngine,
    StubModel,
    StubModels,
    StubPair,
    channel,
    logits,
    png,
    submit,
    upload,
)

from accentor.errors import NotFiniteError, ServiceError, StorageUnavailableError
from accentor.settings import file_root
from accentor.spec import (
    BatchJob,
    BatchSpec,
    BatchState,
    Counts,
    Failure,
    JobState,
    Logit,
    Neuron,
    Progress,
    Recipe,
    Result,
    sha256_hex,
)
from accentor.state import JobStore, NewBatch, Shard, connect, sweep
from accentor.state.keys import SPEEDS
from accentor.storage.keys import artefact_key, batch_spec_key, result_key
from accentor_worker import ledger
from accentor_worker.plan import Images
from accentor_worker.runner import DeviceLostError, run_shard
from accentor_worker.services import Ending, Services

MANY = 50


def run_all(services: Services, outbox: Outbox) -> None:
    """Run what is sent until nothing is; a test whose shards never end fails."""
    for _ in range(MANY):
        if not outbox.ids:
            return
        run_shard(services, outbox.ids.pop(0))
    pytest.fail(f"shards are sent again and again: {outbox.ids}")


def failure(services: Services, index: int, batch: str = "b") -> Failure:
    found = services.jobs.failure(batch, index)
    assert found is not None
    return found


def test_a_batch_is_run_and_stored(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    spec = logits(services, 20)
    submit(services, spec)
    assert outbox.ids == ["b.0-8", "b.8-16", "b.16-20"]
    run_all(services, outbox)
    status = services.jobs.status("b")
    assert (status.state, status.counts) == (BatchState.SUCCEEDED, Counts(succeeded=20))
    assert engine.computed == list(range(20))
    work = services.jobs.measures.read().work[MODEL]
    assert (work.steps, work.pairs) == (20 * RECIPE.steps, 20 * RECIPE.steps)
    assert [(end.how, end.jobs) for end in services.jobs.measures.read().ended] == [("succeeded", 20)]
    job = spec.expand(CARD)[7]
    key = job.key(CARD)
    result = Result.model_validate_json(services.objects.get(result_key(key)))
    assert (result.key, result.spec, result.after) == (key, job, 7.0)
    for name, data in ARTEFACTS.items():
        assert services.objects.get(artefact_key(key, name)) == data
    assert outstanding(redis_client, "bulk", MODEL) == (0, 0)
    assert services.jobs.shards.speed("bulk", MODEL) is not None


def test_a_shard_that_comes_again_does_nothing(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit(services, logits(services, 3))
    (shard,) = outbox.ids
    run_shard(services, shard)
    before = services.jobs.status("b")
    run_shard(services, shard)
    run_shard(services, "nowhere.0-3")
    assert services.jobs.status("b").revision == before.revision
    assert engine.computed == [0, 1, 2]


def test_a_shard_that_comes_while_it_runs_drops_out(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit(services, logits(services, 3))
    (shard,) = outbox.ids

    def during(unit: int, step: int) -> None:
        if (unit, step) == (1, 1):
            run_shard(replace(services, owner="host:2"), shard)

    engine.during = during
    run_shard(services, shard)
    assert engine.computed == [0, 1, 2]
    assert services.jobs.status("b").counts == Counts(succeeded=3)


def test_what_was_computed_before_is_cached(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit(services, logits(services, 2), "b1")
    run_all(services, outbox)
    submit(services, logits(services, 3), "b2")
    run_all(services, outbox)
    assert engine.computed == [0, 1, 2]
    assert services.jobs.status("b2").counts == Counts(succeeded=3, cached=2)


def test_twins_are_computed_once(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    image = upload(services.objects, png())
    wanted = (1, 2, 1, 3, 3)
    jobs = tuple(BatchJob(feature=Logit(unit=unit), image=image) for unit in wanted)
    engine.yields[3] = NotFiniteError("step 2 gave NaN")
    submit(services, BatchSpec(model=MODEL, jobs=jobs, recipe=RECIPE))
    run_all(services, outbox)
    assert engine.computed == [1, 2, 3]
    assert services.jobs.status("b").counts == Counts(succeeded=3, failed=2, cached=1)
    assert failure(services, 4) == failure(services, 3)


def test_bad_jobs_fail_alone(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    good, missing = upload(services.objects, png()), sha256_hex(b"never uploaded")
    broken, empty = upload(services.objects, png()[:60]), upload(services.objects, b"")
    elsewhere = RECIPE.model_copy(update={"regularization_layer": "nowhere"})
    jobs = (
        BatchJob(feature=Logit(unit=0), image=good),
        BatchJob(feature=Logit(unit=99), image=good),
        BatchJob(feature=Neuron(layer="konv", unit=1), image=good),
        BatchJob(feature=Logit(unit=1), image=missing),
        BatchJob(feature=Logit(unit=1), image=broken),
        BatchJob(feature=Logit(unit=1), image=empty),
        BatchJob(feature=Logit(unit=1), image=good, recipe=elsewhere),
        BatchJob(feature=channel(5), image=good),
    )
    submit(services, BatchSpec(model=MODEL, jobs=jobs, recipe=RECIPE))
    run_all(services, outbox)
    codes = [found and found.code for found in (services.jobs.failure("b", index) for index in range(8))]
    assert codes == [
        None, "unit-out-of-range", "unknown-layer", "not-found",
        "invalid-image", "invalid-image", "unknown-layer", None,
    ]  # fmt: skip
    assert "99 was asked for" in failure(services, 1).detail
    assert "conv" in failure(services, 2).detail
    assert engine.computed == [0, 5]
    status = services.jobs.status("b")
    assert (status.state, status.counts) == (BatchState.PARTIALLY_FAILED, Counts(succeeded=2, failed=6))


def test_jobs_run_together_with_those_of_their_recipe(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    image = upload(services.objects, png())
    other = Recipe(steps=1, crops=2, size=64)
    jobs = tuple(
        BatchJob(feature=Logit(unit=unit), image=image, recipe=other if unit % 2 else None) for unit in range(6)
    )
    submit(services, BatchSpec(model=MODEL, jobs=jobs, recipe=RECIPE))
    run_all(services, outbox)
    assert engine.calls == [(0, 2, 4), (1, 3, 5)]


def test_an_error_of_a_pair_is_its_own(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    engine.yields[1] = NotFiniteError("step 2 gave NaN")
    submit(services, logits(services, 3))
    run_all(services, outbox)
    assert failure(services, 1) == Failure(code="not-finite", detail="step 2 gave NaN", attempts=1)
    assert services.jobs.status("b").counts == Counts(succeeded=2, failed=1)


def test_after_an_unforeseen_error_each_goes_alone(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    engine.raises[2] = ZeroDivisionError("by zero")
    submit(services, logits(services, 5))
    run_all(services, outbox)
    assert engine.calls == [(0, 1, 2, 3, 4), (2,), (3,), (4,)]
    assert failure(services, 2) == Failure(code="unexpected", detail="ZeroDivisionError: by zero", attempts=1)
    assert services.jobs.status("b").counts == Counts(succeeded=4, failed=1)


def test_what_failed_together_is_gone_before_each_goes_alone(services: Services, outbox: Outbox) -> None:
    """Its frames hold the memory of a GPU."""
    alive: list[bool] = []

    class Held:
        pass

    def accentuate(_: StubModel, pairs: Sequence[StubPair], *__: object, **___: object) -> Iterator[tuple[int, Ending]]:
        if len(pairs) > 1:
            held = Held()
            kept.append(weakref.ref(held))
            raise ZeroDivisionError("by zero")
        alive.append(kept[0]() is not None)
        yield 0, StubAccentuation(pairs[0])

    kept: list[weakref.ref[Held]] = []
    submit(services, logits(services, 3))
    run_all(replace(services, accentuate=accentuate), outbox)
    assert alive == [False] * 3
    assert services.jobs.status("b").counts == Counts(succeeded=3)


def test_a_worker_whose_device_is_lost_fails_no_job(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    """What it did is told; the rest counts as lost with its process, and the next worker goes on."""
    engine.raises[2] = RuntimeError("CUDA error: an illegal memory access was encountered")
    submit(services, logits(services, 5))
    shard = outbox.ids.pop()
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        run_shard(replace(services, computes=lambda model: model.card is not CARD), shard)
    assert engine.calls == [(0, 1, 2, 3, 4)]
    assert services.jobs.status("b").counts == Counts(running=3, succeeded=2)
    assert outstanding(redis_client, "bulk", MODEL) == (0, 1)
    services.jobs.shards.mark_dead(shard, services.owner)
    assert sweep(services.jobs, outbox, services.settings) == 1
    engine.raises.clear()
    run_all(services, outbox)
    assert services.jobs.status("b").counts == Counts(succeeded=5)


def test_the_process_of_a_lost_device_ends(monkeypatch: pytest.MonkeyPatch, services: Services) -> None:
    from accentor_worker import tasks

    def lost(*_: object) -> None:
        raise DeviceLostError("CUDA error")

    ended: list[int] = []
    monkeypatch.setattr(tasks, "run_shard", lost)
    monkeypatch.setattr(tasks._Child, "services", services)
    monkeypatch.setattr("os._exit", ended.append)
    tasks.run_shard_task("b.0-1")
    assert ended == [tasks.EXIT_LOST] != [0]


def test_other_weights_fail_the_batch(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit(services, logits(services, 2), digest="e" * 64)
    run_all(services, outbox)
    assert [failure(services, index).code for index in range(2)] == ["model-changed"] * 2
    assert CARD.digest in failure(services, 0).detail
    assert engine.calls == []


@pytest.mark.parametrize(("spec", "code"), [(None, "not-found"), (b"{}", "invalid-request")])
def test_a_batch_without_its_specification_fails(
    services: Services, outbox: Outbox, spec: bytes | None, code: str
) -> None:
    submit(services, logits(services, 2))
    if spec is None:
        services.objects.delete(batch_spec_key("b"))
    else:
        services.objects.put(batch_spec_key("b"), spec)
    run_all(services, outbox)
    assert [failure(services, index).code for index in range(2)] == [code] * 2


def test_progress_is_reported_a_few_times_a_second(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    steps = 100
    spec = logits(services, 1).model_copy(update={"recipe": Recipe(steps=steps, crops=2, size=64)})
    seen: list[Progress] = []
    revisions: list[int] = []

    def during(unit: int, step: int) -> None:
        time.sleep(0.01)
        if found := services.jobs.progress("b", 0):
            seen.append(found)
        revisions.append(services.jobs.status("b").revision)

    engine.during = during
    submit(services, spec)
    run_all(services, outbox)
    assert seen[-1].steps == steps
    assert 50 < seen[-1].step < steps
    assert seen[-1].value == float(seen[-1].step)
    seconds = steps * 0.01
    assert 3 <= len(set(revisions)) <= 4 * (2 * seconds) + 2
    assert services.jobs.progress("b", 0) is None


def test_cancel_takes_effect_in_the_middle(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    def during(unit: int, step: int) -> None:
        if (unit, step) == (2, 1):
            services.jobs.request_cancel("b")
            time.sleep(0.3)

    engine.during = during
    submit(services, logits(services, 20))
    run_all(services, outbox)
    status = services.jobs.status("b")
    assert (status.state, status.counts) == (BatchState.CANCELED, Counts(succeeded=2, canceled=18))
    assert engine.computed == [0, 1]
    assert outstanding(redis_client, "bulk", MODEL) == (0, 0)


def test_a_worker_that_stops_puts_its_jobs_back(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    def during(unit: int, step: int) -> None:
        if (unit, step) == (2, 1):
            services.stop.set()

    engine.during = during
    submit(services, logits(services, 8))
    (shard,) = outbox.ids
    outbox.ids.clear()
    run_shard(services, shard)
    assert outbox.ids == [shard]
    status = services.jobs.status("b")
    assert (status.state, status.counts) == (BatchState.RUNNING, Counts(queued=6, succeeded=2))
    engine.during = lambda unit, step: None
    services.stop.clear()
    run_all(services, outbox)
    assert services.jobs.status("b").counts == Counts(succeeded=8)
    assert engine.computed == list(range(8))


class FailingStore:
    """An object store that fails when told to."""

    def __init__(self, services: Services) -> None:
        self._objects = services.objects
        self.down = False

    def __getattr__(self, name: str) -> object:
        if self.down:
            raise StorageUnavailableError("the store is away")
        return getattr(self._objects, name)


def test_while_storage_is_down_nothing_fails(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    store = FailingStore(services)

    def during(unit: int, step: int) -> None:
        store.down = unit == 2

    engine.during = during
    submit(services, logits(services, 4))
    shaky = replace(services, objects=store)  # type: ignore[arg-type]
    (shard,) = outbox.ids
    outbox.ids.clear()
    run_shard(shaky, shard)
    assert services.jobs.status("b").counts == Counts(queued=2, succeeded=2)
    assert outbox.ids == []
    run_shard(shaky, shard)
    assert services.jobs.status("b").counts == Counts(queued=2, succeeded=2)
    engine.during = lambda unit, step: None
    store.down = False
    wait_until(lambda: sweep(services.jobs, outbox, services.settings) == 1, what="the shard to be sent again")
    run_all(shaky, outbox)
    assert services.jobs.status("b").counts == Counts(succeeded=4)


def test_while_redis_is_down_nobody_dies(
    services: Services,
    outbox: Outbox,
    engine: StubEngine,
    durable_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Redis is away for longer than a lease; the shard is put back as soon as it answers, with no attempt more.

    The end of job 2 could not be told any more and is found by its result. Whoever sweeps gives a worker 3 s to say
    that it lives.
    """
    settings = services.settings.model_copy(update={"redis_url": SecretStr(durable_redis.url), "lease_s": 1.5})
    services = replace(services, settings=settings, jobs=JobStore(connect(settings)))
    monkeypatch.setattr(ledger, "TELL_S", 60.0)
    submit(services, logits(services, 8))

    def bring_back() -> None:
        wait_until(lambda: "put back for" in caplog.text, what="the shard is left")
        time.sleep(2.0)
        durable_redis.start()

    back = threading.Thread(target=bring_back)

    def during(unit: int, step: int) -> None:
        if (unit, step) == (3, 1):
            durable_redis.stop()
            back.start()

    engine.during = during
    with sweeping(replace(services, settings=settings.model_copy(update={"lease_s": 9.0}))):
        run_shard(services, outbox.ids.pop(0))
        wait_until(lambda: bool(outbox.ids), what="the shard is sent again")
    back.join()
    shard = services.jobs.shards.take("b.0-8", "test/x", alive_s=60)
    assert shard is not None
    assert shard.attempts == 0
    assert services.jobs.status("b").counts == Counts(succeeded=2, queued=6)
    services.jobs.shards.release(shard.id, "test/x", due_s=0)
    engine.during = lambda unit, step: None
    run_shard(services, shard.id)
    assert services.jobs.status("b").counts == Counts(succeeded=8, cached=1)
    assert engine.computed == list(range(8))


@contextmanager
def sweeping(services: Services) -> Iterator[None]:
    """Look for lost shards meanwhile, as another worker does."""
    ended = threading.Event()

    def keep_sweeping() -> None:
        while not ended.wait(0.1):
            with suppress(ServiceError):
                sweep(services.jobs, services.publish, services.settings)

    thread = threading.Thread(target=keep_sweeping)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_model_that_cannot_be_loaded_here_is_left_to_others(
    services: Services, outbox: Outbox, engine: StubEngine
) -> None:
    submit(services, logits(services, 2))
    models = StubModels()
    models.broken = True
    (shard,) = outbox.ids
    run_shard(replace(services, models=models), shard)
    assert services.jobs.status("b").counts == Counts(queued=2)
    assert outbox.ids == [shard]


def test_a_worker_that_lost_its_shard_lets_go(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    """Another worker was given the shard meanwhile: this one stops, and touches nothing any more."""

    def during(unit: int, step: int) -> None:
        if (unit, step) == (1, 1):
            services.jobs.shards.mark_dead(shard, "host:1")
            assert sweep(services.jobs, outbox, services.settings) == 1
            assert services.jobs.shards.take(shard, "host:2/x", alive_s=60) is not None
            time.sleep(0.3)

    engine.during = during
    submit(services, logits(services, 4))
    shard = outbox.ids.pop()
    run_shard(services, shard)
    assert engine.computed == [0]
    assert services.jobs.status("b").counts == Counts(queued=3, succeeded=1)
    assert outstanding(redis_client, "bulk", MODEL) == (0, 1)


def test_a_long_job_keeps_its_lease(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    def during(unit: int, step: int) -> None:
        time.sleep(0.4)
        assert sweep(services.jobs, outbox, services.settings) == 0

    engine.during = during
    submit(services, logits(services, 1))
    run_shard(services, outbox.ids.pop())
    assert services.jobs.status("b").counts == Counts(succeeded=1)


def test_a_shard_over_its_time_goes_on_in_the_next_one(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    hasty = replace(services, settings=services.settings.model_copy(update={"task_soft_limit_s": 0.2}))
    engine.during = lambda unit, step: time.sleep(0.03)
    submit(hasty, logits(services, 4))
    run_shard(hasty, outbox.ids.pop())
    assert 0 < services.jobs.status("b").counts.succeeded < 4
    run_all(hasty, outbox)
    assert services.jobs.status("b").counts == Counts(succeeded=4)
    assert engine.computed == [0, 1, 2, 3]


def test_a_job_over_the_time_of_a_shard_fails(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    hasty = replace(services, settings=services.settings.model_copy(update={"task_soft_limit_s": 0.2}))
    engine.during = lambda unit, step: time.sleep(0.25 if unit == 0 else 0)
    submit(hasty, logits(services, 3))
    run_all(hasty, outbox)
    assert failure(services, 0).code == "time-limit"
    assert services.jobs.status("b").counts == Counts(succeeded=2, failed=1)


def test_jobs_that_never_reach_a_step_in_time_fail_one_by_one(
    services: Services, outbox: Outbox, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(services, settings=services.settings.model_copy(update={"task_soft_limit_s": 0.1}))
    get = Images.get

    def slow(images: Images, sha256: str) -> Image.Image:
        time.sleep(0.12)
        return get(images, sha256)

    monkeypatch.setattr(Images, "get", slow)
    submit(hasty, logits(services, 3))
    run_all(hasty, outbox)
    assert [failure(services, index).code for index in range(3)] == ["time-limit"] * 3
    assert engine.calls == []


def test_a_broker_that_fails_in_an_unforeseen_way_stops_no_shard(
    services: Services, outbox: Outbox, engine: StubEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(shard: Shard) -> None:
        raise RuntimeError("nobody foresaw this")

    submit(services, logits(services, 2))
    (shard,) = outbox.ids
    submit(services, logits(services, 1), "later")
    services.jobs.shards.take("later.0-1", "x", alive_s=60)
    services.jobs.create_batch(NewBatch("more", MODEL, CARD.digest, "bulk", 1, datetime.now(UTC)))
    run_shard(replace(services, publish=broken), shard)
    assert services.jobs.status("b").counts == Counts(succeeded=2)
    assert "nobody foresaw this" in caplog.text


def test_a_result_does_not_say_who_asked_first(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    job = BatchJob(feature=Logit(unit=1), image=upload(services.objects, png()), custom_id="mine")
    spec = BatchSpec(model=MODEL, jobs=(job,), recipe=RECIPE, metadata={"who": "me"})
    submit(services, spec)
    run_all(services, outbox)
    (wanted,) = spec.expand(CARD)
    assert wanted.custom_id == "mine"
    stored = Result.model_validate_json(services.objects.get(result_key(wanted.key(CARD))))
    assert stored.spec == wanted.model_copy(update={"custom_id": None, "metadata": {}})


def test_a_job_canceled_alone_is_not_computed(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit(services, logits(services, 3))
    services.jobs.finish_job("b", 1, JobState.CANCELED)
    run_all(services, outbox)
    assert engine.computed == [0, 2]
    assert services.jobs.status("b").counts == Counts(succeeded=2, canceled=1)


def test_two_workers_end_every_job_once(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit(services, logits(services, 60))
    sent = outbox.ids * 2
    lock = threading.Lock()

    def work(owner: str) -> None:
        mine = replace(services, owner=owner)
        while True:
            with lock:
                if not sent:
                    return
                shard = sent.pop(0)
            run_shard(mine, shard)

    threads = [threading.Thread(target=work, args=(f"host:{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(engine.computed) == list(range(60))
    assert services.jobs.status("b").counts == Counts(succeeded=60)


def test_ends_are_told_before_the_next_step(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    ended: dict[int, int] = {}
    engine.during = lambda unit, step: ended.setdefault(unit, services.jobs.status("b").counts.succeeded)
    submit(services, logits(services, 4))
    engine.raises[3] = OSError("the end")
    run_shard(services, outbox.ids[0])
    assert ended == {0: 0, 1: 0, 2: 1, 3: 2}
    assert services.jobs.status("b").counts == Counts(succeeded=3, failed=1)


def test_ends_are_told_a_few_at_a_time_also_when_a_shard_is_left(
    services: Services, outbox: Outbox, engine: StubEngine
) -> None:
    def during(unit: int, step: int) -> None:
        if (unit, step) == (5, 1):
            services.stop.set()

    engine.during = during
    submit(services, logits(services, 8))
    run_shard(services, outbox.ids[0])
    status = services.jobs.status("b")
    assert status.counts == Counts(queued=3, succeeded=5)


def test_a_job_costs_no_call_to_redis_of_its_own(
    services: Services, outbox: Outbox, redis_client: "redis.Redis[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts are told together, and so are ends of jobs that end together; the first shard loads the scripts."""
    monkeypatch.setattr(ledger, "TELL_S", 60.0)
    scripts, here = 0, threading.get_ident()
    plain = redis.Redis.execute_command

    def counted(client: "redis.Redis[bytes]", *arguments: Any, **options: Any) -> Any:
        nonlocal scripts
        scripts += arguments[0] == "EVALSHA" and threading.get_ident() == here
        return plain(client, *arguments, **options)

    monkeypatch.setattr(redis.Redis, "execute_command", counted)
    calls = []
    for jobs in (1, 2, 64):
        settings = services.settings.model_copy(update={"first_shard_jobs": jobs, "lease_s": 60})
        many = replace(services, settings=settings, accentuate=at_once)
        submit(many, logits(services, jobs), f"b{jobs}")
        before = scripts
        run_shard(many, outbox.ids.pop())
        calls.append(scripts - before)
        assert services.jobs.status(f"b{jobs}").counts == Counts(succeeded=jobs)
        redis_client.delete(SPEEDS)
        shutil.rmtree(file_root(settings.storage_url) / "results")
    assert 0 < calls[1] == calls[2]


def at_once(_model: StubModel, pairs: Sequence[StubPair], *_: object, **__: object) -> Iterator[tuple[int, Ending]]:
    """End every pair without a step."""
    yield from ((position, StubAccentuation(pair)) for position, pair in enumerate(pairs))
