"""The calls about webhooks, without input or output."""

from collections.abc import Sequence
from typing import Any

from accentor.spec.webhooks import Webhook, WebhookAttempt, WebhookMessage, WebhookSpec, WebhookWithSecret
from accentor_client._calls import Answer
from accentor_client._requests import API_ROOT, Call, get, model_reader, post, read_nothing, segment
from accentor_client._sources import checked

DAY_S = 86_400


class WebhookList(Answer):
    """Webhooks, the oldest first."""

    data: list[Webhook]


class AttemptList(Answer):
    """Attempts, the newest first."""

    data: list[WebhookAttempt]


def create(url: str, events: Sequence[str] | None, description: str) -> Call[WebhookWithSecret]:
    """Make a webhook."""
    fields: dict[str, Any] = {"url": url, "description": description} | ({} if events is None else {"events": events})
    return post("/webhooks", model_reader(WebhookWithSecret), checked(WebhookSpec, fields))


def everything() -> Call[WebhookList]:
    """List the webhooks."""
    return get("/webhooks", model_reader(WebhookList))


def show(webhook_id: str) -> Call[Webhook]:
    """Ask how a webhook stands."""
    return get(f"/webhooks/{segment(webhook_id)}", model_reader(Webhook))


def delete(webhook_id: str) -> Call[None]:
    """Delete a webhook."""
    return Call("DELETE", f"{API_ROOT}/webhooks/{segment(webhook_id)}", read_nothing)


def attempts(webhook_id: str) -> Call[AttemptList]:
    """List the last attempts."""
    return get(f"/webhooks/{segment(webhook_id)}/attempts", model_reader(AttemptList))


def rotate_secret(webhook_id: str, overlap_s: int) -> Call[WebhookWithSecret]:
    """Give a webhook a new secret."""
    path = f"/webhooks/{segment(webhook_id)}/rotate-secret"
    return post(path, model_reader(WebhookWithSecret), overlap_s=overlap_s)


def test(webhook_id: str) -> Call[WebhookMessage]:
    """Ask for a test event."""
    return post(f"/webhooks/{segment(webhook_id)}/test", model_reader(WebhookMessage))


def enable(webhook_id: str) -> Call[Webhook]:
    """Enable a webhook that was disabled."""
    return post(f"/webhooks/{segment(webhook_id)}/enable", model_reader(Webhook), repeatable=True)
