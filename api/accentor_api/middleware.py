"""What surrounds every request: its id, its limits, who may send it, and the answer when all else fails."""

import logging
import re
import time
import uuid
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accentor.errors import TooLargeError
from accentor.logs import current_request
from accentor.settings import Settings
from accentor_api.bodies import LINES_TYPES
from accentor_api.metrics import Metrics
from accentor_api.problems import REQUEST_ID, problem_of_error, problem_of_status

logger = logging.getLogger("accentor_api")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
PROBES = frozenset({"/healthz", "/readyz"})
"""Asked for by orchestrators under whatever address they know."""

UPLOADS = "/v1/images"
DICTIONARY_FILES = "/v1/dictionaries/files/"
BATCHES = "/v1/batches"
OURS = ("uvicorn", "accentor", "accentor_api")
"""Loggers whose messages are shown."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """Outermost layer: gives each request an id, refuses what may not be sent, answers and logs the unforeseen."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        current_request.set(scope[REQUEST_ID])
        answer = _Answer(scope, send)
        began = time.perf_counter()
        try:
            await self._answer(scope, headers, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.count(scope, answer.status, seconds)
            _log_answer(scope, answer.status, seconds)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, answer: "_Answer") -> None:
        settings = self._settings
        is_probe = scope["path"] in PROBES and settings.host not in LOOPBACK
        names = () if is_probe else settings.allowed_hosts
        if refusal := refused_sender(scope["method"], headers, settings.host, settings.cors_origins, names):
            await problem_of_status(scope, *refusal)(scope, receive, answer)
            return
        limit = self._limit(scope["path"], headers)
        try:
            check_announced_size(headers.get("content-length"), limit)
            await self._app(scope, limited(receive, limit), answer)
        except TooLargeError as error:
            await problem_of_error(scope, error)(scope, receive, answer)
        except ClientDisconnect:
            logger.info("request %s: the client hung up", scope[REQUEST_ID])
        except Exception:
            logger.exception("request %s failed: %s %s", scope[REQUEST_ID], scope["method"], scope["path"])
            if answer.status is None:
                detail = "an error that nobody foresaw; the log has it under this request_id"
                await problem_of_status(scope, 500, detail)(scope, receive, answer)

    def _limit(self, path: str, headers: Headers) -> int:
        if path.startswith(UPLOADS):
            return self._settings.max_upload_bytes
        if path.startswith(DICTIONARY_FILES):
            return self._settings.max_dictionary_bytes
        is_lines = path == BATCHES and headers.get("content-type", "").partition(";")[0].strip().lower() in LINES_TYPES
        return self._settings.max_lines_bytes if is_lines else self._settings.max_body_bytes


class _Answer:
    """Sends an answer on its way, with the headers that all of them carry, and remembers its status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.status: int | None = None
        self._scope = scope
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._scope[REQUEST_ID]
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _log_answer(scope: Scope, status: int | None, seconds: float) -> None:
    """Log a request that may have changed something, or that we failed at; what is only read at level DEBUG."""
    method, path = scope["method"], scope["path"]
    is_quiet = method in SAFE_METHODS and status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR
    fields = {"method": method, "path": path, "status": status, "seconds": round(seconds, 4)}
    level = logging.DEBUG if is_quiet else logging.INFO
    logger.log(level, "%s %s: %s after %.3f s", method, path, status or "no answer", seconds, extra={"fields": fields})


def refused_sender(
    method: str, headers: Headers, host: str, origins: Collection[str] = (), names: Collection[str] = ()
) -> tuple[int, str] | None:
    """Return status and reason if a web page elsewhere may have sent this, by form, script or name rebinding.

    ``names`` are those that the service may be asked for as, beside its own machine's if it listens there alone.
    """
    asked = headers.get("host", "")
    name = _place(f"//{asked}").hostname
    if host in LOOPBACK and name not in LOOPBACK and not _is_named(name, names):
        return 421, f"this service listens on {host} for its own machine; it was asked for as {asked!r}"
    if host not in LOOPBACK and names and not _is_named(name, names):
        return 421, f"this service is not called {asked!r}: the setting ACCENTOR_ALLOWED_HOSTS says what it is called"
    origin = headers.get("origin")
    is_foreign = origin is not None and origin not in origins and _place(origin).netloc != asked
    if method not in SAFE_METHODS and is_foreign:
        return 403, f"a page of {origin} may not change anything at {asked}"
    return None


def _is_named(name: str | None, names: Collection[str]) -> bool:
    """Tell whether a host is among the names; ``*.lab.example`` stands for all below ``lab.example``."""
    if name is None:
        return False
    return any(name == known.lower() or known[:2] == "*." and name.endswith(known[1:].lower()) for known in names)


def _place(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def check_announced_size(length: str | None, limit: int) -> None:
    """Raise `TooLargeError` if the body is announced to be above the limit, before any of it is read."""
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(int(length), limit)


def limited(receive: Receive, limit: int) -> Receive:
    """Return a receiver that raises `TooLargeError` once more than ``limit`` bytes of body have come."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise _too_large(taken, limit)
        return message

    return receive_limited


def _too_large(size: int, limit: int) -> TooLargeError:
    return TooLargeError(f"the body has {size} bytes or more, at most {limit} are taken", bytes=size, limit=limit)
