"""Saying that this worker is there with its models loaded, again and again."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from accentor.errors import StateUnavailableError
from accentor.spec import ModelCard
from accentor.state import READY_S, JobStore

BEATS = 3
"""Signs of life in the time that one of them counts for."""

RETRY_S = 1.0

logger = logging.getLogger(__name__)


class Presence:
    """Announces a worker's models, then keeps them ready until the process is asked to end or its parent is gone.

    Parameters
    ----------
    owner
        Names the worker.
    stop
        Set when the process is asked to end.
    ready_s
        Seconds that one sign of life counts for.
    memory
        Tells the bytes of its device's memory by kind.
    """

    def __init__(
        self,
        jobs: JobStore,
        owner: str,
        stop: threading.Event,
        *,
        ready_s: float = READY_S,
        memory: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._jobs = jobs
        self._owner = owner
        self._stop = stop
        self._ready_s = ready_s
        self._memory = memory
        self._parent = os.getppid()

    def begin(self, cards: Iterable[ModelCard]) -> None:
        """Announce the models, however long Redis is away, and start the thread that keeps them ready."""
        names = [card.name for card in cards if self._announce(card)]
        threading.Thread(target=self._keep, args=(names,), name="presence", daemon=True).start()

    def _announce(self, card: ModelCard) -> bool:
        while True:
            try:
                self._jobs.announce_model(card, self._owner, ready_s=self._ready_s)
            except StateUnavailableError as error:
                logger.warning("%s is not announced yet: %s", card.name, error)
            else:
                return True
            if self._stop.wait(RETRY_S):
                return False

    def _keep(self, names: Sequence[str]) -> None:
        while not self._stop.wait(self._ready_s / BEATS) and os.getppid() == self._parent:
            try:
                self._jobs.keep_ready(names, self._owner, ready_s=self._ready_s)
                if kinds := self._memory():
                    self._jobs.measures.note_memory(self._owner, kinds)
            except StateUnavailableError as error:
                logger.warning("no sign of life of this worker: %s", error)
            except Exception:
                logger.exception("no sign of life of this worker")
