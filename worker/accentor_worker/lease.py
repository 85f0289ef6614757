"""A shard in this worker's hands, and the thread that tells Redis so."""

import logging
import secrets
import threading
from types import TracebackType
from typing import Self

from accentor.errors import StateUnavailableError
from accentor.state import Shard
from accentor.state.shards import GRACE_FRACTION
from accentor_worker.services import Services

BEATS_PER_LEASE = 6
TOKEN_BYTES = 8

logger = logging.getLogger(__name__)


class Lease:
    """The right to run a shard; inside ``with`` a thread keeps it alive.

    Attributes
    ----------
    shard
        The shard.
    lost
        Set when the shard was taken from this worker: it must not touch it any more.
    """

    def __init__(self, services: Services, shard: Shard, token: str) -> None:
        self.shard = shard
        self.lost = threading.Event()
        self._shards = services.jobs.shards
        self._token = token
        self._alive_s = services.settings.lease_s * (1 - GRACE_FRACTION)
        self._beat_s = services.settings.lease_s / BEATS_PER_LEASE
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {shard.id}", daemon=True)

    @classmethod
    def take(cls, services: Services, shard_id: str) -> Self | None:
        """Take a waiting shard; none if it has a worker or has ended."""
        token = f"{services.owner}/{secrets.token_hex(TOKEN_BYTES)}"
        alive_s = services.settings.lease_s * (1 - GRACE_FRACTION)
        shard = services.jobs.shards.take(shard_id, token, alive_s=alive_s)
        return None if shard is None else cls(services, shard, token)

    def release(self, *, due_s: float) -> int:
        """Let go of the shard, its message being due again in ``due_s`` seconds; return its unfinished jobs."""
        return self._shards.release(self.shard.id, self._token, due_s=due_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s):
            try:
                if not self._shards.renew(self.shard.id, self._token, alive_s=self._alive_s):
                    self.lost.set()
                    return
            except StateUnavailableError as error:
                logger.warning("no sign of life for shard %s: %s", self.shard.id, error)
