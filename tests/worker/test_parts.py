"""The worker's small parts: queue order, loaded models, messages, and what its parent process imports."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from kombu.utils.scheduling import cycle_by_name
from PIL import Image
from pydantic import SecretStr
from tests.servers import free_port, wait_until
from tests.worker.stubs import CARD, png, upload

from accentor.errors import (
    InvalidWeightsError,
    ModelNotReadyError,
    NotFoundError,
    StateUnavailableError,
    StorageUnavailableError,
)
from accentor.settings import ModelSource, Settings
from accentor.spec import Logit, ModelCard
from accentor.state import JobStore, NewBatch, Shard, Work, celery_producer, connect, queue_name, shard_publisher
from accentor.state.keys import MEMORY
from accentor.state.queues import TASK_RUN_SHARD
from accentor.storage import open_store
from accentor.storage.keys import image_key
from accentor_worker import plan
from accentor_worker.app import LANE_CYCLE, create_app
from accentor_worker.models import MAX_LOADED, Models
from accentor_worker.pace import Pace
from accentor_worker.plan import CHUNK_JOBS, CHUNK_PIXELS, Images, Item, Ready, chunks
from accentor_worker.presence import Presence
from accentor_worker.tick import Ticker

SHARD = Shard("b.0-4", "b", 0, 4, "bulk", "a/model:1", 0)


def test_the_urgent_lane_comes_first_and_models_take_turns() -> None:
    cycle = cycle_by_name(LANE_CYCLE)()
    bulk, urgent = ["accentor.bulk.m1", "accentor.bulk.m2"], ["accentor.interactive.m1", "accentor.interactive.m2"]
    cycle.update([bulk[0], urgent[0], bulk[1], urgent[1]])
    assert cycle.consume(4) == [*urgent, *bulk]
    assert cycle.rotate(bulk[0]) == bulk[0]
    assert cycle.consume(4) == [*urgent, bulk[1], bulk[0]]
    assert cycle.consume(1) == [urgent[0]]
    assert cycle.rotate("elsewhere") == "elsewhere"


def test_a_worker_listens_to_the_lanes_of_its_models(settings: Settings) -> None:
    served = {name: ModelSource(source="reference", weights=None) for name in ("m1", "m2")}
    app = create_app(settings.model_copy(update={"models": served}))
    assert [queue.name for queue in app.conf.task_queues] == [
        "accentor.interactive.m1", "accentor.interactive.m2", "accentor.bulk.m1", "accentor.bulk.m2",
    ]  # fmt: skip
    limits = (app.conf.task_time_limit, app.conf.broker_transport_options["visibility_timeout"])
    assert limits == (settings.task_hard_limit_s, settings.visibility_timeout_s)
    assert limits[0] < limits[1]


def test_a_message_is_an_id_in_the_queue_of_its_lane(settings: Settings, redis_client: "redis.Redis[bytes]") -> None:
    shard_publisher(celery_producer(settings))(SHARD)
    queue = queue_name("bulk", "a/model:1")
    assert queue == "accentor.bulk.a/model:1"
    assert redis_client.llen(queue) == 1
    message = json.loads(redis_client.lindex(queue, 0) or b"")
    assert message["headers"]["task"] == TASK_RUN_SHARD
    assert message["headers"]["kwargsrepr"] == "{'shard': 'b.0-4'}"


def test_a_message_that_cannot_be_sent_is_said_in_our_words(settings: Settings) -> None:
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    publish = shard_publisher(celery_producer(settings.model_copy(update={"redis_url": nowhere})))
    with pytest.raises(StateUnavailableError, match="Redis takes no message"):
        publish(SHARD)


class Loaded:
    def __init__(self, card: ModelCard) -> None:
        self.card = card


def test_models_are_loaded_once_and_the_oldest_makes_room(settings: Settings) -> None:
    served = {f"m{number}": ModelSource(source="torchvision:x", weights="w") for number in range(MAX_LOADED + 1)}
    calls: list[str] = []

    def load(source: str, *, weights: str | None, device: str | None, name: str) -> Loaded:
        assert (source, weights, device) == ("torchvision:x", "w", "cuda:3")
        calls.append(name)
        return Loaded(CARD.model_copy(update={"name": name}))

    models = Models(settings.model_copy(update={"models": served, "device": "cuda:3"}), load)
    assert [card.name for card in models.cards()] == list(served)
    assert calls == list(served)
    models.get("m1")
    models.get("m0")
    models.get("m1")
    assert calls[len(served) :] == ["m0"]
    with pytest.raises(ModelNotReadyError, match="no model is served as 'elsewhere'"):
        models.get("elsewhere")


def test_a_model_that_cannot_be_loaded_is_said_to_be_not_ready(settings: Settings) -> None:
    def load(source: str, **_: object) -> Loaded:
        raise InvalidWeightsError("conv holds NaN")

    models = Models(settings, load)
    with pytest.raises(InvalidWeightsError):
        models.cards()
    with pytest.raises(ModelNotReadyError, match="cannot load reference: conv holds NaN"):
        models.get("reference")


def ready(pictures: list[Image.Image]) -> Iterator[Ready]:
    for index, picture in enumerate(pictures):
        yield Ready(Item(SHARD, index, None, ""), picture, Logit(unit=0))  # type: ignore[arg-type]


def test_chunks_fit_the_memory() -> None:
    small, large = Image.new("1", (10, 10)), [Image.new("1", (CHUNK_PIXELS // 20_000, 10_000)) for _ in range(5)]
    assert [len(chunk) for chunk in chunks(ready([small] * (2 * CHUNK_JOBS + 1)))] == [CHUNK_JOBS, CHUNK_JOBS, 1]
    assert [len(chunk) for chunk in chunks(ready(large))] == [2, 2, 1]
    assert [len(chunk) for chunk in chunks(ready([large[0]] * 5))] == [5]
    huge = Image.new("1", (CHUNK_PIXELS // 10_000 + 1, 10_000))
    assert [len(chunk) for chunk in chunks(ready([small, huge, small]))] == [1, 1, 1]
    assert list(chunks(iter(()))) == []


def test_the_parent_process_never_imports_torch(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import accentor_worker.main, accentor_worker.tasks, accentor.state, accentor.storage\n"
        "from accentor.settings import Settings\n"
        "from accentor.storage import open_store\n"
        f"settings = Settings(storage_url='file://{tmp_path}')\n"
        "accentor_worker.main.create_app(settings).loader.import_default_modules()\n"
        "open_store(settings)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tick_outlives_what_nobody_foresaw(settings: Settings, redis_client: "redis.Redis[bytes]") -> None:
    jobs = JobStore(redis_client)
    sent: list[str] = []

    def publish(shard: Shard) -> None:
        sent.append(shard.id)
        if len(sent) == 1:
            raise RuntimeError("nobody foresaw this")

    jobs.create_batch(NewBatch("b", "toy", "d" * 64, "bulk", 9, datetime.now(UTC)))
    ticker = Ticker(jobs, publish, settings.model_copy(update={"tick_s": 0.02}), lambda: None)
    ticker.start()
    wait_until(lambda: len(sent) > 1, timeout_s=5, what="a second tick")
    ticker.stop()


def test_shards_are_handed_out_while_the_store_is_down(settings: Settings, redis_client: "redis.Redis[bytes]") -> None:
    """An atlas cannot go on then, whose step the ticker looks after as well."""
    jobs = JobStore(redis_client)
    sent: list[str] = []

    def step() -> None:
        raise StorageUnavailableError("the store is away")

    jobs.create_batch(NewBatch("b", "toy", "d" * 64, "bulk", 9, datetime.now(UTC)))
    Ticker(jobs, lambda shard: sent.append(shard.id), settings, lambda: None, step).tick()
    assert sent


def test_a_worker_is_ready_until_it_stops(redis_client: "redis.Redis[bytes]") -> None:
    jobs, stop = JobStore(redis_client), threading.Event()
    Presence(jobs, "here:1", stop, ready_s=0.3).begin([CARD])
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        assert jobs.ready_models() == {CARD.name}
        time.sleep(0.05)
    redis_client.flushall()
    wait_until(lambda: jobs.ready_models() == {CARD.name}, timeout_s=5, what="the next sign of life")
    stop.set()
    wait_until(lambda: not jobs.ready_models(), timeout_s=5, what="the last sign of life to be over")


def test_a_worker_tells_its_memory_while_it_lives(redis_client: "redis.Redis[bytes]") -> None:
    jobs, stop = JobStore(redis_client), threading.Event()
    Presence(jobs, "here:1", stop, ready_s=0.3, memory=lambda: {"total": 7}).begin([CARD])
    wait_until(lambda: jobs.measures.read().memory == {"here:1": {"total": 7}}, timeout_s=5, what="its memory")
    jobs.measures.note_memory("gone:2", {"total": 9})
    wait_until(lambda: redis_client.hlen(MEMORY) == 1, timeout_s=5, what="the memory of what is gone to be forgotten")
    stop.set()
    wait_until(lambda: not jobs.measures.read().memory, timeout_s=5, what="the end")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_steps_are_added_up_and_pauses_are_left_out(settings: Settings, redis_client: "redis.Redis[bytes]") -> None:
    clock, measures = Clock(), JobStore(redis_client).measures
    pace = Pace(measures, "toy", clock=clock)
    for pairs, step in (((0, 1, 2, 3), 1), ((0, 1, 2, 3), 5), ((4, 5), 2)):
        clock.now += 0.5
        pace.reach(pairs, step)
    assert measures.read().work == {}
    clock.now += 100
    pace.resume()
    clock.now += 0.25
    pace.reach((6,), 3)
    assert measures.read().work == {"toy": Work(10, 1.75, 5 * 4 + 2 * 2 + 3)}, "more than FLUSH_S have passed"
    clock.now += 0.25
    pace.reach((6,), 2)
    assert measures.read().work["toy"].steps == 10
    pace.report()
    pace.report()
    assert measures.read().work == {"toy": Work(12, 2.0, 29)}


def test_steps_are_kept_while_redis_is_away(settings: Settings, redis_client: "redis.Redis[bytes]") -> None:
    away = JobStore(connect(settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")})))
    pace = Pace(away.measures, "toy")
    pace.reach((0, 1, 2), 1)
    pace.report()
    pace._measures = JobStore(redis_client).measures
    pace.report()
    assert pace._measures.read().work["toy"].pairs == 3


def test_the_stop_signal_is_heard_before_torch_is_imported() -> None:
    program = (
        "import signal, sys\n"
        "sys.modules['torch'] = None\n"
        "from accentor.settings import Settings\n"
        "from accentor_worker.child import STOP_SIGNAL, build_services\n"
        "try:\n"
        "    build_services(Settings())\n"
        "except ImportError:\n"
        "    sys.exit(callable(signal.getsignal(STOP_SIGNAL)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 1


def test_wrong_settings_are_said_in_one_line() -> None:
    environment = {**os.environ, "ACCENTOR_LEASE_S": "-1"}
    command = [sys.executable, "-m", "accentor_worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ACCENTOR_LEASE_S" in done.stderr


def test_the_last_images_are_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_store(settings)
    names = [upload(objects, png(shade)) for shade in range(4)]
    images = Images(objects, max_pixels=256)
    monkeypatch.setattr(plan, "KEPT_PIXELS", 3 * 16 * 16)
    seen = [images.get(name) for name in names[:3]]
    assert [image.getpixel((0, 0))[0] for image in seen] == [0, 1, 2]
    assert images.get(names[0]) is seen[0]
    images.get(names[3])
    for name in names:
        objects.delete(image_key(name))
    assert images.get(names[0]) is seen[0]
    with pytest.raises(NotFoundError):
        images.get(names[1])
