"""Webhooks, awaited; the twin of `accentor_client.webhooks`."""

from collections.abc import Sequence

from accentor.spec.webhooks import Webhook, WebhookAttempt, WebhookWithSecret
from accentor_client import _webhooks
from accentor_client._transport import AsyncTransport


class AsyncWebhooks:
    """Webhooks: addresses that are told, signed, what becomes of the batches of one's API key."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, url: str, events: Sequence[str] | None = None, *, description: str = ""
    ) -> WebhookWithSecret:
        """Make a webhook; see `Webhooks.create`."""
        return await self._transport.send(_webhooks.create(url, events, description))

    async def get(self, webhook_id: str) -> Webhook:
        """Return a webhook as it stands: whether it fails or was disabled, and how many events wait."""
        return await self._transport.send(_webhooks.show(webhook_id))

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook, with the events that wait for it."""
        await self._transport.send(_webhooks.delete(webhook_id))

    async def attempts(self, webhook_id: str) -> list[WebhookAttempt]:
        """Return the last 50 attempts to deliver an event, the newest first."""
        return (await self._transport.send(_webhooks.attempts(webhook_id))).data

    async def rotate_secret(self, webhook_id: str, *, overlap_s: int = _webhooks.DAY_S) -> WebhookWithSecret:
        """Give a webhook a new secret; the old one signs too for ``overlap_s`` seconds more."""
        return await self._transport.send(_webhooks.rotate_secret(webhook_id, overlap_s))

    async def test(self, webhook_id: str) -> str:
        """Have a test event sent, and return its ``webhook-id``."""
        return (await self._transport.send(_webhooks.test(webhook_id))).message

    async def enable(self, webhook_id: str) -> Webhook:
        """Let a webhook that was disabled be told of what happens from now on."""
        return await self._transport.send(_webhooks.enable(webhook_id))

    async def list(self) -> list[Webhook]:
        """Return one's webhooks, the oldest first."""
        return (await self._transport.send(_webhooks.everything())).data
