"""An API on real servers: one for the whole run, emptied for each test."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from tests.api.service import Service
from tests.servers import RedisServer

from accentor.settings import Settings


@pytest.fixture(scope="session")
def running(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a running API."""
    settings = Settings(
        redis_url=SecretStr(redis_server.url),
        storage_url=f"file://{tmp_path_factory.mktemp('objects')}",
        signing_secret=SecretStr("tests-sign-with-this"),
        events_per_s=10.0,
    )
    service = Service(settings)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def bare(running: Service) -> Service:
    """Return a running API whose model no worker has announced yet."""
    running.forget()
    return running


@pytest.fixture
def service(bare: Service) -> Service:
    """Return a running API that serves the model ``toy``."""
    bare.announce()
    return bare


@pytest.fixture
def image(service: Service) -> str:
    """Return the id of an uploaded image."""
    return service.upload()
