"""Looking at one thing for many: five hundred listeners of a batch cost one look."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

MAX_KEPT = 4_096

T = TypeVar("T")


class Looks:
    """Shares what was seen a moment ago, and a look that is under way.

    Parameters
    ----------
    fresh_s
        Seconds for which a look counts.
    """

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._seen: dict[str, tuple[float, Any]] = {}
        self._running: dict[str, asyncio.Future[Any]] = {}

    async def look(self, name: str, look: Callable[[], T]) -> T:
        """Return what a look at ``name`` gives, at most ``fresh_s`` old."""
        found = self._seen.get(name)
        if found is not None and time.monotonic() - found[0] < self._fresh_s:
            seen: T = found[1]
            return seen
        running = self._running.get(name)
        if running is None:
            running = self._running[name] = asyncio.ensure_future(self._look(name, look))
            running.add_done_callback(lambda _: self._running.pop(name, None))
        shared: T = await asyncio.shield(running)
        return shared

    async def _look(self, name: str, look: Callable[[], T]) -> T:
        began = time.monotonic()
        seen = await run_in_threadpool(look)
        if len(self._seen) >= MAX_KEPT:
            self._seen = {key: entry for key, entry in self._seen.items() if began - entry[0] < self._fresh_s}
        self._seen[name] = (began, seen)
        return seen
