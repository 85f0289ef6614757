"""Single jobs that wait for the same model run together, and before the rest of a bulk shard."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis
from tests.shards import outstanding
from tests.worker.stubs import MODEL, RECIPE, Outbox, StubEngine, logits, png, submit, upload

from accentor.errors import NotFiniteError, StorageUnavailableError
from accentor.spec import BatchJob, BatchSpec, BatchState, Counts, Failure, JobState, Logit, Recipe
from accentor.state import sweep
from accentor_worker import runner, watch
from accentor_worker.runner import run_shard
from accentor_worker.services import Services


def submit_one(services: Services, unit: int, name: str | None = None, recipe: Recipe = RECIPE) -> str:
    job = BatchJob(feature=Logit(unit=unit), image=upload(services.objects, png(unit)))
    spec = BatchSpec(model=MODEL, jobs=(job,), recipe=recipe, lane="interactive")
    return submit(services, spec, name or f"j{unit}")


def state(services: Services, name: str) -> BatchState:
    return services.jobs.status(name).state


def test_single_jobs_that_wait_are_one_engine_call(
    services: Services, outbox: Outbox, engine: StubEngine, redis_client: "redis.Redis[bytes]"
) -> None:
    for unit in range(6):
        submit_one(services, unit)
    first, *others = outbox.ids
    run_shard(services, first)
    assert engine.calls == [tuple(range(6))]
    assert all(state(services, f"j{unit}") is BatchState.SUCCEEDED for unit in range(6))
    assert outstanding(redis_client, "interactive", MODEL) == (0, 0)
    for shard in others:
        run_shard(services, shard)
    assert engine.computed == list(range(6))


def test_jobs_beyond_the_window_are_taken_too(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    narrow = replace(services, settings=services.settings.model_copy(update={"window": 1, "coalesce_jobs": 4}))
    for unit in range(6):
        submit_one(narrow, unit)
    assert outbox.ids == ["j0.0-1"]
    run_shard(narrow, outbox.ids.pop(0))
    assert engine.calls == [(0, 1, 2, 3)]
    run_shard(narrow, outbox.ids.pop(0))
    assert engine.calls[1:] == [(4, 5)]


def test_each_recipe_is_a_call_of_its_own(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    for unit in range(4):
        submit_one(services, unit, recipe=RECIPE if unit % 2 else Recipe(steps=1, crops=2, size=64))
    run_shard(services, outbox.ids[0])
    assert sorted(engine.calls) == [(0, 2), (1, 3)]


def test_the_same_job_of_two_people_is_computed_once(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    submit_one(services, 3, "mine")
    submit_one(services, 3, "yours")
    run_shard(services, outbox.ids[0])
    assert engine.computed == [3]
    assert services.jobs.status("yours").counts == Counts(succeeded=1, cached=1)


def test_a_twin_of_a_failed_job_fails_for_the_same_reason(
    services: Services, outbox: Outbox, engine: StubEngine
) -> None:
    engine.yields[3] = NotFiniteError("step 2 gave NaN")
    submit_one(services, 3, "mine")
    submit_one(services, 3, "yours")
    run_shard(services, outbox.ids[0])
    assert services.jobs.failure("yours", 0) == Failure(code="not-finite", detail="step 2 gave NaN", attempts=1)


def test_a_job_that_fails_leaves_its_neighbours_alone(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    engine.raises[1] = ZeroDivisionError("by zero")
    for unit in range(3):
        submit_one(services, unit)
    run_shard(services, outbox.ids[0])
    assert [state(services, f"j{unit}") for unit in range(3)] == ["succeeded", "failed", "succeeded"]


def test_cancel_of_one_leaves_the_others(
    services: Services, outbox: Outbox, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "REPORT_S", 0.0)
    seen: list[BatchState] = []

    def during(unit: int, step: int) -> None:
        if (unit, step) == (0, 1):
            services.jobs.request_cancel("j1")
        if (unit, step) == (0, 3):
            seen.append(state(services, "j1"))

    engine.during = during
    for unit in range(3):
        submit_one(services, unit)
    run_shard(services, outbox.ids[0])
    assert seen == [BatchState.CANCELED]
    assert len({key.split("/")[2] for key in services.objects.keys("results/")}) == 2
    assert [state(services, f"j{unit}") for unit in range(3)] == ["succeeded", "canceled", "succeeded"]


def test_while_storage_is_down_all_are_put_back(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    class Down:
        def __getattr__(self, name: str) -> object:
            raise StorageUnavailableError("the store is away")

    for unit in range(3):
        submit_one(services, unit)
    run_shard(replace(services, objects=Down()), outbox.ids.pop(0))  # type: ignore[arg-type]
    assert all(services.jobs.status(f"j{unit}").counts == Counts(queued=1) for unit in range(3))
    outbox.ids.clear()
    end = time.monotonic() + 5
    while len(set(outbox.ids)) < 3 and time.monotonic() < end:
        sweep(services.jobs, outbox, services.settings)
        time.sleep(0.05)
    run_shard(services, outbox.ids[0])
    assert engine.computed[-3:] == [0, 1, 2] or sorted(engine.computed) == [0, 1, 2]


def test_a_worker_that_stops_puts_all_back(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    engine.during = lambda unit, step: services.stop.set() if (unit, step) == (1, 1) else None
    for unit in range(3):
        submit_one(services, unit)
    first, *_ = outbox.ids
    outbox.ids.clear()
    run_shard(services, first)
    assert [state(services, f"j{unit}") for unit in range(3)] == ["succeeded", "running", "running"]
    assert [services.jobs.status(f"j{unit}").counts.queued for unit in range(3)] == [0, 1, 1]
    assert sorted(outbox.ids) == ["j1.0-1", "j2.0-1"]


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "INTERLUDE_S", 0.0)


def test_a_single_job_goes_before_the_rest_of_a_bulk_shard(
    services: Services, outbox: Outbox, engine: StubEngine, restless: None
) -> None:
    def during(unit: int, step: int) -> None:
        if (unit, step) == (2, 1):
            submit_one(services, 40)
            submit_one(services, 41)

    engine.during = during
    submit(services, logits(services, 8))
    run_shard(services, outbox.ids[0])
    assert engine.calls == [tuple(range(8)), (40, 41)]
    assert engine.computed == [0, 1, 2, 40, 41, 3, 4, 5, 6, 7]
    assert state(services, "j40") is BatchState.SUCCEEDED
    assert services.jobs.status("b").counts == Counts(succeeded=8)


def test_the_time_of_single_jobs_is_not_the_shards(
    services: Services, outbox: Outbox, engine: StubEngine, restless: None
) -> None:
    hasty = replace(services, settings=services.settings.model_copy(update={"task_soft_limit_s": 0.4}))

    def during(unit: int, step: int) -> None:
        if unit < 2 and step == 1:
            submit_one(hasty, 40 + unit)
        if unit >= 40:
            time.sleep(0.1)

    engine.during = during
    submit(hasty, logits(hasty, 3))
    run_shard(hasty, outbox.ids[0])
    assert hasty.jobs.status("b").counts == Counts(succeeded=3)
    bulk, single = (hasty.jobs.shards.speed(lane, MODEL) for lane in ("bulk", "interactive"))  # type: ignore[arg-type]
    assert bulk is not None
    assert single is not None
    assert bulk < 0.15 < 0.25 < single


def test_many_at_once_end_once(services: Services, outbox: Outbox, engine: StubEngine) -> None:
    for unit in range(40):
        submit_one(services, unit)
    sent, lock = outbox.ids * 2, threading.Lock()

    def work(owner: str) -> None:
        mine = replace(services, owner=owner, settings=services.settings.model_copy(update={"coalesce_jobs": 5}))
        while True:
            with lock:
                if not sent:
                    return
                shard = sent.pop(0)
            run_shard(mine, shard)

    threads = [threading.Thread(target=work, args=(f"host:{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(engine.computed) == list(range(40))
    assert all(state(services, f"j{unit}") is BatchState.SUCCEEDED for unit in range(40))


Pictures = Callable[[], list[object]]


def test_single_jobs_show_their_image_as_it_is_now(
    services: Services, outbox: Outbox, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64
    import io

    import torch
    from PIL import Image
    from tests.worker import stubs

    monkeypatch.setattr(watch, "REPORT_S", 0.0)
    monkeypatch.setattr(watch, "PREVIEW_S", 0.0)
    red = torch.zeros(3, 300, 150, dtype=torch.uint8)
    red[0] = 200
    monkeypatch.setattr(stubs.StubReport, "images", lambda report: [red] * len(report.indices))
    seen: list[str | None] = []

    def during(unit: int, step: int) -> None:
        if step == 3:
            found = services.jobs.progress("j5", 0)
            seen.append(found and found.preview)

    engine.during = during
    submit_one(services, 5)
    run_shard(services, outbox.ids[0])
    kind, _, data = str(seen[0]).partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (48, 96)
        red_value, green, _ = shown.convert("RGB").getpixel((20, 40))  # type: ignore[misc]
    assert abs(red_value - 200) < 12
    assert green < 12
    submit(services, logits(services, 1))
    run_shard(services, "b.0-1")
    assert services.jobs.status("b").counts.succeeded == 1


def test_a_bulk_job_shows_no_image(
    services: Services, outbox: Outbox, engine: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.worker import stubs

    def never(report: object) -> list[object]:
        raise AssertionError("nobody watches")

    monkeypatch.setattr(stubs.StubReport, "images", never)
    submit(services, logits(services, 1))
    run_shard(services, outbox.ids[0])
    assert services.jobs.status("b").counts == Counts(succeeded=1)
    assert services.jobs.job_state("b", 0) is JobState.SUCCEEDED
