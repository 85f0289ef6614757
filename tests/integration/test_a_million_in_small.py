"""The benchmark of a million jobs with a hundredth of them: two workers, and every job accounted for.

The same with the real engine is `test_nothing_happens` in `tests/faults/test_distributed.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "service.py"
JOBS = 9_984


def test_two_workers_run_a_batch_to_the_end():
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--only", "million"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"│ {JOBS:,} ") == 2, done.stdout
