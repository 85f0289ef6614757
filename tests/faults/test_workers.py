"""Workers die in the middle of a batch of 120 jobs, run by two of them; nobody helps.

Each test says which mechanism it guards; with that mechanism switched off it was seen to fail.
"""

import signal
from collections.abc import Sequence

import pytest
from tests.faults.cluster import Cluster
from tests.faults.jobs import JOBS, Pictures

pytestmark = [pytest.mark.service, pytest.mark.faults]


def test_nothing_happens(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """The batch without a fault: what the others are measured against."""
    batch = cluster.submit()
    told = cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == len(told) == JOBS
    assert cluster.status(batch).counts.cached == 0


def test_children_killed(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Kill -9 of a worker's child, twice. Guards: the sweep sends a dead worker's shard again (`find_lost`)."""
    batch = cluster.submit()
    for ended in (JOBS // 6, JOBS // 2):
        cluster.wait_for(batch, ended)
        cluster.kill_child(cluster.busy_worker())
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS
    assert cluster.log().count("is lost (died, attempt 1)") >= 2


def test_a_worker_killed(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Kill -9 of a whole worker; the other one finishes. Guards: leases end without signs of life (`alive_until`)."""
    batch = cluster.submit()
    cluster.wait_for(batch, JOBS // 6)
    assert cluster.busy_worker().stop(signal.SIGKILL) == -signal.SIGKILL
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS
