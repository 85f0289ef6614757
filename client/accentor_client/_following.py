"""Following jobs and batches without input or output: pauses between looks, server-sent events, what is new."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from accentor.errors import CanceledError, IllegalTransitionError, WaitTimeoutError, error_from_code
from accentor.spec import BatchState, BatchStatus, JobState, JobStatus, Result
from accentor.spec.states import TERMINAL_JOB_STATES

FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 2.0
LOOK_GROWTH = 1.4


def pauses(timeout: float | None, what: str) -> Iterator[float]:
    """Return the seconds to wait before each look; `WaitTimeoutError` once they add up to the time limit."""
    end = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_LOOK_S
    while True:
        left = LONGEST_LOOK_S if end is None else end - time.monotonic()
        if left <= 0:
            raise WaitTimeoutError(f"{what} has not ended within {timeout:g} s; it goes on")
        yield min(pause, left)
        pause = min(pause * LOOK_GROWTH, LONGEST_LOOK_S)


def result_of(status: JobStatus) -> Result:
    """Return a succeeded job's result, or raise why there is none."""
    if status.failure is not None:
        raise error_from_code(status.failure.code, f"job {status.id}: {status.failure.detail}", job=status.id)
    if status.state is JobState.CANCELED:
        raise CanceledError(f"job {status.id} was canceled", job=status.id)
    if not status.state.terminal:
        raise IllegalTransitionError(f"job {status.id} is {status.state}: wait() for it first", job=status.id)
    if status.result is None:
        raise IllegalTransitionError(f"the results of job {status.id} were deleted", job=status.id)
    return status.result


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str | None
    data: str


class EventReader:
    """Puts events together from the lines of a stream."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Take the next line; return the event that it ends, if it does."""
        if not line:
            data, self._data = self._data, []
            return Event(self._id, "\n".join(data)) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "data":
            self._data.append(value)
        return None


class Harvest:
    """Which ended jobs of a batch have been told, so that each is told once while they end in any order.

    Jobs end nearly in order; so a look starts at the first job that has not ended, and only the ended ones after it
    are remembered.
    """

    def __init__(self) -> None:
        self._first = 0
        self._told: set[int] = set()
        self._ended = -1

    @property
    def cursor(self) -> str:
        """The page to begin a look with."""
        return str(self._first)

    def states(self, batch: BatchStatus) -> Collection[JobState]:
        """Return the states to look for: canceled jobs only matter while there is something to skip them for."""
        going = batch.state in {BatchState.QUEUED, BatchState.RUNNING}
        return TERMINAL_JOB_STATES if going else {JobState.SUCCEEDED}

    def is_worth_a_look(self, batch: BatchStatus) -> bool:
        """Tell whether jobs have ended since the last look."""
        ended = batch.counts.succeeded + batch.counts.failed + batch.counts.canceled
        changed, self._ended = ended != self._ended, ended
        return changed or batch.state.terminal

    def new(self, jobs: Sequence[JobStatus]) -> list[JobStatus]:
        """Return those of a page's jobs that have not been told before and have a result."""
        found = [job for job in jobs if job.index >= self._first and job.index not in self._told]
        self._told.update(job.index for job in found)
        while self._first in self._told:
            self._told.discard(self._first)
            self._first += 1
        return [job for job in found if job.result is not None]
