"""The whole service as real processes: Redis, an S3 server, a worker, the API."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import Process, is_ready
from tests.servers import ACCESS_KEY, SECRET_KEY, RedisServer, S3Server, free_port, wait_until

READY_LIMIT_S = 120.0


@contextmanager
def distributed_service(
    folder: Path, prepare: Callable[[str], None] = lambda redis_url: None, **settings: str
) -> Iterator[dict[str, str]]:
    """Redis, S3, one worker and one API: the environment they share, with the API's address as URL."""
    redis, s3 = RedisServer(folder / "redis"), S3Server(folder / "s3")
    port = free_port()
    environment = {
        "ACCENTOR_REDIS_URL": redis.url,
        "ACCENTOR_STORAGE_URL": "s3://accentor/test",
        "ACCENTOR_S3_ENDPOINT": s3.endpoint,
        "ACCENTOR_S3_ACCESS_KEY": ACCESS_KEY,
        "ACCENTOR_S3_SECRET_KEY": SECRET_KEY,
        "ACCENTOR_PORT": str(port),
        "URL": f"http://127.0.0.1:{port}",
        **settings,
    }
    processes: list[Process] = []
    redis.start()
    s3.start()
    (s3.root / "accentor").mkdir()
    try:
        prepare(redis.url)
        processes.append(Process(["accentor_worker"], environment, folder / "worker.log"))
        processes.append(Process(["accentor_api"], environment, folder / "api.log"))
        wait_until(lambda: is_ready(environment["URL"]), timeout_s=READY_LIMIT_S, what="the service is ready")
        yield environment
    finally:
        for process in processes:
            process.popen.terminate()
        for process in processes:
            process.popen.wait(30)
        s3.stop()
        redis.stop()
