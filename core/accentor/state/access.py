"""API keys: who may ask for what, and how much of it. Secrets are not kept, only their sha256."""

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

import redis
from pydantic import BaseModel, ConfigDict, Field

from accentor.errors import NotFoundError, QueueLimitError, RateLimitError, TooLargeError
from accentor.state.client import Scripts, guarded
from accentor.state.decoding import text
from accentor.state.keys import ACCESS, held_key, owned_key, rate_key

ID_BYTES = 6
SECRET_BYTES = 32
"""256 random bits: nothing to guess, so that one round of sha256 keeps them."""

CREATION_S = 60
"""Seconds that a batch may take from its admission to its creation; then it no longer counts."""

QUEUE_RETRY_S = 30
"""Seconds after which to try again when the queue of a key is full."""

_TOKEN = re.compile(r"acc_([0-9a-f]{12})_([0-9a-f]{64})")


class Scope(StrEnum):
    """What an API key may be used for."""

    READ = "read"
    """Ask: every GET and HEAD."""

    SUBMIT = "submit"
    """Change: upload, submit, cancel, retry, delete."""

    ADMIN = "admin"
    """Everything."""


class ApiKey(BaseModel):
    """An API key as it is kept: without its secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str = Field(min_length=1, max_length=100)
    digest: str = Field(repr=False, description="sha256 of the whole key")
    scopes: frozenset[Scope] = Field(min_length=1)
    max_queued_jobs: int | None = Field(None, ge=1, description="jobs of this key that may be queued at once")
    requests_per_minute: int | None = Field(None, ge=1, le=1_000_000)
    created_at: datetime
    expires_at: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Tell whether the key may be used for this."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


def make_key(
    name: str,
    scopes: Sequence[Scope],
    *,
    max_queued_jobs: int | None = None,
    requests_per_minute: int | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Return a new key as it is kept, and its text, which is nowhere else."""
    key_id = secrets.token_hex(ID_BYTES)
    token = f"acc_{key_id}_{secrets.token_hex(SECRET_BYTES)}"
    key = ApiKey(
        id=key_id,
        name=name,
        digest=_digest(token),
        scopes=frozenset(scopes),
        max_queued_jobs=max_queued_jobs,
        requests_per_minute=requests_per_minute,
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    return key, token


class AccessStore:
    """The API keys of a service, and what each of them has used."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client
        self._run = Scripts(client)

    @guarded
    def add(self, key: ApiKey) -> None:
        """Let a key count from now on."""
        self._client.hset(ACCESS, key.id, key.model_dump_json())

    @guarded
    def all_keys(self) -> list[ApiKey]:
        """Return all keys, the oldest first."""
        found = (ApiKey.model_validate_json(record) for record in self._client.hvals(ACCESS))
        return sorted(found, key=lambda key: (key.created_at, key.id))

    @guarded
    def is_empty(self) -> bool:
        """Tell whether there is no key at all."""
        return self._client.hlen(ACCESS) == 0

    @guarded
    def revoke(self, key_id: str) -> ApiKey:
        """Let a key count no longer, from the next request on; its batches stay, its webhooks go."""
        record = self._client.hget(ACCESS, key_id)
        if record is None:
            raise NotFoundError(f"there is no API key {key_id!r}")
        self._client.hdel(ACCESS, key_id)
        self._client.delete(rate_key(key_id), held_key(key_id))
        self._run("delete_webhooks", [], *self._client.zrange(owned_key(key_id), 0, -1))
        return ApiKey.model_validate_json(record)

    @guarded
    def find(self, token: str) -> ApiKey | None:
        """Return the key that has this text, also if it has expired; the comparison takes the same time always."""
        match = _TOKEN.fullmatch(token)
        record = self._client.hget(ACCESS, match[1]) if match else None
        if record is None:
            return None
        key = ApiKey.model_validate_json(record)
        return key if hmac.compare_digest(key.digest, _digest(token)) else None

    @guarded
    def take_request(self, key: ApiKey) -> None:
        """Count one request of a key.

        Raises
        ------
        RateLimitError
            If it has sent as many as it may; ``retry_after_s`` says when the next one is taken.
        """
        if key.requests_per_minute is None:
            return
        wait = float(text(self._run("take_request", [rate_key(key.id)], key.requests_per_minute)))
        if wait > 0:
            seconds = math.ceil(wait)
            raise RateLimitError(
                f"the API key {key.name!r} may send {key.requests_per_minute} requests a minute: the next one is taken "
                f"in {seconds} s",
                limit=key.requests_per_minute,
                retry_after_s=seconds,
            )

    @guarded
    def admit(self, key: ApiKey, batch_id: str, jobs: int) -> None:
        """Count jobs that a key is about to queue.

        Raises
        ------
        QueueLimitError
            If they do not fit beside those that are queued now.
        TooLargeError
            If they would not fit even if none were.
        """
        limit = key.max_queued_jobs
        if limit is None:
            return
        if jobs > limit:
            detail = f"the API key {key.name!r} may have {limit} jobs queued, this batch has {jobs}: split it"
            raise TooLargeError(detail, jobs=jobs, limit=limit)
        queued, is_admitted = self._run("hold_jobs", [held_key(key.id)], batch_id, jobs, limit, CREATION_S)
        if not is_admitted:
            raise QueueLimitError(
                f"the API key {key.name!r} may have {limit} jobs queued: {queued} are, {jobs} more were submitted; "
                "submit again when some of them have run",
                jobs=jobs,
                queued=int(queued),
                limit=limit,
                retry_after_s=QUEUE_RETRY_S,
            )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
