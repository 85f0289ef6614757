"""States and transitions, each legal and each illegal one."""

import itertools

import pytest

from accentor.errors import IllegalTransitionError
from accentor.spec import BatchState, JobState, check_batch_transition, check_job_transition, state_code, state_of_code

LEGAL_JOB = {
    "queued": {"running", "succeeded", "failed", "canceled"},
    "running": {"queued", "succeeded", "failed", "canceled"},
    "succeeded": set(),
    "failed": {"queued"},
    "canceled": set(),
}
ENDS = {"succeeded", "partially_failed", "failed", "canceled"}
LEGAL_BATCH = {
    "validating": {"queued", "failed", "canceled"},
    "queued": {"running", "canceling"} | ENDS,
    "running": {"canceling"} | ENDS,
    "canceling": {"canceled"},
    "succeeded": set(),
    "partially_failed": {"running"},
    "failed": {"running"},
    "canceled": set(),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(LEGAL_JOB, repeat=2)))
def test_job(before, after):
    check(check_job_transition, JobState(before), JobState(after), legal=after in LEGAL_JOB[before])


@pytest.mark.parametrize(("before", "after"), list(itertools.product(LEGAL_BATCH, repeat=2)))
def test_batch(before, after):
    check(check_batch_transition, BatchState(before), BatchState(after), legal=after in LEGAL_BATCH[before])


def check(transition, before, after, *, legal):
    if legal:
        transition(before, after)
        return
    with pytest.raises(IllegalTransitionError) as caught:
        transition(before, after)
    assert f"a {before} " in caught.value.detail
    assert caught.value.detail.endswith(after)


def test_all_states_are_listed():
    assert set(LEGAL_JOB) == set(JobState)
    assert set(LEGAL_BATCH) == set(BatchState)


def test_ends():
    assert {state for state in JobState if state.terminal} == {"succeeded", "failed", "canceled"}
    assert {state for state in BatchState if state.terminal} == ENDS


def test_codes():
    """One byte a job in the stored status strings: these letters never change."""
    assert {str(state): state_code(state) for state in JobState} == {
        "queued": "q",
        "running": "r",
        "succeeded": "s",
        "failed": "f",
        "canceled": "c",
    }
    assert all(state_of_code(state_code(state)) is state for state in JobState)
