"""Looking up from the work: whether it is still wanted, and how far it is."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum

from accentor.errors import StateUnavailableError
from accentor.spec import Progress
from accentor_worker.lease import Lease
from accentor_worker.plan import Item
from accentor_worker.services import Services

REPORT_S = 0.25
"""Seconds between two progress reports, and between two looks for a cancellation."""

PREVIEW_S = 0.5
"""Seconds between two previews."""

logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why shards are left before their end."""

    CANCELED = "canceled"
    STOPPING = "the worker stops"
    LATE = "the time limit is over"
    LOST = "taken from this worker, or canceled"


class Left(Exception):  # noqa: N818
    """Raised out of the engine when the shards in hand are to be left; no error."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Watch:
    """Looks, a few times a second, whether the work is still wanted, and reports progress."""

    def __init__(self, services: Services, lease: Lease) -> None:
        self._services = services
        self._lease = lease
        self._end = time.monotonic() + services.settings.task_soft_limit_s
        self._next_report = 0.0
        self._next_preview = 0.0
        self.in_hand: Sequence[Item] = ()

    def check(self) -> None:
        """Raise `Left` if the work is to be left, by what is known in this process."""
        if not self._lease.shards:
            raise Left(Reason.LOST)
        if self._services.stop.is_set():
            raise Left(Reason.STOPPING)
        if time.monotonic() > self._end:
            raise Left(Reason.LATE)

    def pause(self, seconds: float) -> None:
        """Do not count this time, in which other work was done."""
        self._end += seconds

    def due(self) -> bool:
        """Tell whether the last report was long enough ago for another."""
        return time.monotonic() >= self._next_report

    def wants_preview(self) -> bool:
        """Tell whether the report that is due should show the images; the next one is then due later."""
        if time.monotonic() < self._next_preview:
            return False
        self._next_preview = time.monotonic() + PREVIEW_S
        return True

    def report(self, items: Sequence[Item], progress: Sequence[Progress]) -> None:
        """Say how far these jobs are; raise `Left` if none of the work is wanted any more."""
        self._next_report = time.monotonic() + REPORT_S
        batches: dict[str, dict[int, Progress]] = defaultdict(dict)
        for item, value in zip(items, progress, strict=True):
            if self._lease.holds(item.shard):
                batches[item.shard.batch][item.index] = value
        try:
            self._tell(batches)
        except StateUnavailableError as error:
            logger.warning("progress is not reported: %s", error)
        if not self._lease.shards:
            raise Left(Reason.CANCELED)

    def _tell(self, batches: Mapping[str, Mapping[int, Progress]]) -> None:
        for batch, progress in batches.items():
            self._services.jobs.report_progress(batch, progress)
        for shard in self._lease.shards:
            if self._services.jobs.cancel_requested(shard.batch):
                self._lease.release(shard, due_s=self._services.settings.republish_s)
