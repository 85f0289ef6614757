"""States of jobs and batches, and the transitions that are legal."""

from collections.abc import Mapping
from enum import StrEnum

from accentor.errors import IllegalTransitionError


class JobState(StrEnum):
    """State of one job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether a job in this state has ended."""
        return self in TERMINAL_JOB_STATES


class BatchState(StrEnum):
    """State of one batch."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    PARTIALLY_FAILED = "partially_failed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether a batch in this state has ended."""
        return self in TERMINAL_BATCH_STATES


TERMINAL_JOB_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})
TERMINAL_BATCH_STATES = frozenset(
    {BatchState.SUCCEEDED, BatchState.PARTIALLY_FAILED, BatchState.FAILED, BatchState.CANCELED}
)

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELED: frozenset(),
}
"""A running job is queued again when its worker died; a failed one when it is retried."""

_ENDS = TERMINAL_BATCH_STATES
BATCH_TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.VALIDATING: frozenset({BatchState.QUEUED, BatchState.FAILED, BatchState.CANCELED}),
    BatchState.QUEUED: frozenset({BatchState.RUNNING, BatchState.CANCELING}) | _ENDS,
    BatchState.RUNNING: frozenset({BatchState.CANCELING}) | _ENDS,
    BatchState.CANCELING: frozenset({BatchState.CANCELED}),
    BatchState.SUCCEEDED: frozenset(),
    BatchState.PARTIALLY_FAILED: frozenset({BatchState.RUNNING}),
    BatchState.FAILED: frozenset({BatchState.RUNNING}),
    BatchState.CANCELED: frozenset(),
}

_CODES: Mapping[JobState, str] = {
    JobState.QUEUED: "q",
    JobState.RUNNING: "r",
    JobState.SUCCEEDED: "s",
    JobState.FAILED: "f",
    JobState.CANCELED: "c",
}
_STATES = {code: state for state, code in _CODES.items()}


def state_code(state: JobState) -> str:
    """Return the one character that stands for the state in a batch's status string."""
    return _CODES[state]


def state_of_code(code: str) -> JobState:
    """Return the state that a character of a batch's status string stands for."""
    return _STATES[code]


def check_job_transition(before: JobState, after: JobState) -> None:
    """Raise `IllegalTransitionError` unless a job may go from one state to the other."""
    if after not in JOB_TRANSITIONS[before]:
        raise IllegalTransitionError(f"a {before} job cannot become {after}")


def check_batch_transition(before: BatchState, after: BatchState) -> None:
    """Raise `IllegalTransitionError` unless a batch may go from one state to the other."""
    if after not in BATCH_TRANSITIONS[before]:
        raise IllegalTransitionError(f"a {before} batch cannot become {after}")
