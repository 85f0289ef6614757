"""Webhooks and the events that wait for them. An event is queued by the script that changes its batch.

A webhook is told one event at a time. Whoever sends holds a lease on it; when the sender dies, another one sends
the event again under the same id.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import redis

from accentor.errors import NotFoundError, TooLargeError
from accentor.spec.webhooks import (
    TEST,
    EventType,
    Webhook,
    WebhookAttempt,
    WebhookEvent,
    WebhookSpec,
    WebhookTest,
    WebhookWithSecret,
)
from accentor.state.client import Scripts, guarded
from accentor.state.decoding import batch_status, moment, text
from accentor.state.keys import ANONYMOUS, WEBHOOKS, owned_key, webhook_key
from accentor.webhooks import new_secret

MAX_WEBHOOKS = 10
"""Webhooks of one owner."""

MAX_SECRETS = 4
"""Secrets of one webhook that count at once: each is a signature in the header."""

LOGGED = 50
"""Attempts that are remembered of each webhook."""

LEASE_S = 90.0
"""Seconds after which an event whose sender has not said how it went is sent again; above the longest time limit."""

LONGEST_PAUSE_S = 60.0
"""Seconds that a failing webhook is left alone at most before another of its events is tried."""

ID_BYTES = 8
TOKEN_BYTES = 8

Outcome = Literal["delivered", "failed", "gone"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to a webhook.

    Attributes
    ----------
    message
        The event's id, the same for every attempt.
    attempt
        Counted from 1.
    secrets
        The secrets that count now, the newest first.
    """

    webhook: str
    message: str
    attempt: int
    url: str
    secrets: tuple[str, ...]
    event: WebhookEvent
    token: str

    @property
    def body(self) -> bytes:
        """The event as it is sent."""
        return self.event.model_dump_json().encode()


class WebhookStore:
    """The webhooks of a service.

    Every method raises `StateUnavailableError` when Redis does not answer, and `NotFoundError` for a webhook that there
    is not.
    """

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client
        self._run = Scripts(client)

    @guarded
    def create(self, spec: WebhookSpec, owner: str) -> WebhookWithSecret:
        """Make a webhook that is told what becomes of the owner's batches from now on.

        Raises
        ------
        TooLargeError
            If the owner has as many as it may.
        """
        webhook_id, secret = secrets.token_hex(ID_BYTES), new_secret()
        events = " ".join(dict.fromkeys(spec.events))
        fields = (spec.url, events, spec.description)
        count, is_added = self._run("create_webhook", [], webhook_id, owner, MAX_WEBHOOKS, secret, *fields)
        if not is_added:
            detail = f"there are {count} webhooks, there may be {MAX_WEBHOOKS}: delete one first"
            raise TooLargeError(detail, webhooks=int(count), limit=MAX_WEBHOOKS)
        return _with_secret(self.get(webhook_id), secret)

    @guarded
    def get(self, webhook_id: str) -> Webhook:
        """Return a webhook as it stands."""
        key = webhook_key(webhook_id)
        record = self._client.hgetall(key)
        if not record:
            raise NotFoundError(f"there is no webhook {webhook_id[:80]!r}")
        return _webhook(record, self._client.zcard(f"{key}:waiting"))

    def all(self, owner: str | None = None) -> list[Webhook]:
        """Return all webhooks, or an owner's, the oldest first."""
        found = []
        for webhook_id in self._ids(owner):
            try:
                found.append(self.get(webhook_id))
            except NotFoundError:
                continue
        return found

    @guarded
    def delete(self, webhook_id: str) -> None:
        """Forget a webhook and the events that wait for it."""
        self._run("delete_webhooks", [], webhook_id)

    @guarded
    def rotate(self, webhook_id: str, overlap_s: float) -> WebhookWithSecret:
        """Give a webhook a new secret; the present one counts beside it for ``overlap_s`` seconds more."""
        secret = new_secret()
        self._run("rotate_webhook", [], webhook_id, secret, overlap_s, MAX_SECRETS)
        return _with_secret(self.get(webhook_id), secret)

    @guarded
    def enable(self, webhook_id: str) -> Webhook:
        """Let a webhook that was disabled be told of what happens from now on."""
        self._run("enable_webhook", [], webhook_id)
        return self.get(webhook_id)

    @guarded
    def test(self, webhook_id: str) -> str:
        """Queue a test event and return its id.

        Raises
        ------
        IllegalTransitionError
            If the webhook is disabled.
        """
        message = f"msg_{secrets.token_hex(ID_BYTES)}"
        self._run("test_webhook", [], webhook_id, message, TEST)
        return message

    @guarded
    def attempts(self, webhook_id: str) -> list[WebhookAttempt]:
        """Return the last attempts to deliver an event, the newest first."""
        entries = self._client.lrange(f"{webhook_key(webhook_id)}:log", 0, LOGGED - 1)
        return [WebhookAttempt.model_validate_json(entry) for entry in entries]

    @guarded
    def take(self, limit: int) -> list[Delivery]:
        """Return up to so many events that are due, each of another webhook: nobody else's for `LEASE_S` seconds."""
        token = secrets.token_hex(TOKEN_BYTES)
        return [_delivery(reply, token) for reply in self._run("take_webhooks", [], token, LEASE_S, limit)]

    @guarded
    def end(
        self, delivery: Delivery, attempt: WebhookAttempt, outcome: Outcome, *, retry_s: float | None, pause_s: float
    ) -> bool:
        """Say how an attempt went; false if the lease was over and another sender has the event now.

        Parameters
        ----------
        retry_s
            Seconds after which the event is tried again; none: never. A webhook that was told nothing since an event
            that is given up, or that is gone, is disabled.
        pause_s
            Seconds, times the failures in a row, for which a failing webhook is left alone.
        """
        reason = f"{attempt.error}; no event was delivered since {delivery.event.timestamp:%Y-%m-%d %H:%M} UTC"
        if outcome == "gone":
            reason = f"it answered {attempt.status}: it wants to be told nothing any more"
        ended = self._run(
            "end_webhook",
            [],
            delivery.webhook,
            delivery.token,
            delivery.message,
            outcome,
            "" if retry_s is None else retry_s,
            delivery.event.timestamp.timestamp(),
            attempt.model_dump_json(),
            LOGGED,
            pause_s,
            LONGEST_PAUSE_S,
            reason,
        )
        return bool(ended)

    @guarded
    def _ids(self, owner: str | None) -> list[str]:
        return [text(name) for name in self._client.zrange(WEBHOOKS if owner is None else owned_key(owner), 0, -1)]


def _webhook(record: Mapping[bytes, bytes], waiting: int) -> Webhook:
    owner = text(record[b"owner"])
    reason = record.get(b"disabled_reason")
    return Webhook(
        id=text(record[b"id"]),
        url=text(record[b"url"]),
        events=tuple(EventType(name) for name in text(record[b"events"]).split()),
        description=text(record[b"description"]),
        owner=None if owner == ANONYMOUS else owner,
        waiting=waiting,
        dropped=int(record.get(b"dropped", 0)),
        created_at=cast("datetime", moment(record[b"created_at"])),
        last_success_at=moment(record.get(b"last_success_at")),
        failing_since=moment(record.get(b"failing_since")),
        disabled_at=moment(record.get(b"disabled_at")),
        disabled_reason=None if reason is None else text(reason),
    )


def _with_secret(webhook: Webhook, secret: str) -> WebhookWithSecret:
    return WebhookWithSecret(**dict(webhook), secret=secret)


def _delivery(reply: Sequence[Any], token: str) -> Delivery:
    webhook, message, event, tries, url = map(text, reply[:5])
    keys = tuple(map(text, reply[5]))
    return Delivery(webhook, message, int(tries) + 1, url, keys, _event(json.loads(event), webhook), token)


def _event(stored: Mapping[str, Any], webhook: str) -> WebhookEvent:
    """Return the event from the batch's record as it stood then, so that every attempt has the same body."""
    timestamp = datetime.fromtimestamp(0, UTC) + timedelta(seconds=float(stored["at"]))
    flat = stored.get("batch")
    if flat is None:
        return WebhookEvent(type=stored["type"], timestamp=timestamp, data=WebhookTest(webhook=webhook))
    record = {name.encode(): value.encode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    return WebhookEvent(type=stored["type"], timestamp=timestamp, data=batch_status(record, timestamp))
