"""Real servers for tests, on loopback and on free ports: Redis, and S3 by ``rclone serve s3``."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

START_LIMIT_S = 15.0
STOP_LIMIT_S = 10.0
ACCESS_KEY = "accentor-test"
SECRET_KEY = "accentor-test-secret"


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], *, timeout_s: float = START_LIMIT_S, what: str = "condition") -> None:
    """Wait until the condition holds; fail the test, naming it, when it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout_s} s in vain for: {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Tell whether somebody listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """Return the path of a program beside this Python or on PATH; skip locally, fail in CI, when there is none."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        message = f"{name} is not installed: pip install 'accentor[dev]'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


class Server:
    """A server process of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return what starts it."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Tell whether it answers."""
        return listens(self.port)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.ready, what=f"{type(self).__name__} on port {self.port}")

    def send(self, sign: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(sign)

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """End it with a signal and wait for its end."""
        if self._process is not None:
            self._process.send_signal(sign)
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_LIMIT_S)
            self._process = None


class RedisServer(Server):
    """A Redis server; with ``durable`` it keeps its data in an append-only file over a restart."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        super().__init__(folder)
        self.durable = durable
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return what starts it."""
        fixed = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        kept = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        return [program("redis-server"), *fixed, *kept, "--maxmemory-policy", "noeviction"]

    def ready(self) -> bool:
        """Tell whether it answers and has loaded its data."""
        try:
            with redis.Redis(port=self.port, socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class S3Server(Server):
    """An S3 server over a folder: each subfolder of ``root`` is a bucket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = folder / "buckets"
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return what starts it."""
        self.root.mkdir(parents=True, exist_ok=True)
        keys = f"{ACCESS_KEY},{SECRET_KEY}"
        address = f"127.0.0.1:{self.port}"
        return [program("rclone"), "serve", "s3", "--auth-key", keys, "--addr", address, str(self.root)]
