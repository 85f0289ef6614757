"""Looking up from the work: whether it is still wanted, and how far it is."""

import logging
import time
from enum import StrEnum

from accentor.errors import StateUnavailableError
from accentor.spec import Progress
from accentor_worker.lease import Lease
from accentor_worker.services import Services

REPORT_S = 0.25
"""Seconds between two progress reports, and between two looks for a cancellation."""

logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why a shard is left before its end."""

    CANCELED = "canceled"
    STOPPING = "the worker stops"
    LATE = "the time limit is over"
    LOST = "the shard was taken from this worker"


class Left(Exception):  # noqa: N818
    """Raised out of the engine when the shard is to be left; no error."""

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
        self.in_hand: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise `Left` if the shard is to be left, by what is known in this process."""
        if self._lease.lost.is_set():
            raise Left(Reason.LOST)
        if self._services.stop.is_set():
            raise Left(Reason.STOPPING)
        if time.monotonic() > self._end:
            raise Left(Reason.LATE)

    def report(self, progress: dict[int, Progress]) -> None:
        """Say how far these jobs are, unless that was done a moment ago; raise `Left` if the shard is to be left."""
        self.in_hand = tuple(progress)
        self.check()
        if time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + REPORT_S
        try:
            self._services.jobs.report_progress(self._lease.shard.batch, progress)
            canceled = self._services.jobs.cancel_requested(self._lease.shard.batch)
        except StateUnavailableError as error:
            logger.warning("progress of shard %s is not reported: %s", self._lease.shard.id, error)
            return
        if canceled:
            raise Left(Reason.CANCELED)
