"""The process that computes: Celery's only child, a fresh interpreter, the one place that imports torch."""

import logging
import os
import signal
import socket
import threading
import time
from types import FrameType

from accentor.errors import StateUnavailableError
from accentor.settings import Settings
from accentor.spec import ModelCard
from accentor.state import JobStore, celery_producer, connect, shard_publisher
from accentor.storage import open_store
from accentor_worker.models import Models
from accentor_worker.services import Services

STOP_SIGNAL = signal.SIGUSR2
"""From the parent: put back what is in hand."""

FAILED_SIGNAL = signal.SIGUSR2
"""To the parent: this worker cannot work, end with an error."""

ANNOUNCE_PAUSE_S = 1.0

logger = logging.getLogger(__name__)


def owner_of(parent: int) -> str:
    """Return the name of the worker whose parent process has this id."""
    return f"{socket.gethostname()}:{parent}"


def build_services(settings: Settings) -> Services:
    """Import the engine, load the models, announce them, and return all that running shards needs."""
    import torch

    from accentor.engine import Pair, accentuate_pairs, load_model

    stop = _stop_on_signal()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    jobs = JobStore(connect(settings))
    models = Models(settings, load_model)
    _announce(jobs, models.cards())
    return Services(
        settings=settings,
        jobs=jobs,
        objects=open_store(settings),
        publish=shard_publisher(celery_producer(settings)),
        models=models,
        accentuate=accentuate_pairs,
        make_pair=Pair,
        owner=owner_of(os.getppid()),
        stop=stop,
    )


def give_up() -> None:
    """Tell the parent that this worker cannot work."""
    os.kill(os.getppid(), FAILED_SIGNAL)


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(STOP_SIGNAL, set_stop)
    return stop


def _announce(jobs: JobStore, cards: list[ModelCard]) -> None:
    for card in cards:
        while True:
            try:
                jobs.announce_model(card)
                break
            except StateUnavailableError as error:
                logger.warning("%s is not announced yet: %s", card.name, error)
                time.sleep(ANNOUNCE_PAUSE_S)
