"""Queues and messages: what API (which only sends) and worker share of Celery."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast, get_args

from accentor.errors import StateUnavailableError
from accentor.settings import Settings
from accentor.spec import Lane
from accentor.state.client import HEALTH_CHECK_S
from accentor.state.records import Shard

if TYPE_CHECKING:
    from celery import Celery

TASK_RUN_SHARD = "accentor.run_shard"
LANES: tuple[Lane, ...] = get_args(Lane)
"""Most urgent first."""

SEND_RETRIES = {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0}

Publish = Callable[[Shard], None]


def queue_name(lane: Lane, model: str) -> str:
    """Return the name of the queue, which is also the Redis list, of a lane of a model."""
    return f"accentor.{lane}.{model}"


def lane_of_queue(queue: str) -> Lane:
    """Return the lane that a queue belongs to."""
    return cast("Lane", queue.split(".", 2)[1])


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the Celery settings that sender and receiver must agree on."""
    return {
        "broker_url": settings.redis_url.get_secret_value(),
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout_s,
            "socket_timeout": settings.redis_timeout_s,
            "socket_connect_timeout": settings.redis_timeout_s,
            "socket_keepalive": True,
            "health_check_interval": HEALTH_CHECK_S,
        },
        "broker_connection_retry_on_startup": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": "accentor.default",
    }


def celery_producer(settings: Settings) -> "Celery":
    """Return a Celery application that can only send."""
    from celery import Celery

    app = Celery("accentor", set_as_current=False)
    app.conf.update(celery_options(settings))
    return app


def shard_publisher(app: "Celery") -> Publish:
    """Return the function that sends a shard's message, or raises `StateUnavailableError`."""
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    def publish(shard: Shard) -> None:
        try:
            app.send_task(
                TASK_RUN_SHARD,
                kwargs={"shard": shard.id},
                queue=queue_name(shard.lane, shard.model),
                retry_policy=SEND_RETRIES,
            )
        except (OperationalError, RedisError, OSError) as error:
            raise StateUnavailableError(f"Redis takes no message: {error}") from error

    return publish
