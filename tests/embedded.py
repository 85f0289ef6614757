"""``accentor up`` as a process of a test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ACCENTOR = str(Path(sys.executable).with_name("accentor"))


class Up:
    """One run of ``accentor up``."""

    def __init__(self, data: Path, port: int = 0, models: tuple[str, ...] = ()) -> None:
        served = [word for model in models for word in ("--model", model)]
        self.popen = subprocess.Popen(
            [ACCENTOR, "up", "--port", str(port), "--data", str(data), "--no-browser", *served],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        for line in self.popen.stdout:
            self.said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
                return
        pytest.fail(f"did not come up:\n{self.said}")

    def stop(self, number: int) -> int:
        self.popen.send_signal(number)
        status = self.popen.wait(40)
        self.popen.stdout.close()
        return status


def processes_of(data: Path) -> list[str]:
    """Command lines and environments of processes that belong to the service on this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(data).encode() in text and state != "Z":
            found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found
