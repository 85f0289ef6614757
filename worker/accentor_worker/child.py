"""The process that computes: Celery's only child, a fresh interpreter, the one place that imports torch."""

import os
import signal
import socket
import threading
from types import FrameType

from accentor.settings import Settings
from accentor.state import JobStore, celery_producer, connect, shard_publisher
from accentor.storage import open_store
from accentor_worker.models import Models
from accentor_worker.presence import Presence
from accentor_worker.services import Services

STOP_SIGNAL = signal.SIGUSR2
"""From the parent: put back what is in hand."""

FAILED_SIGNAL = signal.SIGUSR2
"""To the parent: this worker cannot work, end with an error."""


def machine() -> str:
    """Return what the names of all workers of this machine begin with."""
    return f"{socket.gethostname()}:"


def owner_of(parent: int) -> str:
    """Return the name of the worker whose parent process has this id."""
    return f"{machine()}{parent}"


def process_of(owner: str) -> int:
    """Return the id of the parent process of the worker with this name."""
    return int(owner.rpartition(":")[2])


def build_services(settings: Settings) -> Services:
    """Import the engine, load the models, announce them, and return all that running shards needs."""
    stop = _stop_on_signal()
    import torch

    from accentor.engine import Pair, accentuate_pairs, load_model
    from accentor.engine.models.devices import computes
    from accentor_worker.memory import memory_of

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    jobs = JobStore(connect(settings))
    models = Models(settings, load_model)
    owner = owner_of(os.getppid())
    cards = models.cards()
    Presence(jobs, owner, stop, memory=memory_of(settings.device)).begin(cards)
    return Services(
        settings=settings,
        jobs=jobs,
        objects=open_store(settings),
        publish=shard_publisher(celery_producer(settings)),
        models=models,
        accentuate=accentuate_pairs,
        make_pair=Pair,
        owner=owner,
        stop=stop,
        computes=lambda model: computes(model.device),
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
