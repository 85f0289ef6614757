"""Signatures of webhooks by the Standard Webhooks specification: made by the service, verified by who receives them."""

import base64
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import ValidationError
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from accentor.errors import InvalidSignatureError
from accentor.spec.webhooks import WebhookEvent

SECRET_BYTES = 32
ID_HEADER = "webhook-id"


def new_secret() -> str:
    """Return a new random secret."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def signed_headers(message: str, body: bytes, keys: Iterable[str], now: datetime) -> dict[str, str]:
    """Return the headers that go with a body: a signature for each secret that counts now."""
    signatures = [Webhook(key).sign(message, now, body.decode()) for key in keys]
    return {
        ID_HEADER: message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def verify(payload: bytes | str, headers: Mapping[str, str], secret: str) -> WebhookEvent:
    """Return the event that was received if the service has signed it, less than five minutes ago.

    Parameters
    ----------
    payload
        The body as it came, not parsed and written again.
    headers
        Those of the request; capitals do not matter.
    secret
        The webhook's, as it was shown when it was made: ``whsec_…``.

    Raises
    ------
    InvalidSignatureError
        If it is not signed with the secret, is too old, or was changed on the way.
    """
    try:
        Webhook(secret).verify(payload, dict(headers), json_parse=False)
    except (WebhookVerificationError, EmptyWebhookSecretError, ValueError) as error:
        detail = f"the webhook {headers.get(ID_HEADER, '')!r} is not to be trusted: {error}"
        raise InvalidSignatureError(detail) from error
    try:
        return WebhookEvent.model_validate_json(payload)
    except ValidationError as error:
        raise InvalidSignatureError(f"the webhook is signed, but no event that is known here: {error}") from error
