"""Services of a worker on real Redis and a real folder, with a stub in place of the engine."""

from collections.abc import Iterator

import pytest
import redis
from tests.worker.stubs import Outbox, StubEngine, StubModels, StubPair

from accentor.settings import Settings
from accentor.state import JobStore, connect
from accentor.storage import open_store
from accentor_worker.services import Services


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def engine() -> StubEngine:
    return StubEngine()


@pytest.fixture
def worker_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_s": 0.6, "first_shard_jobs": 8, "window": 100})


@pytest.fixture
def services(
    worker_settings: Settings, redis_client: redis.Redis, outbox: Outbox, engine: StubEngine
) -> Iterator[Services]:
    client = connect(worker_settings)
    objects = open_store(worker_settings)
    objects.ensure_bucket()
    yield Services(
        settings=worker_settings,
        jobs=JobStore(client),
        objects=objects,
        publish=outbox,
        models=StubModels(),
        accentuate=engine,
        make_pair=StubPair,
        owner="host:1",
    )
    client.close()
