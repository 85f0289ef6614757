"""The service's processes on this machine, what they cost, and the tables that are made of it."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
from pydantic import SecretStr

from accentor.embedded.process import Child
from accentor.embedded.redis_server import find_redis_server, write_configuration
from accentor.embedded.service import COMPUTING, free_port
from accentor.settings import ModelSource, Settings
from accentor.spec import sha256_hex
from accentor.state import JobStore, connect
from accentor.storage import open_store
from accentor.storage.keys import image_key
from stub import CARD, MODEL, picture

HERE = Path(__file__).parent
PASSWORD = "benchmark"  # noqa: S105 - of a private server that ends with the benchmark
READY_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0
LOOK_S = 0.05
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Rig:
    """A real Redis server as the embedded mode configures it, a folder as object store, and what is started on them."""

    def __init__(self, folder: Path, *, model: str = MODEL, **settings: Any) -> None:
        self.folder = folder
        self.ledgers = folder / "ledgers"
        self.children: dict[str, Child] = {}
        self._redis_port, port = free_port(), free_port()
        self.settings = Settings(
            redis_url=SecretStr(f"redis://:{PASSWORD}@127.0.0.1:{self._redis_port}/0"),
            storage_url=f"file://{folder / 'objects'}",
            signing_secret=SecretStr(PASSWORD),
            port=port,
            redis_timeout_s=60.0,
            models={model: ModelSource(source=model, weights=None)},
            **settings,
        )
        self.url = f"http://127.0.0.1:{port}"
        self.objects = open_store(self.settings)
        self.client = connect(self.settings)
        self.jobs = JobStore(self.client)

    def __enter__(self) -> "Rig":
        self.ledgers.mkdir(parents=True)
        self.objects.ensure_bucket()
        program = find_redis_server(self.settings.redis_server)
        configuration = write_configuration(self.folder / "redis", self._redis_port, PASSWORD)
        self._start("redis", [str(program), str(configuration)], {})
        until(self._redis_answers, "redis")
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.children)):
            self.children.pop(name).stop(STOP_LIMIT_S)
        self.client.close()

    def start_api(self) -> None:
        """Start the API; it needs a model that is announced."""
        self._start("api", [sys.executable, "-m", "accentor_api"], {})
        until(lambda: _is_alive(self.url), "api", self.children["api"])

    def start_stub_worker(self, name: str = "worker", *, job_s: float = 0.0) -> None:
        """Start a worker with the stub engine."""
        known = len(self.jobs.owners())
        stub = {"STUB_JOB_S": str(job_s), "STUB_LEDGER": str(self.ledgers), "PYTHONPATH": _python_path()}
        self._start(name, [sys.executable, str(HERE / "stub_worker.py")], stub)
        until(lambda: len(self.jobs.owners()) > known, name, self.children[name])

    def start_worker(self) -> None:
        """Start a worker with the real engine and the reference model."""
        self._start("worker", [sys.executable, "-m", "accentor_worker"], COMPUTING)
        until(lambda: self.jobs.ready_models() != set(), "worker", self.children["worker"])

    def stop(self, name: str) -> None:
        """Stop a process."""
        self.children.pop(name).stop(STOP_LIMIT_S)

    def announce_stub(self) -> None:
        """Make the stub model known without a worker."""
        self.jobs.announce_model(CARD, "benchmark:0", ready_s=1e6)

    def pictures(self, count: int) -> list[str]:
        """Store pictures, each another one, and return their names."""
        names = []
        for number in range(count):
            data = picture(number)
            names.append(sha256_hex(data))
            self.objects.put(image_key(names[-1]), data)
        return names

    def http(self, timeout_s: float = 600.0) -> httpx.Client:
        """Return a client of the API."""
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def cpu_s(self, *names: str) -> float:
        """Return the CPU seconds of processes so far, those that they started included."""
        return sum(_cpu_s(pid) for name in names for pid in _family(self.pid(name)))

    def pid(self, name: str) -> int:
        """Return the id of a process."""
        return self.children[name].pid

    def redis_bytes(self) -> int:
        """Return the memory that Redis's data take."""
        return int(self.client.info("memory")["used_memory"])

    def _start(self, name: str, command: list[str], more: dict[str, str]) -> None:
        mine = {
            "ACCENTOR_" + key.upper(): _as_text(value)
            for key, value in self.settings.model_dump(exclude_unset=True).items()
        }
        self.children[name] = Child(name, command, os.environ | mine | more, self.folder / f"{name}.log")

    def _redis_answers(self) -> bool:
        try:
            with redis.Redis(port=self._redis_port, password=PASSWORD) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def until(condition: Callable[[], bool], what: str, child: Child | None = None, limit_s: float = READY_LIMIT_S) -> None:
    """Wait until a condition holds; end the benchmark, naming it, when it does not in time."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end or child is not None and child.exit_status is not None:
            sys.exit(f"waited in vain for {what}" + (f":\n{child.last_words()}" if child else ""))
        time.sleep(LOOK_S)


def run_load(script: str, *arguments: str, given: Any = None) -> Any:
    """Run a script beside this one in a process of its own and return what it says as JSON, with its CPU seconds.

    What is given it reads as JSON from standard input.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=json.dumps(given))  # noqa: S603
    answer = json.loads(done.stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return answer


def resident_mib(pid: int) -> float:
    """Return the memory that a process has now."""
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has had since `reset_peak`."""
    return _status_mib(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Begin the peak of a process's memory anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def clock() -> Iterator[Callable[[], float]]:
    """Give a function that tells the wall seconds since the beginning, or to the end."""
    began, ended = time.perf_counter(), 0.0
    try:
        yield lambda: (ended or time.perf_counter()) - began
    finally:
        ended = time.perf_counter()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str) else json.dumps(value)


def _is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        yield from _family(int(child))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def _status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(name)
