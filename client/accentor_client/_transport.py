"""Sending calls, one at a time or asynchronously."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from accentor.errors import InvalidRequestError
from accentor_client._requests import Call, Outcome, conclude, retry_pause, unreachable

CONNECT_TIMEOUT_S = 10.0
STREAM_SILENCE_S = 45.0
"""An event stream says something every 15 s; after three times that it is taken for dead."""

UNPROXIED: Mapping[str, None] = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
"""Addresses of this machine: a proxy named by the environment would look for the service on its own."""

T = TypeVar("T")


class Transport:
    """Sends calls and waits for their answers; safe to use from several threads."""

    def __init__(self, base_url: str, api_key: str | None, timeout: float) -> None:
        self.base_url = checked_url(base_url)
        self._key = authorization(api_key)
        self._timeout = timeout
        self._http = httpx.Client(mounts=dict(UNPROXIED))

    def send(self, call: Call[T]) -> T:
        """Return what the call's answer says; it is tried again where that does no harm."""
        for attempt in itertools.count():
            outcome = self._try(call)
            pause = retry_pause(call, attempt, outcome)
            if pause is None:
                break
            time.sleep(pause)
        return conclude(call, outcome, self.base_url)

    @contextmanager
    def stream(self, call: Call[T]) -> Iterator[httpx.Response]:
        """Open an answer that comes bit by bit."""
        try:
            arguments = request_arguments(call, self.base_url, self._key, STREAM_SILENCE_S)
            with self._http.stream(**arguments) as response:
                if not response.is_success:
                    response.read()
                yield response
        except httpx.RequestError as error:
            raise unreachable(call.url(self.base_url), error) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _try(self, call: Call[Any]) -> Outcome:
        try:
            return self._http.request(**request_arguments(call, self.base_url, self._key, self._timeout))
        except httpx.RequestError as error:
            return error


class AsyncTransport:
    """Sends calls without blocking the event loop."""

    def __init__(self, base_url: str, api_key: str | None, timeout: float) -> None:
        self.base_url = checked_url(base_url)
        self._key = authorization(api_key)
        self._timeout = timeout
        self._http = httpx.AsyncClient(mounts=dict(UNPROXIED))

    async def send(self, call: Call[T]) -> T:
        """Return what the call's answer says; it is tried again where that does no harm."""
        for attempt in itertools.count():
            outcome = await self._try(call)
            pause = retry_pause(call, attempt, outcome)
            if pause is None:
                break
            await asyncio.sleep(pause)
        return conclude(call, outcome, self.base_url)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _try(self, call: Call[Any]) -> Outcome:
        try:
            return await self._http.request(**request_arguments(call, self.base_url, self._key, self._timeout))
        except httpx.RequestError as error:
            return error


def checked_url(base_url: str) -> str:
    """Return the service's address without a slash at its end."""
    if not base_url.startswith(("http://", "https://")):
        raise InvalidRequestError(f"{base_url!r} is no address of a service: expected http://HOST:PORT or https://HOST")
    return base_url.rstrip("/")


def authorization(api_key: str | None) -> dict[str, str]:
    """Return the header that carries the key."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def request_arguments(call: Call[Any], base_url: str, key: dict[str, str], timeout: float) -> dict[str, Any]:
    """Return the call as httpx takes it; the key goes to the service alone, never to where its links lead."""
    return {
        "method": call.method,
        "url": call.url(base_url),
        "params": dict(call.params) or None,
        "content": call.content,
        "headers": {**call.headers, **(key if call.is_ours else {})},
        "timeout": httpx.Timeout(timeout + call.patience_s, connect=CONNECT_TIMEOUT_S),
    }
