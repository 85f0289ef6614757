"""Following jobs and batches without input or output: when to look, server-sent events, which jobs are new.

A *program* is a generator: it yields calls and pauses, is sent what came of them, and so says what to do without doing
it. `Transport` and `AsyncTransport` run the same programs.
"""

import time
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import httpx

from accentor.errors import AccentorError, ServiceError, WaitTimeoutError
from accentor.spec import BatchStatus, JobState, JobStatus
from accentor.spec.atlases import AtlasStatus
from accentor_client import _calls
from accentor_client._calls import Look
from accentor_client._requests import RETRIES, Call, check

FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 2.0
LOOK_GROWTH = 1.4
PAGE = 200
EXCERPT = 500
"""Lines of a manifest that are read in one go."""

Order = Literal["completion", "submission"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S", JobStatus, BatchStatus, AtlasStatus)


@dataclass(frozen=True)
class Pause:
    """A step: wait."""

    seconds: float


@dataclass(frozen=True)
class Excerpt:
    """A step: read the first lines of an answer; the answer's rest is left."""

    call: Call[bytes]
    lines: int


@dataclass(frozen=True)
class Told(Generic[T_co]):
    """No step, but something that whoever runs the program is told."""

    value: T_co


@dataclass(frozen=True)
class Ended:
    """The program has ended with this value."""

    value: Any


Step = Call[Any] | Pause | Excerpt
Program = Generator[Step, Any, T]
Stream = Generator[Step | Told[T], Any, None]


def resumed(program: Generator[Any, Any, Any], outcome: Any) -> Any:
    """Return a program's next step, what it tells or its end, after the outcome of the step before."""
    try:
        return program.throw(outcome) if isinstance(outcome, AccentorError) else program.send(outcome)
    except StopIteration as end:
        return Ended(end.value)


class Patience:
    """How long to wait before each look: longer and longer, and not longer than there is time."""

    def __init__(self, timeout: float | None, what: str) -> None:
        self._timeout, self._what = timeout, what
        self._end = None if timeout is None else time.monotonic() + timeout
        self._pause = FIRST_LOOK_S

    def pause(self, wanted: float = 0.0) -> Pause:
        """Return the next pause; it grows to 2 s, or to what the service wants if that is more.

        Raises
        ------
        WaitTimeoutError
            Once the time is over.
        """
        left = self._pause if self._end is None else self._end - time.monotonic()
        if left <= 0:
            raise WaitTimeoutError(f"{self._what} has not ended within {self._timeout:g} s; it goes on")
        pause, self._pause = self._pause, min(self._pause * LOOK_GROWTH, max(LONGEST_LOOK_S, wanted))
        return Pause(min(pause, left))


def looks(ask: Callable[[str | None], Call[Look[S]]], patience: Patience) -> Stream[S]:
    """Tell the status, first at once and then whenever it is new, until it has ended.

    A service that does not answer for a while, because it is started again, is waited for.
    """
    tag, wanted, failures = None, 0.0, 0
    while True:
        try:
            look: Look[S] = yield ask(tag)
        except ServiceError:
            failures += 1
            if failures > RETRIES:
                raise
        else:
            tag, wanted, failures = look.tag, look.retry_after, 0
            if look.status is not None:
                yield Told(look.status)
                if look.status.state.terminal:
                    return
        yield patience.pause(wanted)


def job_looks(job_id: str, timeout: float | None) -> Stream[JobStatus]:
    """Tell how a job stands until it has ended."""
    return looks(lambda tag: _calls.look_at_job(job_id, tag), Patience(timeout, f"job {job_id}"))


def batch_looks(batch_id: str, timeout: float | None) -> Stream[BatchStatus]:
    """Tell how a batch stands until it has ended."""
    return looks(lambda tag: _calls.look_at_batch(batch_id, tag), Patience(timeout, f"batch {batch_id}"))


def pages(batch_id: str, states: Collection[JobState], cursor: str | None = "0") -> Stream[JobStatus]:
    """Tell the jobs of a batch in order: those in one of the states, or all."""
    while cursor is not None:
        page: _calls.JobPage = yield _calls.list_jobs(batch_id, states, cursor, PAGE)
        for job in page.data:
            yield Told(job)
        cursor = page.next_cursor


def batches(limit: int) -> Stream[BatchStatus]:
    """Tell all batches, the newest first."""
    cursor = None
    while True:
        page: _calls.BatchPage = yield _calls.list_batches(cursor, limit)
        for batch in page.data:
            yield Told(batch)
        cursor = page.next_cursor
        if cursor is None:
            return


def harvest(
    batch_id: str, states: Collection[JobState], order: Order, timeout: float | None
) -> Stream[BatchStatus | JobStatus]:
    """Tell each job once when it has ended in one of the states, and between them the batch whenever it has changed."""
    reaper = _ByEnd(batch_id, states) if order == "completion" else _ByIndex(batch_id, states)
    ended = -1
    steps = batch_looks(batch_id, timeout)
    step = resumed(steps, None)
    while not isinstance(step, Ended):
        outcome = None
        if isinstance(step, Told):
            yield step
            counts, before = step.value.counts, ended
            ended = counts.succeeded + counts.failed + counts.canceled
            if ended != before or step.value.state.terminal:
                yield from reaper.reap(step.value)
        else:
            try:
                outcome = yield step
            except AccentorError as error:
                outcome = error
        step = resumed(steps, outcome)


class _ByEnd:
    """Jobs as they end, by their places in the order of completion; a job that ends twice is told once.

    Canceled jobs have no place in that order: they come last.
    """

    def __init__(self, batch_id: str, states: Collection[JobState]) -> None:
        self._id, self._states = batch_id, frozenset(states)
        self._place = 0
        self._told = bytearray()

    def reap(self, batch: BatchStatus) -> Stream[JobStatus]:
        self._told = self._told or bytearray(batch.total)
        is_more = bool(self._states - {JobState.CANCELED})
        while is_more:
            lines: Sequence[str] = yield Excerpt(_calls.ended_jobs(self._id, self._states, self._place), EXCERPT)
            for job in map(JobStatus.model_validate_json, lines):
                self._place = 1 + (self._place if job.position is None else job.position)
                if not self._told[job.index]:
                    self._told[job.index] = 1
                    yield Told(job)
            is_more = len(lines) == EXCERPT
        if batch.state.terminal and JobState.CANCELED in self._states:
            yield from pages(self._id, {JobState.CANCELED})


class _ByIndex:
    """Jobs in the order of submission: a job that goes on holds back those after it."""

    def __init__(self, batch_id: str, states: Collection[JobState]) -> None:
        self._id, self._states = batch_id, states
        self._next = 0

    def reap(self, batch: BatchStatus) -> Stream[JobStatus]:
        states = self._states if batch.state.terminal else ()
        cursor: str | None = str(self._next)
        while cursor is not None:
            page: _calls.JobPage = yield _calls.list_jobs(self._id, states, cursor, PAGE)
            for job in page.data:
                if not job.state.terminal:
                    return
                self._next = job.index + 1
                if job.state in self._states:
                    yield Told(job)
            cursor = page.next_cursor


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


class Follower(Generic[S]):
    """Reads events over as many connections as it takes; a broken one is taken up where it broke."""

    def __init__(self, call: Callable[[str | None], Call[bytes]], kind: type[S]) -> None:
        self._call = call
        self._kind: type[S] = kind
        self._seen: str | None = None
        self._failures = 0
        self._reader = EventReader()
        self.over = False

    def call(self) -> Call[bytes]:
        """Return the next connection's call."""
        self._reader = EventReader()
        return self._call(self._seen)

    def begin(self, response: httpx.Response) -> None:
        """Look at the beginning of an answer: without content, there is nothing to come."""
        check(response)
        self.over = response.status_code == httpx.codes.NO_CONTENT

    def feed(self, line: str) -> S | None:
        """Take the next line; return the status that it tells, if it does."""
        event = self._reader.feed(line)
        if event is None:
            return None
        self._seen, self._failures = event.id, 0
        status: S = self._kind.model_validate_json(event.data)
        self.over = status.state.terminal
        return status

    def failed(self, error: ServiceError) -> None:
        """Count a connection that broke; several in a row without an event are an error."""
        self._failures += 1
        if self._failures > RETRIES:
            raise error
