"""Shards in this worker's hands, and the thread that tells Redis so."""

import logging
import secrets
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from accentor.errors import StateUnavailableError
from accentor.spec import Lane
from accentor.state import Shard
from accentor.state.shards import GRACE_FRACTION
from accentor_worker.services import Services

BEATS_PER_LEASE = 6
TOKEN_BYTES = 8

logger = logging.getLogger(__name__)


class Lease:
    """The right to run some shards of one model together; inside ``with`` a thread keeps it alive.

    Attributes
    ----------
    shards
        Those still held. One that was taken from this worker is not: it must not be touched any more.
    """

    def __init__(self, services: Services, shards: Iterable[Shard], token: str) -> None:
        self._held = {shard.id: shard for shard in shards}
        self._shards = services.jobs.shards
        self._token = token
        self._alive_s = _alive_s(services)
        self._beat_s = services.settings.lease_s / BEATS_PER_LEASE
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {token}", daemon=True)

    @classmethod
    def take(cls, services: Services, shard_id: str) -> Self | None:
        """Take a waiting shard, and if it is interactive the others that wait with it; none if it does not wait."""
        token = _token(services)
        shard = services.jobs.shards.take(shard_id, token, alive_s=_alive_s(services))
        if shard is None:
            return None
        lease = cls(services, [shard], token)
        if shard.lane == "interactive" and (limit := services.settings.coalesce_jobs - 1):
            lease.add(services.jobs.shards.take_some(*_place(shard), token, limit=limit, alive_s=_alive_s(services)))
        return lease

    @classmethod
    def take_interactive(cls, services: Services, model: str) -> Self | None:
        """Take what waits in the interactive lane of a model; none if nothing does."""
        place: tuple[Lane, str] = ("interactive", model)
        if not services.jobs.shards.any_left(*place):
            return None
        token, limit = _token(services), services.settings.coalesce_jobs
        shards = services.jobs.shards.take_some(*place, token, limit=limit, alive_s=_alive_s(services))
        return cls(services, shards, token) if shards else None

    def add(self, shards: Iterable[Shard]) -> None:
        """Hold these too; they were taken under this lease's token."""
        self._held.update({shard.id: shard for shard in shards})

    @property
    def shards(self) -> list[Shard]:
        """The shards still held."""
        return list(self._held.values())

    def holds(self, shard: Shard) -> bool:
        """Tell whether a shard is still held."""
        return shard.id in self._held

    def release(self, shard: Shard, *, due_s: float) -> int:
        """Let go of a shard, its message being due again in ``due_s`` seconds; return its unfinished jobs."""
        self._held.pop(shard.id, None)
        return self._shards.release(shard.id, self._token, due_s=due_s)

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
            for shard in self.shards:
                try:
                    if not self._shards.renew(shard.id, self._token, alive_s=self._alive_s):
                        self._held.pop(shard.id, None)
                except StateUnavailableError as error:
                    logger.warning("no sign of life for shard %s: %s", shard.id, error)


def _token(services: Services) -> str:
    return f"{services.owner}/{secrets.token_hex(TOKEN_BYTES)}"


def _alive_s(services: Services) -> float:
    return services.settings.lease_s * (1 - GRACE_FRACTION)


def _place(shard: Shard) -> tuple[Lane, str]:
    return shard.lane, shard.model
