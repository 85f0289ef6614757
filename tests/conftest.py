"""Fixtures that start real servers, and the settings that point at them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from tests.servers import ACCESS_KEY, SECRET_KEY, RedisServer, S3Server

from accentor.settings import Settings


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return one Redis server for the whole run; its data are not kept."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Return a client of the shared Redis server, emptied for this test."""
    with redis.Redis.from_url(redis_server.url, socket_timeout=10.0) as client:
        client.flushall()
        yield client


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis server of this test's own that keeps its data: ``stop()`` and ``start()`` restart it."""
    server = RedisServer(tmp_path / "redis", durable=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return one S3 server for the whole run, with the empty bucket ``accentor``."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    (server.root / "accentor").mkdir(parents=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(redis_server: RedisServer, redis_client: redis.Redis, tmp_path: Path) -> Settings:
    """Return settings for the shared, emptied Redis server and a folder of this test's own."""
    return Settings(
        redis_url=SecretStr(redis_server.url),
        storage_url=f"file://{tmp_path / 'objects'}",
        signing_secret=SecretStr("tests-sign-with-this"),
    )


@pytest.fixture
def s3_settings(settings: Settings, s3_server: S3Server, request: pytest.FixtureRequest) -> Settings:
    """Return settings for the shared Redis server and a prefix of this test's own in the S3 server's bucket."""
    return settings.model_copy(
        update={
            "storage_url": f"s3://accentor/{request.node.nodeid.encode().hex()[-40:]}",
            "s3_endpoint": s3_server.endpoint,
            "s3_access_key": SecretStr(ACCESS_KEY),
            "s3_secret_key": SecretStr(SECRET_KEY),
        }
    )
