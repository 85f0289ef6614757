"""A real worker: Celery's parent and child, Redis, a folder, and the engine with the reference model."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr
from tests.servers import RedisServer, wait_until
from tests.shards import outstanding
from tests.worker.stubs import CARD, png, upload

from accentor.settings import Settings
from accentor.spec import BatchSpec, Counts, Logit, Recipe, canonical_json
from accentor.state import JobStore, NewBatch, celery_producer, connect, dispatch, shard_publisher
from accentor.storage import ObjectStore, open_store
from accentor.storage.keys import artefact_key, batch_spec_key, result_key
from accentor_worker.child import machine

pytestmark = pytest.mark.service

MODEL = "reference"
JOBS = 8
RECIPE = Recipe(steps=2, crops=2, size=64)
END_S = 40.0
NO_PROCESS = 2**22 + 1
"""Linux gives no process a higher number than 2**22."""

STOP_S = 10.0


class Worker:
    """``python -m accentor_worker`` with its log."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._log = folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "accentor_worker"], env=self._environment, stdout=log, stderr=log
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def child(self) -> int:
        """Return the process id of the child that computes."""
        assert self.process is not None
        pid = self.process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        (found,) = (child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())
        return found

    def log(self) -> str:
        return self._log.read_text()


class Service:
    """What the API does, on the same Redis and folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = connect(settings)
        self.jobs = JobStore(self.client)
        self.objects: ObjectStore = open_store(settings)
        self.objects.ensure_bucket()

    def submit(self, recipe: Recipe = RECIPE, jobs: int = JOBS) -> BatchSpec:
        wait_until(lambda: MODEL in self.jobs.ready_models(), timeout_s=END_S, what="the worker to announce its model")
        image = upload(self.objects, png())
        features = tuple(Logit(unit=unit) for unit in range(jobs))
        spec = BatchSpec(model=MODEL, features=features, images=(image,), recipe=recipe)
        self.objects.put(batch_spec_key("b"), canonical_json(spec.model_dump(mode="json")))
        digest = self.jobs.model(MODEL).digest
        self.jobs.create_batch(NewBatch("b", MODEL, digest, "bulk", jobs, datetime.now(UTC)))
        dispatch(self.jobs, shard_publisher(celery_producer(self.settings)), self.settings)
        return spec

    def counts(self) -> Counts:
        counts = self.jobs.status("b").counts
        assert counts.queued + counts.running + counts.succeeded + counts.failed + counts.canceled == JOBS
        return counts

    def wait_for(self, succeeded: int) -> None:
        wait_until(lambda: self.counts().succeeded >= succeeded, timeout_s=END_S, what=f"{succeeded} jobs to succeed")

    def check_results(self, spec: BatchSpec) -> None:
        self.wait_for(JOBS)
        status = self.jobs.status("b")
        assert status.counts.model_copy(update={"cached": 0}) == Counts(succeeded=JOBS)
        card = self.jobs.model(MODEL)
        for job in spec.expand(card):
            key = job.key(card)
            assert self.objects.exists(result_key(key))
            assert self.objects.exists(artefact_key(key, "accentuated.png"))
        wait_until(lambda: outstanding(self.client, "bulk", MODEL) == (0, 0), what="the shards to be gone")


@pytest.fixture
def service(durable_redis: RedisServer, tmp_path: Path, settings: Settings) -> Iterator[Service]:
    opened = Service(settings.model_copy(update={"redis_url": SecretStr(durable_redis.url), "lease_s": 3.0}))
    yield opened
    opened.client.close()


@pytest.fixture
def make_worker(service: Service, durable_redis: RedisServer, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(**extra: str) -> Worker:
        environment = {
            "ACCENTOR_REDIS_URL": durable_redis.url,
            "ACCENTOR_STORAGE_URL": service.settings.storage_url,
            "ACCENTOR_LEASE_S": "3",
            "ACCENTOR_THREADS": "1",
            **extra,
        }
        made.append(Worker(environment, tmp_path))
        made[-1].start()
        return made[-1]

    yield make
    for worker in made:
        if worker.process is not None and worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait(STOP_S)


def test_a_child_killed_in_the_middle_costs_no_job(service: Service, make_worker: Callable[..., Worker]) -> None:
    worker = make_worker()
    spec = service.submit()
    service.wait_for(1)
    os.kill(worker.child(), signal.SIGKILL)
    service.check_results(spec)
    assert "is lost (died, attempt 1)" in worker.log()
    with Image.open(io.BytesIO(service.objects.get(first_picture(service, spec)))) as picture:
        assert (picture.size, picture.mode) == ((64, 64), "RGB")
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < STOP_S


def test_a_worker_stopped_and_one_killed_lose_nothing(service: Service, make_worker: Callable[..., Worker]) -> None:
    first = make_worker()
    spec = service.submit(RECIPE.model_copy(update={"steps": 6}))
    service.wait_for(1)
    assert first.stop(signal.SIGINT) == 0
    stopped = service.counts()
    assert (stopped.running, stopped.failed, stopped.canceled) == (0, 0, 0)
    assert outstanding(service.client, "bulk", MODEL)[1] == 0
    second = make_worker()
    service.wait_for(stopped.succeeded + 1)
    assert second.stop(signal.SIGKILL) == -signal.SIGKILL
    make_worker()
    service.check_results(spec)


def test_a_step_that_takes_too_long_does_not_hold_up_the_stop(
    service: Service, make_worker: Callable[..., Worker]
) -> None:
    worker = make_worker()
    service.submit(Recipe(steps=1_000, crops=256, size=2_048))
    wait_until(lambda: service.counts().running > 0, timeout_s=END_S, what="a job to run")
    assert worker.stop() == 0
    assert (service.counts().running, service.counts().failed) == (0, 0)
    shards = [service.jobs.shards.take(name, "test/x", alive_s=60) for name in ("b.0-4", "b.4-8")]
    assert [shard and shard.attempts for shard in shards] == [0, 0]


def test_a_worker_that_cannot_load_its_model_says_so_and_ends(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker(ACCENTOR_MODELS='{"mine": {"source": "torchvision:resnet18", "weights": "none.safetensors"}}')
    assert worker.process is not None
    assert worker.process.wait(END_S) == 1
    assert "this worker cannot work: none.safetensors cannot be read" in worker.log()


def test_a_worker_can_be_watched(service: Service, make_worker: Callable[..., Worker]) -> None:
    worker = make_worker(ACCENTOR_LOG_FORMAT="json", ACCENTOR_CELERY_EVENTS="true")
    spec = service.submit()
    service.check_results(spec)
    wait_until(lambda: service.jobs.measures.read().work[MODEL].pairs == JOBS * RECIPE.steps, what="its steps")
    measures = service.jobs.measures.read()
    assert measures.workers == {MODEL: 1}
    assert 0 < measures.work[MODEL].seconds < END_S
    (answer,) = celery_producer(service.settings).control.ping(timeout=5.0)
    assert answer == {f"accentor@{socket.gethostname()}:{worker.process.pid}": {"ok": "pong"}}  # type: ignore[union-attr]
    assert worker.stop() == 0
    lines = [
        json.loads(line) for line in worker.log().splitlines() if line and line != "worker: Warm shutdown (MainProcess)"
    ]
    assert {"accentor_worker.models", "celery.app.trace"} <= {line["logger"] for line in lines}


def first_picture(service: Service, spec: BatchSpec) -> str:
    card = service.jobs.model(MODEL)
    return artefact_key(spec.expand(card)[0].key(card), "accentuated.png")


def test_a_worker_is_ready_only_when_it_has_loaded(service: Service, make_worker: Callable[..., Worker]) -> None:
    """What a killed worker of this machine said of its model is taken back before another one loads; no other's is."""
    stale = CARD.model_copy(update={"name": MODEL})
    service.jobs.announce_model(stale, f"{machine()}{NO_PROCESS}", ready_s=600)
    service.jobs.announce_model(stale.model_copy(update={"name": "theirs"}), "elsewhere:1", ready_s=600)
    service.jobs.announce_model(stale.model_copy(update={"name": "living"}), f"{machine()}{os.getpid()}", ready_s=600)
    others = {"theirs", "living"}
    worker = make_worker()
    wait_until(lambda: service.jobs.ready_models() == others, timeout_s=END_S, what="the card to be taken back")
    wait_until(lambda: MODEL in service.jobs.ready_models(), timeout_s=END_S, what="the worker")
    assert service.jobs.model(MODEL).digest != stale.digest
    assert worker.stop() == 0
    assert service.jobs.ready_models() == others
