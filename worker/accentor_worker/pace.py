"""How long the engine's steps take, and how many pairs each of them moves."""

import logging
import time
from collections.abc import Callable, Sequence

from accentor.errors import StateUnavailableError
from accentor.state import MeasureStore, Work

FLUSH_S = 5.0
"""Seconds between two reports: what a killed worker had not reported is not counted."""

logger = logging.getLogger(__name__)


class Pace:
    """Adds up the steps on one model and reports them now and then; without Redis they are kept for later.

    Parameters
    ----------
    clock
        Seconds that pass.
    """

    def __init__(self, measures: MeasureStore, model: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._measures = measures
        self._model = model
        self._clock = clock
        self._work = Work()
        self._last = self._reported = clock()
        self._at: tuple[Sequence[int], int] = ((), 0)

    def resume(self) -> None:
        """Begin to count again after something other than steps."""
        self._last = self._clock()
        self._at = ((), 0)

    def reach(self, pairs: Sequence[int], step: int) -> None:
        """Count the steps of these pairs up to this one, which has just ended."""
        now = self._clock()
        before, last = self._at
        steps = step - last if pairs == before and step > last else step
        self._at = (pairs, step)
        done = self._work
        self._work = Work(done.steps + steps, done.seconds + now - self._last, done.pairs + steps * len(pairs))
        self._last = now
        if now - self._reported >= FLUSH_S:
            self.report()

    def report(self) -> None:
        """Report what was not yet reported."""
        if not self._work.steps:
            return
        self._reported = self._clock()
        try:
            self._measures.add_work(self._model, self._work)
            self._work = Work()
        except StateUnavailableError as error:
            logger.info("%d steps are reported later: %s", self._work.steps, error)
