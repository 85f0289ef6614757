"""Webhooks: addresses that are told what becomes of batches, as the Standard Webhooks specification has it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from accentor.spec.status import BatchStatus

MAX_URL = 2048
MAX_DESCRIPTION = 200


class EventType(StrEnum):
    """What a webhook can be told."""

    RUNNING = "batch.running"
    SUCCEEDED = "batch.succeeded"
    PARTIALLY_FAILED = "batch.partially_failed"
    FAILED = "batch.failed"
    CANCELED = "batch.canceled"


ENDS = (EventType.SUCCEEDED, EventType.PARTIALLY_FAILED, EventType.FAILED, EventType.CANCELED)
TEST = "webhook.test"
"""Type of the event that is sent when one asks for it, whatever the webhook listens to."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WebhookSpec(_Record):
    """A webhook as it is asked for."""

    url: str = Field(min_length=1, max_length=MAX_URL, description="where events are sent, by POST")
    events: Annotated[tuple[EventType, ...], Field(min_length=1, max_length=len(EventType))] = ENDS
    description: str = Field("", max_length=MAX_DESCRIPTION)


class Webhook(_Record):
    """A webhook as it stands."""

    id: str
    url: str
    events: tuple[EventType, ...]
    description: str = ""
    owner: str | None = Field(None, description="id of the API key whose batches it is told of; none: anybody's")
    waiting: int = Field(0, description="events that are not delivered yet")
    dropped: int = Field(0, description="events that were not taken because too many were waiting")
    created_at: datetime
    last_success_at: datetime | None = None
    failing_since: datetime | None = Field(None, description="first failure after the last success")
    disabled_at: datetime | None = Field(None, description="since when it is told nothing any more")
    disabled_reason: str | None = None


class WebhookWithSecret(Webhook):
    """A webhook with its new secret, which is not shown again."""

    secret: str = Field(repr=False, description="`whsec_` and base64: what its signatures are verified with")


class WebhookAttempt(_Record):
    """One attempt to deliver an event."""

    message: str = Field(description="`webhook-id` of the event, the same for every attempt")
    type: EventType | str
    attempt: int = Field(description="counted from 1")
    at: datetime
    seconds: float
    status: int | None = Field(None, description="HTTP status of the answer, if there was one")
    error: str | None = Field(None, description="why it failed; none: it was delivered")
    next_at: datetime | None = Field(None, description="when it is tried again; none: it is not")


class WebhookMessage(_Record):
    """An event that was queued."""

    message: str = Field(description="its `webhook-id`")


class WebhookTest(_Record):
    """What a test event tells: which webhook was tested."""

    webhook: str


class WebhookEvent(_Record):
    """The body of what is sent to a webhook."""

    type: str = Field(description="such as `batch.succeeded`; `webhook.test` for a test")
    timestamp: datetime = Field(description="when it happened")
    data: BatchStatus | WebhookTest = Field(description="the batch as it stood then")
