"""Batches in other forms and of other fates: lines in blocks, forced, past their deadline, deleted, retried."""

import json
from datetime import UTC, datetime

import redis
from tests.shards import outstanding
from tests.worker.stubs import ARTEFACTS, CARD, MODEL, RECIPE, Outbox, StubEngine, logits, png, submit, upload

from accentor.errors import NotFiniteError
from accentor.spec import Counts, JobState, LinesBatch
from accentor.state import NewBatch, dispatch
from accentor.state.keys import DEADLINES
from accentor.storage.batches import jobs_of, write_batch, write_block
from accentor.storage.keys import artefact_key, block_key, result_key
from accentor_worker.runner import run_shard
from accentor_worker.services import Services


def submit_lines(services: Services, count: int, block: int) -> LinesBatch:
    image = upload(services.objects, png())
    lines = [json.dumps({"feature": f"logit:{unit}", "image": image, "seed": unit}).encode() for unit in range(count)]
    spec = LinesBatch(model=MODEL, total=count, block_jobs=block, recipe=RECIPE)
    for number, start in enumerate(range(0, count, block)):
        write_block(services.objects, "b", number, lines[start : start + block])
    write_batch(services.objects, "b", spec)
    services.jobs.create_batch(NewBatch("b", MODEL, CARD.digest, "bulk", count, datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    return spec


def run_all(services: Services, outbox: Outbox) -> None:
    while outbox.ids:
        run_shard(services, outbox.ids.pop(0))


def test_lines_are_run_from_their_blocks(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    spec = submit_lines(services, 20, block=7)
    run_all(services, outbox)
    assert engine.computed == list(range(20))
    assert services.jobs.status("b").counts == Counts(succeeded=20)
    for job in jobs_of(services.objects, "b", spec, CARD):
        assert services.objects.exists(result_key(job.key(CARD)))


def test_lines_whose_block_is_gone_fail(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit_lines(services, 20, block=8)
    services.objects.delete(block_key("b", 1))
    run_all(services, outbox)
    assert services.jobs.status("b").counts == Counts(succeeded=12, failed=8)
    found = services.jobs.failure("b", 8)
    assert found is not None
    assert found.code == "not-found"


def test_force_computes_again_and_replaces(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    spec = logits(services, 3)
    submit(services, spec, "first")
    run_all(services, outbox)
    key = spec.expand(CARD)[1].key(CARD)
    services.objects.put(artefact_key(key, "frames.webp"), b"old")
    submit(services, spec, "second")
    run_all(services, outbox)
    assert engine.computed == [0, 1, 2]
    assert services.jobs.status("second").counts == Counts(succeeded=3, cached=3)
    submit(services, spec.model_copy(update={"force": True}), "third")
    run_all(services, outbox)
    assert engine.computed == [0, 1, 2, 0, 1, 2]
    assert services.jobs.status("third").counts == Counts(succeeded=3)
    assert services.objects.get(artefact_key(key, "frames.webp")) == ARTEFACTS["frames.webp"]


def test_a_shard_past_its_deadline_does_nothing(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    submit(services, logits(services, 4))
    redis_client.zadd(DEADLINES, {"b": 1})
    services.jobs.pass_deadlines()
    run_all(services, outbox)
    assert engine.calls == []
    assert services.jobs.status("b").counts == Counts(failed=4)
    assert outstanding(redis_client, "bulk", MODEL) == (0, 0)


def test_a_shard_of_a_deleted_batch_does_nothing(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    for forgotten in (False, True):
        submit(services, logits(services, 2))
        services.jobs.request_cancel("b")
        services.jobs.delete("b")
        if forgotten:
            services.jobs.forget("b")
        run_all(services, outbox)
        assert outstanding(redis_client, "bulk", MODEL) == (0, 0)
        services.jobs.forget("b")
    assert engine.calls == []


def test_a_retry_runs_the_failed_jobs_alone(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    engine.yields = {2: NotFiniteError("NaN"), 17: NotFiniteError("NaN")}
    submit(services, logits(services, 20))
    run_all(services, outbox)
    assert services.jobs.status("b").counts == Counts(succeeded=18, failed=2)
    engine.yields, engine.computed = {}, []
    services.jobs.retry("b")
    dispatch(services.jobs, services.publish, services.settings)
    run_all(services, outbox)
    assert engine.computed == [2, 17]
    assert services.jobs.status("b").counts == Counts(succeeded=20)
    assert services.jobs.ends("b", 18, 10)[-2:] == [2, 17]
    assert services.jobs.job_state("b", 2) is JobState.SUCCEEDED
