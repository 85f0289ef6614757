"""Server-sent events as they come, over as many connections as it takes."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from accentor.errors import ServiceError
from accentor.spec import BatchStatus, JobStatus
from accentor_client._following import Event, EventReader
from accentor_client._requests import RETRIES, Call, check
from accentor_client._transport import Transport

RECONNECT_S = 1.0

S = TypeVar("S", JobStatus, BatchStatus)


def follow(transport: Transport, call: Callable[[str | None], Call[bytes]], kind: type[S]) -> Iterator[S]:
    """Return every status that is told until the last one; a broken connection is taken up where it broke.

    Raises
    ------
    ServiceError
        If the service cannot be reached several times in a row.
    """
    seen, failures = None, 0
    while True:
        try:
            for event in _read(transport, call(seen)):
                seen, failures = event.id, 0
                status = kind.model_validate_json(event.data)
                yield status
                if status.state.terminal:
                    return
        except ServiceError:
            failures += 1
            if failures > RETRIES:
                raise
        time.sleep(RECONNECT_S)


def _read(transport: Transport, call: Call[bytes]) -> Iterator[Event]:
    reader = EventReader()
    with transport.stream(call) as response:
        check(response)
        for line in response.iter_lines():
            if event := reader.feed(line):
                yield event
