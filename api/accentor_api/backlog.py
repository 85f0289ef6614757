"""How many jobs wait and run, per lane and model: what workers are scaled by."""

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from accentor.errors import NotFoundError
from accentor.spec import BatchStatus
from accentor.state import JobStore

PAGE = 500
OVERLAP = timedelta(minutes=10)
"""How much older than the last look a batch may be that is new: the clocks of several APIs differ."""


class Load(NamedTuple):
    """Jobs of a lane of a model that have not ended."""

    lane: str
    model: str
    queued: int
    running: int


class Backlog:
    """Looks through all batches once, and afterwards only at those that are new or had not ended."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._unfinished: set[str] = set()
        self._horizon: datetime | None = None

    def read(self) -> list[Load]:
        """Return the load of every lane and model that ever had a batch."""
        with self._lock:
            horizon = datetime.now(UTC) - OVERLAP
            statuses = {status.id: status for status in self._new()}
            for batch_id in self._unfinished - statuses.keys():
                statuses.update(self._again(batch_id))
            self._horizon = horizon
            self._unfinished = {name for name, status in statuses.items() if not status.state.terminal}
            return _loads(self._jobs.shards.lanes(), (statuses[name] for name in self._unfinished))

    def _new(self) -> Iterable[BatchStatus]:
        cursor = None
        while page := self._jobs.recent(PAGE, cursor):
            for status in page:
                if self._horizon is not None and status.created_at < self._horizon:
                    return
                yield status
            cursor = page[-1].id

    def _again(self, batch_id: str) -> dict[str, BatchStatus]:
        try:
            return {batch_id: self._jobs.status(batch_id)}
        except NotFoundError:
            return {}


def _loads(lanes: Iterable[tuple[str, str]], statuses: Iterable[BatchStatus]) -> list[Load]:
    queued = dict.fromkeys(lanes, 0)
    running = dict(queued)
    for status in statuses:
        place = (status.lane, status.model)
        queued[place] = queued.get(place, 0) + status.counts.queued
        running[place] = running.get(place, 0) + status.counts.running
    return [Load(*place, queued[place], running[place]) for place in sorted(queued)]
