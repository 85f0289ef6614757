"""A worker from start to end: what ``accentor worker`` and the embedded mode run."""

import logging
import logging.config
import os
import signal
import threading
from types import FrameType
from typing import Any

from billiard.process import active_children
from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import state

from accentor.errors import ServiceError
from accentor.housekeeping import tidy, tidy_atlases
from accentor.logs import log_config
from accentor.settings import Settings
from accentor.state import AtlasStore, JobStore, celery_producer, connect, shard_publisher
from accentor.stepping import Stepper
from accentor.storage import open_store
from accentor_worker.app import create_app
from accentor_worker.child import FAILED_SIGNAL, STOP_SIGNAL, machine, owner_of, process_of
from accentor_worker.tick import Ticker

DRAIN_LIMIT_S = 6.0
"""Seconds between the request to stop and the end of a child that does not obey; its shard is put back."""

EXIT_FAILED = 1

logger = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run a worker in this process until it is told to stop by SIGTERM or SIGINT; return its exit status."""
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    logging.captureWarnings(capture=True)
    client = connect(settings)
    jobs, atlases = JobStore(client), AtlasStore(client)
    objects = open_store(settings)
    ticker = Ticker(
        jobs,
        shard_publisher(celery_producer(settings)),
        settings,
        tidy=lambda: (tidy(jobs, objects), tidy_atlases(atlases, objects)),
        step=Stepper(atlases, jobs, objects, settings).step_all,
    )
    owner = owner_of(os.getpid())
    parent = _Parent(jobs, ticker, owner)
    parent.connect()
    parent.clear()
    worker = create_app(settings).Worker(
        hostname=f"accentor@{owner}",
        loglevel=settings.log_level,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not settings.celery_events,
    )
    worker.start()
    ticker.stop()
    parent.leave()
    return parent.exit_status(worker.exitcode)


class _Parent:
    """What the parent process does at the events of Celery."""

    def __init__(self, jobs: JobStore, ticker: Ticker, owner: str) -> None:
        self._failed = False
        self._stopping = False
        self._jobs = jobs
        self._ticker = ticker
        self._owner = owner

    def connect(self) -> None:
        """Listen to Celery, and to a child that cannot work."""
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_shutting_down.connect(self._on_stop, weak=False)
        signals.task_failure.connect(self._on_failure, weak=False)
        signal.signal(FAILED_SIGNAL, self._on_failed_child)

    def clear(self) -> None:
        """Take back what workers of this machine that were killed said of their models."""
        try:
            for owner in self._jobs.owners():
                if owner.startswith(machine()) and (owner == self._owner or not _runs(process_of(owner))):
                    self._jobs.retract_models(f"{owner} ")
        except ServiceError as error:
            logger.warning("what a killed worker announced lasts a few seconds more: %s", error)

    def leave(self) -> None:
        """Take back what was said of the models, and put back the shard of a child that had to be killed."""
        try:
            self._jobs.retract_models(f"{self._owner} ")
            self._jobs.shards.give_back(self._owner)
        except ServiceError as error:
            logger.warning("this worker's models and shards are left to their time limits: %s", error)

    def exit_status(self, celerys: int | None) -> int:
        """Return 0 after a stop that was asked for, by whichever signal, and 1 if the child could not work."""
        if self._failed:
            return EXIT_FAILED
        return 0 if self._stopping else celerys or 0

    def _on_ready(self, **_: Any) -> None:
        self._ticker.start()

    def _on_stop(self, **_: Any) -> None:
        """Ask the child to put its shard back, and end it if that takes too long."""
        self._stopping = True
        _signal_children(STOP_SIGNAL)
        limit = threading.Timer(DRAIN_LIMIT_S, _signal_children, [signal.SIGKILL])
        limit.daemon = True
        limit.start()

    def _on_failure(self, exception: BaseException, kwargs: dict[str, Any], **_: Any) -> None:
        """Take the shard from a child that died: it need not wait for the end of its lease."""
        if self._stopping or not isinstance(exception, WorkerLostError | TimeLimitExceeded):
            return
        try:
            self._jobs.shards.mark_dead(kwargs["shard"], self._owner)
        except ServiceError as error:
            logger.warning("shard %s is left to its lease: %s", kwargs["shard"], error)

    def _on_failed_child(self, _number: int, _frame: FrameType | None) -> None:
        self._failed = True
        state.should_stop = EXIT_FAILED  # type: ignore[assignment]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _signal_children(number: int) -> None:
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, number)
