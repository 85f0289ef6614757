"""``accentor up`` is killed in the middle of a batch, and started again on the same folder."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.embedded import Up, processes_of
from tests.faults.jobs import JOBS, OPTIONS, Pictures, check_objects, check_told
from tests.servers import wait_until

from accentor.settings import Settings
from accentor.storage import open_store
from accentor_client import Client

pytestmark = [pytest.mark.service, pytest.mark.faults]

END_LIMIT_S = 120.0


def test_killed_and_started_again(tmp_path: Path, undisturbed: Sequence[Pictures]) -> None:
    """Guards: processes end with their parent; Redis keeps its data; the sweep of the next run."""
    data = tmp_path / "data"
    up = Up(data)
    try:
        with Client(up.url) as client:
            batch = client.batches.create(**OPTIONS)
            wait_until(lambda: batch.refresh().counts.succeeded >= JOBS // 6, timeout_s=60, what="the first results")
    finally:
        up.stop(signal.SIGKILL)
    wait_until(lambda: not processes_of(data), timeout_s=30, what="the processes end with their parent")
    again = Up(data)
    try:
        with Client(again.url) as client:
            after = client.batches.get(batch.id).wait(timeout=END_LIMIT_S)
            told = [job.status for job in after.jobs()]
        assert after.counts.succeeded == JOBS
        check_told(after.status, told)
        check_objects(open_store(Settings(storage_url=f"file://{data / 'objects'}")), told, undisturbed)
    finally:
        again.stop(signal.SIGINT)
