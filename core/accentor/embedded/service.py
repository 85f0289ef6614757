"""Starting, watching and stopping the processes of the embedded mode."""

import _thread
import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx
from pydantic import SecretStr

from accentor.embedded.process import Child
from accentor.embedded.redis_server import find_redis_server, write_configuration
from accentor.errors import IllegalTransitionError, InvalidRequestError, ServiceError
from accentor.settings import read_settings
from accentor.state import JobStore, connect

LOOPBACK = "127.0.0.1"
SECRET_BYTES = 32
START_LIMIT_S = 300.0
"""Seconds until the worker has loaded its models; a torchvision model may be downloaded meanwhile."""
REDIS_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
LOCK_LIMIT_S = 4.0
"""Seconds that the Redis of a service killed just now may take to end."""

LOOK_S = 0.2
MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0

COMPUTING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""glibc keeps large CPU tensors for reuse instead of mapping them at every step; OpenMP threads that wait do not spin,
which would slow everything tenfold as soon as another process wants a core."""

LEASE_S = "10"
"""All processes are on this machine: a worker that is silent for so long is dead, and its shard is free again."""

OnState = Callable[[str], None]


class EmbeddedService:
    """The whole service on this machine, bound to 127.0.0.1, with its data in one folder.

    Parameters
    ----------
    data
        Folder of the results, the Redis data, the secrets and the logs; made if missing.
    port
        Port of the API; 0 takes a free one.
    models
        Served models, by name: the arguments of `accentor.load_model`; none: the settings', else ``reference``.
    on_state
        Told in a few words what is going on.

    Raises
    ------
    IllegalTransitionError
        If another service runs on the same folder.
    InvalidRequestError
        If the port is taken, or a setting of the environment is wrong.
    MissingServerError
        If there is no Redis server program.
    """

    def __init__(
        self,
        data: str | Path,
        *,
        port: int = 0,
        models: Mapping[str, Mapping[str, str]] | None = None,
        on_state: OnState = lambda _: None,
    ) -> None:
        self.data = Path(data).expanduser().absolute()
        self.logs = self.data / "logs"
        self._tell = on_state
        self._port = port
        self._models = models
        self._lock: IO[str] | None = None
        self._children: dict[str, Child] = {}
        self._deaths: list[float] = []
        self._environment: dict[str, str] = {}
        self._redis_command: list[str] = []
        self._watcher: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failure: Exception | None = None

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://{LOOPBACK}:{self._port}"

    def start(self) -> None:
        """Start Redis, the worker and the API, wait until pictures can be made, and look after the processes."""
        for folder in (self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self._take_folder()
        program = find_redis_server(read_settings().redis_server)
        if _listens(self._port):
            raise InvalidRequestError(f"port {self._port} is taken: name another one, or 0 for a free one")
        self._port = self._port or free_port()
        redis_port, secret = free_port(), self._secrets()
        self._environment = self._make_environment(redis_port, secret)
        configuration = write_configuration(self.data / "redis", redis_port, secret["redis"])
        self._redis_command = [str(program), str(configuration)]
        self._tell("starting Redis")
        self._start("redis")
        self._wait(lambda: _listens(redis_port), "redis", REDIS_LIMIT_S)
        self._forget_workers()
        self._tell("starting the API and the worker, loading models")
        for name in ("api", "worker"):
            self._start(name)
        self._wait(self._is_ready, "worker", START_LIMIT_S)
        self._watcher = threading.Thread(target=self._watch, name="accentor-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop everything, Redis last; what was queued goes on at the next start."""
        self._tell("stopping")
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        for name in ("api", "worker", "redis"):
            if child := self._children.pop(name, None):
                child.stop(STOP_LIMIT_S)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._failure is not None:
            raise self._failure from error

    def _forget_workers(self) -> None:
        """No worker of an earlier run is alive: only what this one loads counts as ready."""
        url = SecretStr(self._environment["ACCENTOR_REDIS_URL"])
        with connect(read_settings().model_copy(update={"redis_url": url})) as client:
            JobStore(client).retract_models()

    def _watch(self) -> None:
        """Start what died anew, Redis with the data that it has; what cannot be mended interrupts the caller."""
        while not self._stopping.wait(LOOK_S):
            for name, child in list(self._children.items()):
                if child.exit_status is None:
                    continue
                try:
                    self._revive(name, child)
                except (ServiceError, OSError) as error:
                    self._failure = error
                    _thread.interrupt_main()
                    return

    def _take_folder(self) -> None:
        """Lock the folder; Redis inherits the lock, so that it lasts as long as Redis writes there."""
        lock = (self.data / "lock").open("w", encoding="utf-8")
        end = time.monotonic() + LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    lock.close()
                    raise IllegalTransitionError(
                        f"another service runs on {self.data}: stop it, or name another folder"
                    ) from error
            time.sleep(LOOK_S)
        self._lock = lock

    def _lock_number(self) -> int:
        if self._lock is None:
            raise IllegalTransitionError(f"{self.data} is not locked")
        return self._lock.fileno()

    def _secrets(self) -> dict[str, str]:
        """Return the kept secrets, or make them; the file is whole or not there, and its owner's alone."""
        path = self.data / "secrets.json"
        with suppress(FileNotFoundError, json.JSONDecodeError):
            kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        made = {name: secrets.token_hex(SECRET_BYTES) for name in ("redis", "signing")}
        written = path.with_suffix(".new")
        written.touch(mode=0o600)
        written.write_text(json.dumps(made), encoding="utf-8")
        written.replace(path)
        return made

    def _make_environment(self, redis_port: int, secret: Mapping[str, str]) -> dict[str, str]:
        models: dict[str, Any] = {} if self._models is None else {"ACCENTOR_MODELS": json.dumps(self._models)}
        return {
            "ACCENTOR_LEASE_S": LEASE_S,
            **os.environ,
            "ACCENTOR_REDIS_URL": f"redis://:{secret['redis']}@{LOOPBACK}:{redis_port}/0",
            "ACCENTOR_STORAGE_URL": f"file://{self.data / 'objects'}",
            "ACCENTOR_SIGNING_SECRET": secret["signing"],
            "ACCENTOR_HOST": LOOPBACK,
            "ACCENTOR_PORT": str(self._port),
            **models,
        }

    def _start(self, name: str) -> None:
        is_redis = name == "redis"
        command = self._redis_command if is_redis else [sys.executable, "-m", f"accentor_{name}"]
        environment = self._environment | (COMPUTING if name == "worker" else {})
        kept = [self._lock_number()] if is_redis else []
        self._children[name] = Child(name, command, environment, self.logs / f"{name}.log", kept=kept)

    def _revive(self, name: str, child: Child) -> None:
        child.sweep()
        now = time.monotonic()
        self._deaths = [moment for moment in self._deaths if now - moment < RESTART_WINDOW_S] + [now]
        if len(self._deaths) > MAX_RESTARTS:
            raise ServiceError(
                f"{name} ended with status {child.exit_status}; the end of {child.log}:\n{child.last_words()}"
            )
        self._tell(f"{name} ended with status {child.exit_status}: starting it anew")
        self._start(name)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _wait(self, ready: Callable[[], bool], name: str, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not ready():
            for child in self._children.values():
                if child.exit_status is not None:
                    raise ServiceError(
                        f"{child.name} did not start (status {child.exit_status}); the end of {child.log}:\n"
                        f"{child.last_words()}"
                    )
            if time.monotonic() > end:
                raise ServiceError(f"{name} was not ready after {limit_s:.0f} s; see {self.logs}")
            time.sleep(LOOK_S)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    if port == 0:
        return False
    with socket.socket() as probe:
        probe.settimeout(LOOK_S)
        return probe.connect_ex((LOOPBACK, port)) == 0
