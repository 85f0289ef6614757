"""A job store on a real Redis server, and what tests do with it again and again."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis
from tests.state.stubs import MODEL, Outbox

from accentor.settings import Settings
from accentor.spec import Lane
from accentor.state import JobStore, NewBatch


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings under which shards are of four jobs and a lost one is found in a fraction of a second."""
    return settings.model_copy(
        update={"first_shard_jobs": 4, "window": 2, "lease_s": 0.15, "republish_s": 60.0, "max_attempts": 3}
    )


@pytest.fixture
def new_batch(store: JobStore) -> Callable[..., str]:
    """Return a function that creates a batch of so many jobs."""

    def create(name: str = "b", total: int = 10, lane: Lane = "bulk", model: str = MODEL) -> str:
        created = datetime.now(UTC)
        store.create_batch(NewBatch(name, model, "0" * 64, lane, total, created, {"who": "tests"}))
        return name

    return create
