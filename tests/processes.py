"""Python modules run as processes of a test."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

STOP_LIMIT_S = 30.0


class Process:
    """A Python module run as a process of a test, its output in a file."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=os.environ | environment, stdout=output, stderr=output
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def stop(self, number: int = signal.SIGTERM, limit_s: float = STOP_LIMIT_S) -> int:
        """End it with a signal; return its exit status."""
        self.popen.send_signal(number)
        try:
            return self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(limit_s)
            pytest.fail(f"did not end within {limit_s} s:\n{self.log.read_text()[-2000:]}")


def computing_child(parent: int) -> int | None:
    """Return the process id of the child of a worker that computes, or none while it has none."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        except OSError:
            continue
    return None


def is_ready(url: str) -> bool:
    """Tell whether the API says that everything it needs is there."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False
