"""The header Idempotency-Key: a submission that is sent again, on purpose or by accident, is done once."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accentor.errors import AccentorError, InvalidRequestError, ReusedKeyError, ServiceError, UnderWayError
from accentor.state import Once, OnceStore
from accentor_api.callers import caller_id, reserved_id
from accentor_api.problems import problem_of_error
from accentor_api.submission import new_id

JOBS = "/v1/jobs"
BATCHES = "/v1/batches"
ATLASES = "/v1/atlases"
HEADER = "idempotency-key"
PATIENCE_S = 10.0
"""Seconds to wait for the answer to the first request before the second one is told to come again."""

LOOK_S = 0.1
BEAT_S = 5.0
"""Seconds between signs of life of a request under way."""

RETRY_S = 5
ACCEPTED = 202
OF_BODY = ("content-type", "content-encoding")
_NAME = re.compile(r"[\x21-\x7e]{1,255}")


class DoneOnce:
    """Answers a submission that came before with the batch, job or atlas that was made then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do what is new, repeat the answer to what is not."""
        name = _name_of(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        store: OnceStore = scope["app"].state.services.once
        try:
            once = await _begin(store, name)
            if once.do == "replay":
                await _compare(scope, receive, once)
        except AccentorError as error:
            await problem_of_error(scope, error)(scope, receive, send)
            return
        if once.do == "replay":
            await self._repeat(scope, send, once)
        else:
            await self._run(scope, receive, send, once, store)

    async def _run(self, scope: Scope, receive: Receive, send: Send, once: Once, store: OnceStore) -> None:
        fingerprint = _fingerprint(scope)
        status = 0

        async def hashed() -> Message:
            message = await receive()
            fingerprint.update(message.get("body", b""))
            is_whole = message["type"] == "http.request" and not message.get("more_body", False)
            if is_whole and not await run_in_threadpool(store.renew, once, fingerprint.hexdigest()):
                raise _under_way()
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        token = reserved_id.set(once.batch)
        try:
            async with _alive(store, once):
                await self._app(scope, hashed, watched)
        finally:
            reserved_id.reset(token)
            with suppress(ServiceError):
                await run_in_threadpool(store.end, once, status if 200 <= status < 300 else ACCEPTED)

    async def _repeat(self, scope: Scope, send: Send, once: Once) -> None:
        """Answer with what was made as it stands now, as if it had just been accepted."""
        suffix = "-0" if scope["path"] == JOBS else ""
        place = f"{scope['path']}/{once.batch}{suffix}"

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                message["status"] = once.status
                headers = MutableHeaders(scope=message)
                headers["Location"] = place
                headers["Idempotency-Replayed"] = "true"
            await send(message)

        kept = [(name, value) for name, value in scope["headers"] if name in {b"host", b"accept", b"authorization"}]
        scope.update(method="GET", path=place, raw_path=place.encode(), query_string=b"", headers=kept)
        await self._app(scope, _nothing, told)


def _name_of(scope: Scope) -> str | None:
    """Return the request's Idempotency-Key; none if it has none, or if its kind of request takes none."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in {JOBS, BATCHES, ATLASES}:
        return None
    return Headers(scope=scope).get(HEADER)


async def _begin(store: OnceStore, name: str) -> Once:
    """Return what to do, once that is clear: a request under way is waited for, a while."""
    if not _NAME.fullmatch(name):
        raise InvalidRequestError("Idempotency-Key: expected 1 to 255 visible ASCII characters")
    begin = partial(store.begin, caller_id(), name)
    end = time.monotonic() + PATIENCE_S
    while (once := await run_in_threadpool(begin, new_id())).do == "wait":
        if time.monotonic() > end:
            raise _under_way()
        await asyncio.sleep(LOOK_S)
    return once


async def _compare(scope: Scope, receive: Receive, once: Once) -> None:
    """Raise `ReusedKeyError` unless this is the request that came before."""
    fingerprint = _fingerprint(scope)
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        fingerprint.update(message.get("body", b""))
        is_whole = not message.get("more_body", False)
    if fingerprint.hexdigest() != once.fingerprint:
        raise ReusedKeyError(
            f"this Idempotency-Key came before with another request, which made {once.batch}: use a new key "
            "for each submission",
            batch=once.batch,
        )


def _fingerprint(scope: Scope) -> "hashlib._Hash":
    """Begin the hash of a request: what it asks for, without the body."""
    headers = Headers(scope=scope)
    parts = [scope["path"], scope["query_string"].decode("latin-1"), *(headers.get(name, "") for name in OF_BODY)]
    return hashlib.sha256("\n".join(parts).encode() + b"\n")


@asynccontextmanager
async def _alive(store: OnceStore, once: Once) -> AsyncIterator[None]:
    """Give signs of life as long as the request takes."""
    beat = asyncio.create_task(_beat(store, once))
    try:
        yield
    finally:
        beat.cancel()


async def _beat(store: OnceStore, once: Once) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        with suppress(ServiceError):
            await run_in_threadpool(store.renew, once)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _under_way() -> UnderWayError:
    detail = "the first request with this Idempotency-Key is under way: send it again in a few seconds"
    return UnderWayError(detail, retry_after_s=RETRY_S)
