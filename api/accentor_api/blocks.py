"""Storing the lines of an upload while it streams in: in blocks, a few of which are written at once."""

import logging
import time
from collections import deque
from concurrent.futures import Future

from accentor.errors import ServiceError
from accentor.housekeeping import remove_objects
from accentor.spec.batches import BLOCK_JOBS
from accentor.storage.batches import write_block
from accentor.storage.keys import batch_prefix
from accentor_api.services import Services

WRITES_AHEAD = 4
ALIVE_S = 900.0
"""Seconds without a sign of life after which the objects of an upload are removed."""

BEAT_S = 60.0

logger = logging.getLogger("accentor_api")


class BlockWriter:
    """Writes the lines of a batch that is not created yet."""

    def __init__(self, services: Services, batch_id: str) -> None:
        self._services = services
        self._id = batch_id
        self._block: list[bytes] = []
        self._count = 0
        self._writes: deque[Future[None]] = deque()
        self._next_beat = 0.0

    def add(self, line: bytes) -> None:
        """Take a line; every full block is written."""
        self._block.append(line)
        if len(self._block) == BLOCK_JOBS:
            self._write()

    def close(self) -> None:
        """Write the rest and wait until everything is stored."""
        if self._block:
            self._write()
        self._wait(0)

    def keep(self) -> None:
        """Say that the batch is created: its blocks are no upload's any more."""
        self._services.jobs.end_upload(self._id)

    def abort(self) -> None:
        """Remove what was stored; what is left, if that fails, goes when the upload counts as abandoned."""
        if not self._count:
            return
        for write in self._writes:
            write.exception()
        try:
            remove_objects(self._services.objects, batch_prefix(self._id))
            self._services.jobs.end_upload(self._id)
        except ServiceError as error:
            logger.warning("the upload of batch %s leaves its objects for now: %s", self._id, error.detail)

    def _write(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_S
            self._services.jobs.note_upload(self._id, alive_s=ALIVE_S)
        lines, self._block = self._block, []
        self._writes.append(
            self._services.write_later(write_block, self._services.objects, self._id, self._count, lines)
        )
        self._count += 1
        self._wait(WRITES_AHEAD)

    def _wait(self, left: int) -> None:
        while len(self._writes) > left:
            self._writes.popleft().result()
