"""Following a job or a batch: server-sent events, and waiting for its end."""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from accentor.errors import NotFoundError, ServiceError
from accentor_api.services import Services

HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
RECONNECT_MS = 2_000
WAIT_LOOK_S = 0.1
EAGER_S = 2.0
"""Seconds at the beginning of a job's stream in which its reader, a person, is told the news at once."""

logger = logging.getLogger("accentor_api")

S = TypeVar("S", bound=BaseModel, covariant=True)


@dataclass(frozen=True)
class Moment(Generic[S]):
    """A job or batch as seen at one time; ``id`` changes whenever there is something new to tell."""

    id: str
    status: S
    ended: bool

    @cached_property
    def event(self) -> bytes:
        """What its readers are sent: made once for all of them."""
        return f"id: {self.id}\nevent: status\ndata: {self.status.model_dump_json()}\n\n".encode()


Look = Callable[[], Moment[S]]


async def event_response(
    services: Services, name: str, look: Look[BaseModel], last_event_id: str | None, *, eager_s: float = 0.0
) -> Response:
    """Stream every change until the end; the first event is how it stands, unless the reader knows that already.

    All readers of the same ``name`` share their looks, but in their first ``eager_s`` seconds, and are told at
    different times: many at once would keep all other requests waiting. One that comes back after the end, which is
    looked at anew, is answered 204: the sign for browsers to come back no more.
    """
    first = await services.looks.look(name, look)
    if first.ended:  # as it was seen for another reader: it may have been retried since
        first = await run_in_threadpool(look)
    if first.ended and first.id == last_event_id:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(services, name, look, first, last_event_id, eager_s),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def wait_for_end(has_ended: Callable[[], bool], seconds: float) -> None:
    """Look until it has ended or the seconds are over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not await run_in_threadpool(has_ended):
        await asyncio.sleep(min(WAIT_LOOK_S, left))


async def _stream(
    services: Services,
    name: str,
    look: Look[BaseModel],
    moment: Moment[BaseModel],
    known: str | None,
    eager_s: float,
) -> AsyncIterator[bytes]:
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    began = told = time.monotonic()
    pause_s = 1.0 / services.settings.events_per_s
    pauses_s = itertools.chain([pause_s * random.uniform(1.0, 2.0)], itertools.repeat(pause_s))  # noqa: S311
    while not services.closing():
        if moment.id != known:
            known, told = moment.id, time.monotonic()
            yield moment.event
        elif time.monotonic() - told > HEARTBEAT_S:
            told = time.monotonic()
            yield HEARTBEAT
        if moment.ended:
            return
        is_eager = time.monotonic() - began < eager_s
        await asyncio.sleep(WAIT_LOOK_S if is_eager else next(pauses_s))
        try:
            moment = await (run_in_threadpool(look) if is_eager else services.looks.look(name, look))
        except NotFoundError:
            return
        except ServiceError as error:
            logger.warning("an event stream ends early, its reader will come back: %s", error.detail)
            return
