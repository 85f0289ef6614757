"""Sending calls, one at a time or asynchronously."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from typing import Any, TypeVar

import httpx

from accentor.errors import AccentorError, InvalidRequestError, ServiceError
from accentor.spec import BatchStatus, JobStatus
from accentor_client._following import Ended, Excerpt, Follower, Pause, Program, Step, Stream, Told, resumed
from accentor_client._requests import Call, Outcome, conclude, retry_pause, unreachable

CONNECT_TIMEOUT_S = 10.0
STREAM_SILENCE_S = 45.0
"""An event stream says something every 15 s; after three times that it is taken for dead."""

UNPROXIED: Mapping[str, None] = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
"""Addresses of this machine: a proxy named by the environment would look for the service on its own."""

RECONNECT_S = 1.0

T = TypeVar("T")
S = TypeVar("S", JobStatus, BatchStatus)


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

    def run(self, program: Program[T]) -> T:
        """Do the steps of a program, and return what it returns."""
        step = resumed(program, None)
        while not isinstance(step, Ended):
            step = resumed(program, self._do(step))
        value: T = step.value
        return value

    def go_through(self, stream: Stream[T]) -> Iterator[T]:
        """Do the steps of a program, and pass on what it tells."""
        step = resumed(stream, None)
        while not isinstance(step, Ended):
            if isinstance(step, Told):
                yield step.value
                step = resumed(stream, None)
            else:
                step = resumed(stream, self._do(step))

    def follow(self, call: Callable[[str | None], Call[bytes]], kind: type[S]) -> Generator[S, None, None]:
        """Return every status that is told until the last one.

        Raises
        ------
        ServiceError
            If the service cannot be reached several times in a row.
        """
        follower = Follower(call, kind)
        while not follower.over:
            try:
                with closing(self._events(follower)) as events:
                    yield from events
            except ServiceError as error:
                follower.failed(error)
            if not follower.over:
                time.sleep(RECONNECT_S)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _do(self, step: Step) -> Any:
        """Return what came of a step; an error is returned, the program decides."""
        try:
            if isinstance(step, Pause):
                return time.sleep(step.seconds)
            return self._excerpt(step) if isinstance(step, Excerpt) else self.send(step)
        except AccentorError as error:
            return error

    def _excerpt(self, excerpt: Excerpt) -> list[str]:
        call = excerpt.call
        for attempt in itertools.count():
            outcome: Outcome
            try:
                with self._stream(call) as outcome:
                    if outcome.is_success:
                        return list(itertools.islice(outcome.iter_lines(), excerpt.lines))
            except httpx.RequestError as error:
                outcome = error
            pause = retry_pause(call, attempt, outcome)
            if pause is None:
                break
            time.sleep(pause)
        conclude(call, outcome, self.base_url)
        return []

    def _events(self, follower: Follower[S]) -> Generator[S, None, None]:
        call = follower.call()
        try:
            with self._stream(call) as response:
                follower.begin(response)
                for line in response.iter_lines():
                    if status := follower.feed(line):
                        yield status
        except httpx.RequestError as error:
            raise unreachable(call.url(self.base_url), error) from error

    @contextmanager
    def _stream(self, call: Call[Any]) -> Iterator[httpx.Response]:
        """Open an answer that comes bit by bit."""
        with self._http.stream(**request_arguments(call, self.base_url, self._key, STREAM_SILENCE_S)) as response:
            if not response.is_success:
                response.read()
            yield response

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

    async def run(self, program: Program[T]) -> T:
        """Do the steps of a program, and return what it returns."""
        step = resumed(program, None)
        while not isinstance(step, Ended):
            step = resumed(program, await self._do(step))
        value: T = step.value
        return value

    async def go_through(self, stream: Stream[T]) -> AsyncIterator[T]:
        """Do the steps of a program, and pass on what it tells."""
        step = resumed(stream, None)
        while not isinstance(step, Ended):
            if isinstance(step, Told):
                yield step.value
                step = resumed(stream, None)
            else:
                step = resumed(stream, await self._do(step))

    async def follow(self, call: Callable[[str | None], Call[bytes]], kind: type[S]) -> AsyncGenerator[S, None]:
        """Return every status that is told until the last one.

        Raises
        ------
        ServiceError
            If the service cannot be reached several times in a row.
        """
        follower = Follower(call, kind)
        while not follower.over:
            try:
                async with aclosing(self._events(follower)) as events:
                    async for status in events:
                        yield status
            except ServiceError as error:
                follower.failed(error)
            if not follower.over:
                await asyncio.sleep(RECONNECT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _do(self, step: Step) -> Any:
        """Return what came of a step; an error is returned, the program decides."""
        try:
            if isinstance(step, Pause):
                return await asyncio.sleep(step.seconds)
            return await (self._excerpt(step) if isinstance(step, Excerpt) else self.send(step))
        except AccentorError as error:
            return error

    async def _excerpt(self, excerpt: Excerpt) -> list[str]:
        call = excerpt.call
        for attempt in itertools.count():
            outcome: Outcome
            try:
                async with self._stream(call) as outcome:
                    if outcome.is_success:
                        return await _first(outcome.aiter_lines(), excerpt.lines)
            except httpx.RequestError as error:
                outcome = error
            pause = retry_pause(call, attempt, outcome)
            if pause is None:
                break
            await asyncio.sleep(pause)
        conclude(call, outcome, self.base_url)
        return []

    async def _events(self, follower: Follower[S]) -> AsyncGenerator[S, None]:
        call = follower.call()
        try:
            async with self._stream(call) as response:
                follower.begin(response)
                async for line in response.aiter_lines():
                    if status := follower.feed(line):
                        yield status
        except httpx.RequestError as error:
            raise unreachable(call.url(self.base_url), error) from error

    @asynccontextmanager
    async def _stream(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        """Open an answer that comes bit by bit."""
        async with self._http.stream(**request_arguments(call, self.base_url, self._key, STREAM_SILENCE_S)) as response:
            if not response.is_success:
                await response.aread()
            yield response

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
        "content": call.content() if callable(call.content) else call.content,
        "headers": {**call.headers, **(key if call.is_ours else {})},
        "timeout": httpx.Timeout(timeout + call.patience_s, connect=CONNECT_TIMEOUT_S),
    }


async def _first(lines: AsyncIterator[str], count: int) -> list[str]:
    found: list[str] = []
    async for line in lines:
        found.append(line)
        if len(found) == count:
            break
    return found
