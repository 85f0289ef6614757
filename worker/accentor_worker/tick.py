"""The small thread in the worker's parent process that keeps the queues filled and looks for lost shards."""

import logging
import threading

from accentor.errors import ServiceError
from accentor.settings import Settings
from accentor.state import JobStore, Publish, dispatch, sweep

logger = logging.getLogger(__name__)


class Ticker:
    """Sweeps and dispatches every ``settings.tick_s`` until stopped; many workers may do so at once."""

    def __init__(self, jobs: JobStore, publish: Publish, settings: Settings) -> None:
        self._jobs = jobs
        self._publish = publish
        self._settings = settings
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
