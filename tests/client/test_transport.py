"""Retries, errors and keys, against a small real server that answers as it is told."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx
import pytest
from tests.servers import free_port

from accentor.errors import (
    AccentorError,
    IllegalTransitionError,
    InvalidRequestError,
    ModelNotReadyError,
    RequestError,
    ServiceError,
)
from accentor_client import Client, ImageRef, _calls
from accentor_client._following import Event, EventReader
from accentor_client._requests import LONGEST_PAUSE_S, RETRIES, Call, read_bytes, retry_pause
from accentor_client._saving import plain_name, slug
from accentor_client._transport import AsyncTransport, Transport

STATUS = {
    "id": "b",
    "state": "running",
    "model": "toy",
    "lane": "bulk",
    "total": 1,
    "counts": {},
    "revision": 4,
    "created_at": "2026-01-01T00:00:00Z",
}


class Reply(NamedTuple):
    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012


class Scripted:
    """A server that gives its replies one after the other, the last one again and again."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply(200, b"{}")]
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                scripted.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                reply = scripted.replies.pop(0) if len(scripted.replies) > 1 else scripted.replies[0]
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accentor_client._requests.FIRST_PAUSE_S", 0.01)


def problem(code: str, detail: str, status: int) -> Reply:
    return Reply(status, json.dumps({"title": "t", "status": status, "detail": detail, "code": code}).encode())


@pytest.mark.usefixtures("quick")
def test_reading_is_tried_again(server: Scripted) -> None:
    server.replies = [Reply(503), Reply(429, headers={"Retry-After": "0"}), Reply(200, b'{"data": []}')]
    with Client(server.url) as client:
        assert client.models.list() == []
    assert len(server.seen) == 3


@pytest.mark.usefixtures("quick")
def test_the_last_error_stands(server: Scripted) -> None:
    server.replies = [problem("model-not-ready", "no worker", 503)]
    with Client(server.url) as client, pytest.raises(ModelNotReadyError, match="no worker"):
        client.models.list()
    assert len(server.seen) == RETRIES + 1


@pytest.mark.usefixtures("quick")
def test_submitting_is_tried_again_under_one_key(server: Scripted) -> None:
    server.replies = [Reply(503, b"down")]
    with Client(server.url) as client:
        for _ in range(2):
            with pytest.raises(ServiceError, match="answered 503: down"):
                client.jobs.create(model="toy", feature="logit:0", image=ImageRef(id="0" * 64))
    assert [method for method, _, _ in server.seen] == ["POST"] * 2 * (RETRIES + 1)
    keys = [headers["idempotency-key"] for _, _, headers in server.seen]
    assert len({*keys[: RETRIES + 1]}) == len({*keys[RETRIES + 1 :]}) == 1
    assert len({*keys}) == 2


@pytest.mark.usefixtures("quick")
def test_queueing_failed_jobs_is_not_tried_again(server: Scripted) -> None:
    server.replies = [Reply(200, json.dumps(STATUS).encode()), Reply(503, b"down")]
    with Client(server.url) as client, pytest.raises(ServiceError, match="answered 503"):
        client.batches.get("b").retry()
    assert [method for method, _, _ in server.seen] == ["GET", "POST"]


@pytest.mark.usefixtures("quick")
def test_a_submission_that_is_under_way_is_waited_for(server: Scripted) -> None:
    under_way = problem("idempotency-under-way", "first", 409)
    server.replies = [
        under_way._replace(headers={"Retry-After": "1"}),
        Reply(202, json.dumps(STATUS).encode()),
        problem("illegal-transition", "it runs", 409),
    ]
    began = time.monotonic()
    with Client(server.url) as client:
        batch = client.batches.create(model="toy", features=["logit:0"], images=["0" * 64])
        assert time.monotonic() - began >= 1.0
        with pytest.raises(IllegalTransitionError):
            batch.refresh()
    assert len(server.seen) == 3


def test_retry_after_is_obeyed(server: Scripted) -> None:
    server.replies = [Reply(503, headers={"Retry-After": "1"}), Reply(200, b'{"data": []}')]
    began = time.monotonic()
    with Client(server.url) as client:
        client.models.list()
    assert time.monotonic() - began >= 1.0


def test_pauses_grow_and_have_a_bound() -> None:
    call = Call("GET", "/", read_bytes)
    lost = httpx.ConnectError("refused")
    pauses = [retry_pause(call, attempt, lost) for attempt in range(RETRIES + 1)]
    for pause, middle in zip(pauses, (0.25, 0.5, 1.0), strict=False):
        assert pause is not None
        assert middle / 2 <= pause <= middle * 1.5
    assert pauses[-1] is None
    assert retry_pause(call, 0, httpx.Response(503, headers={"Retry-After": "9999"})) == LONGEST_PAUSE_S
    assert retry_pause(call, 0, httpx.Response(404)) is None
    assert retry_pause(Call("POST", "/", read_bytes, repeatable=False), 0, lost) is None


@pytest.mark.usefixtures("quick")
def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(ServiceError) as caught:
        client.models.list()
    assert f"{url}/v1/models does not answer" in str(caught.value)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", ""])
def test_no_address(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="no address"):
        Client(url)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (problem("brand-new-code", "what?", 418), RequestError),
        (problem("brand-new-code", "what?", 500), ServiceError),
        (Reply(404, b"<html>proxy</html>"), RequestError),
        (Reply(500, b"\xff\xfe"), ServiceError),
        (Reply(302, headers={"Location": "/elsewhere"}), ServiceError),
        (Reply(200, b"<html>"), ServiceError),
        (Reply(200, b'{"data": 5}'), ServiceError),
        (Reply(400, b'["no", "object"]'), RequestError),
    ],
)
def test_answers_that_are_no_ordinary_problem(server: Scripted, reply: Reply, kind: type[AccentorError]) -> None:
    server.replies = [reply]
    with Client(server.url) as client, pytest.raises(kind) as caught:
        client.models.list()
    assert server.url in str(caught.value)


def test_the_key_goes_to_the_service_alone(server: Scripted) -> None:
    elsewhere = Scripted()
    try:
        transport = Transport(server.url + "/", "sesame", 5.0)
        transport.send(_calls.fetch("/v1/objects/x?signature=1"))
        transport.send(_calls.fetch(f"{elsewhere.url}/bucket/x"))
        transport.close()
    finally:
        elsewhere.stop()
    assert (server.seen[0][1], server.seen[0][2]["authorization"]) == ("/v1/objects/x?signature=1", "Bearer sesame")
    assert "authorization" not in elsewhere.seen[0][2]


def test_a_service_below_a_path(server: Scripted) -> None:
    with Client(f"{server.url}/accentor/") as client:
        server.replies = [Reply(200, b'{"data": []}')]
        client.models.list()
    assert server.seen[0][1] == "/accentor/v1/models"


def test_events_are_put_together() -> None:
    reader = EventReader()
    text = ["retry: 5", "", ": comment", "", "id: 7", "event: status", "data: a", "data:b", "", "data: c", ""]
    assert [event for line in text if (event := reader.feed(line))] == [Event("7", "a\nb"), Event("7", "c")]


def test_a_stream_that_breaks_is_taken_up(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accentor_client._transport.RECONNECT_S", 0.01)
    status = STATUS
    event = f"id: 4\ndata: {json.dumps(status)}\n\n".encode()
    last = f"id: 5\ndata: {json.dumps({**status, 'state': 'succeeded', 'revision': 5})}\n\n".encode()
    server.replies = [Reply(200, json.dumps(status).encode()), Reply(200, event), Reply(503), Reply(200, last)]
    with Client(server.url) as client:
        seen = [found.revision for found in client.batches.get("b").events()]
    assert seen == [4, 5]
    assert [headers.get("last-event-id") for _, _, headers in server.seen[1:]] == [None, "4", "4"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ".hidden", "a/b", "a\\b", "", "a\nb", "x" * 101])
def test_file_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ServiceError):
        plain_name(name)


def test_slugs() -> None:
    assert slug("logit:207 - 0.5*logit:208") == "logit-207-0.5-logit-208"
    assert slug("../../..") == "job"
    assert len(slug("x" * 500)) == 60


def test_the_client_is_light() -> None:
    heavy = ["torch", "celery", "redis", "boto3", "fastapi", "numpy"]
    code = (
        f"import sys\nfor name in {heavy}: sys.modules[name] = None\n"
        "import accentor_client\n"
        "assert not any(name.startswith(('accentor_api', 'accentor_worker')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_is_not_asked_for_this_machine(server: Scripted, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    server.replies = [Reply(200, b"here")]
    url = server.url.replace("127.0.0.1", host)
    transport = Transport(url, None, 5.0)
    assert transport.send(_calls.fetch(f"{url}/x")) == b"here"
    transport.close()

    async def ask() -> bytes:
        asked = AsyncTransport(url, None, 5.0)
        found = await asked.send(_calls.fetch(f"{url}/x"))
        await asked.close()
        return found

    assert asyncio.run(ask()) == b"here"
