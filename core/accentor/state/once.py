"""Requests that are done once, however often they are sent: the record behind the header Idempotency-Key.

The first request with a key chooses the id of its batch before the batch is made. If the API dies on the way, whoever
sends the request again finishes it under the same id, and no second batch comes of it.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Literal

import redis

from accentor.state.client import Scripts, guarded
from accentor.state.decoding import text
from accentor.state.keys import once_key

KEPT_S = 24 * 3600
"""Seconds that a key is remembered."""

LEASE_S = 20.0
"""Seconds without a sign of life after which the first request counts as dead."""

OWNER_BYTES = 16


@dataclass(frozen=True, slots=True)
class Once:
    """What is to be done with a request.

    Attributes
    ----------
    do
        ``run`` it under the id ``batch``; ``wait`` for the one that is under way; ``replay`` the batch that was made.
    fingerprint, status
        Of the first request and of its answer, for ``replay``.
    """

    do: Literal["run", "wait", "replay"]
    batch: str
    fingerprint: str
    status: int
    key: str
    owner: str


class OnceStore:
    """The requests of the last 24 hours that were sent with an Idempotency-Key."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._run = Scripts(client)

    @guarded
    def begin(self, caller: str, name: str, batch_id: str) -> Once:
        """Tell what to do with a request that a caller sends under this name; ``batch_id`` is for a new batch."""
        key = once_key(caller, hashlib.sha256(name.encode()).hexdigest())
        owner = secrets.token_hex(OWNER_BYTES)
        do, batch, fingerprint, status = map(text, self._run("begin_once", [key], owner, batch_id, LEASE_S, KEPT_S))
        return Once(do, batch, fingerprint, int(status or 0), key, owner)  # type: ignore[arg-type]

    @guarded
    def renew(self, once: Once, fingerprint: str = "") -> bool:
        """Give a sign of life, and with the whole body its fingerprint; false if another one has taken over."""
        return bool(self._run("renew_once", [once.key], once.owner, LEASE_S, fingerprint))

    @guarded
    def end(self, once: Once, status: int) -> bool:
        """Keep the record if the batch was made, else let the key be used again; return whether it was kept."""
        return bool(self._run("end_once", [once.key], once.owner, status))
