"""Webhooks at a service, and `verify` for what they are sent."""

from collections.abc import Sequence

from accentor.spec.webhooks import Webhook, WebhookAttempt, WebhookWithSecret
from accentor.webhooks import verify
from accentor_client import _webhooks
from accentor_client._transport import Transport

__all__ = ["Webhooks", "verify"]


class Webhooks:
    """Webhooks: addresses that are told, signed, what becomes of the batches of one's API key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, url: str, events: Sequence[str] | None = None, *, description: str = "") -> WebhookWithSecret:
        """Make a webhook; its secret is in the answer and is not shown again.

        Parameters
        ----------
        events
            Such as ``batch.failed``; none: the four ends of a batch.
        """
        return self._transport.send(_webhooks.create(url, events, description))

    def get(self, webhook_id: str) -> Webhook:
        """Return a webhook as it stands: whether it fails or was disabled, and how many events wait."""
        return self._transport.send(_webhooks.show(webhook_id))

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook, with the events that wait for it."""
        self._transport.send(_webhooks.delete(webhook_id))

    def attempts(self, webhook_id: str) -> list[WebhookAttempt]:
        """Return the last 50 attempts to deliver an event, the newest first."""
        return self._transport.send(_webhooks.attempts(webhook_id)).data

    def rotate_secret(self, webhook_id: str, *, overlap_s: int = _webhooks.DAY_S) -> WebhookWithSecret:
        """Give a webhook a new secret; the old one signs too for ``overlap_s`` seconds more."""
        return self._transport.send(_webhooks.rotate_secret(webhook_id, overlap_s))

    def test(self, webhook_id: str) -> str:
        """Have a test event sent, and return its ``webhook-id``."""
        return self._transport.send(_webhooks.test(webhook_id)).message

    def enable(self, webhook_id: str) -> Webhook:
        """Let a webhook that was disabled be told of what happens from now on."""
        return self._transport.send(_webhooks.enable(webhook_id))

    def list(self) -> list[Webhook]:
        """Return one's webhooks, the oldest first."""
        return self._transport.send(_webhooks.everything()).data
