"""The connection to Redis, its server-side scripts, and how its errors become ours."""

import functools
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, ParamSpec, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from accentor.errors import IllegalTransitionError, NotFoundError, StateUnavailableError
from accentor.settings import Settings

RETRIES = 3
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
HEALTH_CHECK_S = 15
MAX_CONNECTIONS = 64
PRELUDE = "prelude.lua"

P = ParamSpec("P")
R = TypeVar("R")


def connect(settings: Settings) -> "redis.Redis[bytes]":
    """Return a client that connects when first used; every call has a time limit and is tried again a few times."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        socket_keepalive=True,
        health_check_interval=HEALTH_CHECK_S,
        max_connections=MAX_CONNECTIONS,
        retry=Retry(ExponentialBackoff(cap=LONGEST_PAUSE_S, base=FIRST_PAUSE_S), RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


def guarded(method: Callable[P, R]) -> Callable[P, R]:
    """Turn what Redis raises into `StateUnavailableError`, and what our scripts refuse into its own error."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except RedisError as error:
            raise _translated(error) from error

    return call


def _translated(error: RedisError) -> Exception:
    code, _, detail = str(error).partition(" ")
    if code == "NOTFOUND":
        return NotFoundError(detail)
    if code == "ILLEGAL":
        return IllegalTransitionError(detail)
    return StateUnavailableError(f"Redis fails: {error}")


class Scripts:
    """The Lua scripts beside this module, each an atomic transition."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client
        self._loaded: dict[str, Callable[..., Any]] = {}

    def __call__(self, name: str, keys: Sequence[str], *arguments: str | int | float | bytes) -> Any:
        """Run the script ``name`` on the keys."""
        if name not in self._loaded:
            self._loaded[name] = self._client.register_script(_read(PRELUDE) + _read(f"{name}.lua"))
        return self._loaded[name](keys=list(keys), args=list(arguments))


def _read(name: str) -> str:
    return resources.files("accentor.state").joinpath(name).read_text(encoding="utf-8")
