"""A child process that ends with its parent, its output in a log file."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

PR_SET_PDEATHSIG = 1
TAIL_BYTES = 2_000


class Child:
    """One process of the embedded service.

    Parameters
    ----------
    name
        What it is called in messages.
    command, environment
        What is run; nothing is taken from this process's environment besides.
    log
        File that its output is appended to.
    kept
        File descriptors that it inherits.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, *, kept: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=kept,
                preexec_fn=partial(_end_with, os.getpid()) if sys.platform == "linux" else None,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status; none while it runs."""
        return self._process.poll()

    def stop(self, limit_s: float) -> None:
        """Ask it to end, wait, and end it by force after ``limit_s`` seconds."""
        if self.exit_status is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.sweep()

    def sweep(self) -> None:
        """End by force what it started and left running."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """Return the end of its log."""
        with self.log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode(errors="replace").strip()


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, even by kill -9 (Linux); it may have died already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
