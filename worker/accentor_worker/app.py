"""The Celery application, built by a function."""

from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from accentor.logs import JSON_TEMPLATE, TEXT_TEMPLATE
from accentor.settings import Settings
from accentor.state.queues import LANES, celery_options, lane_of_queue, queue_name

TASKS = "accentor_worker.tasks"
LANE_CYCLE = "accentor_worker.app:LaneCycle"
CHILD_START_S = 600.0
"""Seconds that the child may take to import torch and to load its models."""


class LaneCycle:
    """The order in which kombu asks the queues: the urgent lane first, within a lane the models in turn."""

    def __init__(self) -> None:
        self._queues: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """Take over the queues there are."""
        self._queues = list(queues)

    def consume(self, n: int) -> list[str]:
        """Return the first n queues in order."""
        return sorted(self._queues, key=lambda queue: LANES.index(lane_of_queue(queue)))[:n]

    def rotate(self, last_used: str) -> str:
        """Move the queue that gave a message behind the others of its lane."""
        if last_used in self._queues:
            self._queues.remove(last_used)
            self._queues.append(last_used)
        return last_used


def create_app(settings: Settings) -> Celery:
    """Return the Celery application of a worker for the models of the settings."""
    app = Celery("accentor", include=[TASKS])
    app.conf.update(celery_options(settings))
    app.conf.update(_worker_options(settings))
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "queue_order_strategy": LANE_CYCLE,
    }
    return app


def _worker_options(settings: Settings) -> dict[str, Any]:
    """Return what only the worker needs: one shard at a time in a fresh child, acknowledged when it has ended.

    A shard whose child died is acknowledged too: our sweep sends it again, and counts how often that happens.
    """
    queues = [queue_name(lane, model) for lane in LANES for model in settings.models]
    return {
        "accentor_settings": settings,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in queues],
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        "task_time_limit": settings.task_hard_limit_s,
        "worker_pool": "prefork",
        "worker_pool_start_method": "spawn",
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_proc_alive_timeout": CHILD_START_S,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": settings.celery_events,
        "worker_send_task_events": settings.celery_events,
        "worker_hijack_root_logger": False,
        "worker_log_format": JSON_TEMPLATE if settings.log_format == "json" else TEXT_TEMPLATE,
    }
