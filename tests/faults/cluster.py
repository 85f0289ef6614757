"""The whole service in real processes that a test may kill: Redis that keeps its data, S3, an API, two workers."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from tests.faults import poison
from tests.faults.jobs import JOBS, MAX_ATTEMPTS, MODEL, OPTIONS, Pictures, check_ended_once, check_objects
from tests.processes import Process, computing_child, is_ready
from tests.servers import ACCESS_KEY, SECRET_KEY, RedisServer, S3Server, free_port, wait_until
from tests.shards import outstanding

from accentor.settings import Settings
from accentor.spec import BatchStatus, JobStatus
from accentor.state import JobStore, connect
from accentor.state.keys import READY, running_key, shard_key
from accentor.storage import open_store
from accentor_client import Client

START_LIMIT_S = 120.0
END_LIMIT_S = 120.0
WORKERS = 2
LEASE_S = 3.0
LOST = " is lost (died, "


class Cluster:
    """Starts them, kills them, and runs the batch on them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        poison.install(folder / "packages")
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.redis = RedisServer(folder / "redis", durable=True)
        self.s3 = S3Server(folder / "s3")
        self.environment = {
            "ACCENTOR_REDIS_URL": self.redis.url,
            "ACCENTOR_STORAGE_URL": "s3://accentor/faults",
            "ACCENTOR_S3_ENDPOINT": self.s3.endpoint,
            "ACCENTOR_S3_ACCESS_KEY": ACCESS_KEY,
            "ACCENTOR_S3_SECRET_KEY": SECRET_KEY,
            "ACCENTOR_S3_TIMEOUT_S": "2",
            "ACCENTOR_PORT": str(self._port),
            "ACCENTOR_THREADS": "1",
            "ACCENTOR_TICK_S": "0.3",
            "ACCENTOR_LEASE_S": str(LEASE_S),
            "ACCENTOR_MAX_SHARD_JOBS": "8",
            "ACCENTOR_MICRO_BATCH": "4",
            "ACCENTOR_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "ACCENTOR_MODELS": json.dumps({MODEL: {"source": poison.NAME}}),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(folder / "packages"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            ),
        }
        self.settings = Settings(
            redis_url=SecretStr(self.redis.url),
            storage_url=self.environment["ACCENTOR_STORAGE_URL"],
            s3_endpoint=self.s3.endpoint,
            s3_access_key=SecretStr(ACCESS_KEY),
            s3_secret_key=SecretStr(SECRET_KEY),
        )
        self.connection = connect(self.settings)
        self.jobs = JobStore(self.connection)
        self.objects = open_store(self.settings)
        self.workers: list[Process] = []
        self.api: Process | None = None

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        self.redis.start()
        (self.s3.root / "accentor").mkdir(parents=True)
        self.s3.start()
        self.mend()

    def mend(self) -> None:
        """Start what is not running, as a process manager would, and wait until it is ready."""
        if self.api is None or not self.api.is_running:
            self.start_api()
        self.workers = [worker for worker in self.workers if worker.is_running]
        while len(self.workers) < WORKERS:
            self.workers.append(Process(["accentor_worker"], self.environment, self._folder / "worker.log"))
        wait_until(lambda: is_ready(self.url), timeout_s=START_LIMIT_S, what="the service is ready")
        wait_until(lambda: all(map(self._is_ready, self.workers)), timeout_s=START_LIMIT_S, what="both workers")

    def start_api(self) -> None:
        """Start an API in the place of the one that is gone."""
        self.api = Process(["accentor_api"], self.environment, self._folder / "api.log")

    def stop(self) -> None:
        """Stop everything."""
        processes = [*self.workers, *([self.api] if self.api else [])]
        for process in processes:
            process.popen.send_signal(signal.SIGCONT)
            process.popen.terminate()
        for process in processes:
            process.popen.wait(START_LIMIT_S)
        self.connection.close()
        self.s3.stop()
        self.redis.stop()

    def log(self) -> str:
        """Return what the workers have said."""
        return (self._folder / "worker.log").read_text()

    def forget_results(self) -> None:
        """Remove all results there are: every job will have to be computed."""
        for key in list(self.objects.keys("results/")):
            self.objects.delete(key)

    def submit(self) -> str:
        """Submit the batch, to be computed anew, and return its id."""
        self.forget_results()
        with Client(self.url) as client:
            return client.batches.create(**OPTIONS).id

    def status(self, batch: str) -> BatchStatus:
        """Return the batch as it stands."""
        return self.jobs.status(batch)

    def wait_for(self, batch: str, ended: int) -> None:
        """Wait until so many jobs have ended."""
        wait_until(lambda: self._ended(batch) >= ended, timeout_s=END_LIMIT_S, what=f"{ended} jobs of {batch} to end")

    def wait_for_end(self, batch: str) -> BatchStatus:
        """Wait until the batch has ended, and nothing of it is left in the queues."""
        wait_until(lambda: self.status(batch).state.terminal, timeout_s=END_LIMIT_S, what=f"the end of {batch}")
        wait_until(lambda: outstanding(self.connection, "bulk", MODEL) == (0, 0), what="no shard is left")
        return self.status(batch)

    def told(self, batch: str) -> list[JobStatus]:
        """Return every job of the batch as the API tells it."""
        with Client(self.url) as client:
            return [job.status for job in client.batches.get(batch).jobs()]

    def check_survived(self, batch: str, undisturbed: Sequence[Pictures]) -> list[JobStatus]:
        """Wait for the end, and check that every job ended once, with all that belongs to it."""
        self.wait_for_end(batch)
        told = self.told(batch)
        check_ended_once(self.jobs, batch, told, total=JOBS)
        check_objects(self.objects, told, undisturbed)
        return told

    def kill_child(self) -> bool:
        """End by kill -9 a child with a shard in hand, and wait until the shard is lost; false if no child has one."""
        lost = self.log().count(LOST)
        if not any(map(self._kill_child_of, self.workers)):
            return False
        wait_until(lambda: self.log().count(LOST) > lost, timeout_s=END_LIMIT_S, what="the child's shard is lost")
        return True

    def kill_api(self) -> None:
        """End the API by kill -9."""
        assert self.api is not None
        self.api.stop(signal.SIGKILL)

    def busy_worker(self) -> Process:
        """Wait until a worker has a shard in hand, and return it."""
        wait_until(lambda: any(map(self._is_busy, self.workers)), what="a worker has a shard in hand")
        return next(filter(self._is_busy, self.workers))

    def _kill_child_of(self, worker: Process) -> bool:
        """Stop the child and let Redis do what it has asked for: if that ends its shard, nothing would be lost."""
        child = computing_child(worker.popen.pid)
        if child is None:
            return False
        os.kill(child, signal.SIGSTOP)
        self.connection.ping()
        busy = self._is_busy(worker)
        os.kill(child, signal.SIGKILL if busy else signal.SIGCONT)
        return busy

    def _is_busy(self, worker: Process) -> bool:
        for shard in self.connection.smembers(running_key("bulk", MODEL)):
            fields = self.connection.hmget(shard_key(shard.decode()), "batch", "start", "stop", "token")
            batch, start, stop, token = (field.decode() if field else "" for field in fields)
            if f":{worker.popen.pid}/" in token:
                return not all(state.terminal for state in self.jobs.job_states(batch, int(start), int(stop)))
        return False

    def _ended(self, batch: str) -> int:
        counts = self.status(batch).counts
        return counts.succeeded + counts.failed

    def _is_ready(self, worker: Process) -> bool:
        names = [entry.decode().partition(" ")[0] for entry in self.connection.zrange(READY, 0, -1)]
        return any(name.endswith(f":{worker.popen.pid}") for name in names)
