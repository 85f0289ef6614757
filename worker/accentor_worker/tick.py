"""The small thread in the worker's parent process: fills queues, looks for lost shards, removes what has expired."""

import logging
import threading
import time
from collections.abc import Callable

from accentor.errors import ServiceError
from accentor.settings import Settings
from accentor.state import JobStore, Publish, dispatch, sweep

TIDY_S = 60.0
"""Seconds between two looks for what has expired."""

logger = logging.getLogger(__name__)


class Ticker:
    """Sweeps and dispatches every ``settings.tick_s`` until stopped; many workers may do so at once.

    ``step`` is called after each dispatch, which does not wait for what it waits for; ``tidy`` once a minute.
    """

    def __init__(
        self,
        jobs: JobStore,
        publish: Publish,
        settings: Settings,
        tidy: Callable[[], object],
        step: Callable[[], object] = lambda: None,
    ) -> None:
        self._jobs = jobs
        self._publish = publish
        self._settings = settings
        self._tidy = tidy
        self._step = step
        self._next_tidy = 0.0
        self._stop = threading.Event()
        self._down = False
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a call that hangs."""
        self._stop.set()
        self._thread.join(self._settings.tick_s)

    def tick(self) -> None:
        """Look once."""
        try:
            sweep(self._jobs, self._publish, self._settings)
            dispatch(self._jobs, self._publish, self._settings)
            self._step()
            if time.monotonic() >= self._next_tidy:
                self._next_tidy = time.monotonic() + TIDY_S
                self._tidy()
            self._down = False
        except ServiceError as error:
            if not self._down:
                logger.warning("looking after the queues has to wait: %s", error)
            self._down = True
        except Exception:
            logger.exception("looking after the queues failed")

    def _run(self) -> None:
        while not self._stop.wait(self._settings.tick_s):
            self.tick()
