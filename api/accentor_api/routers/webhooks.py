"""Webhooks: who is told what becomes of batches."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from accentor.errors import NotFoundError
from accentor.spec.webhooks import (
    Webhook,
    WebhookAttempt,
    WebhookMessage,
    WebhookSpec,
    WebhookWithSecret,
)
from accentor.state import Scope
from accentor.state.keys import ANONYMOUS
from accentor_api.addresses import check
from accentor_api.bodies import read_model
from accentor_api.callers import caller_id, current_key
from accentor_api.openapi import WEBHOOK_BODY
from accentor_api.services import Services, WithServices

DAY_S = 86_400

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


class WebhookList(BaseModel):
    """Webhooks, the oldest first."""

    data: list[Webhook]


class AttemptList(BaseModel):
    """Attempts to deliver events, the newest first."""

    data: list[WebhookAttempt]


@router.post("", status_code=201, openapi_extra=WEBHOOK_BODY)
async def create_webhook(request: Request, response: Response, services: WithServices) -> WebhookWithSecret:
    """Tell an address what becomes of the batches that this API key submits; its secret is not shown again."""
    spec = await read_model(request, WebhookSpec, services.settings.max_body_bytes)
    await check(spec.url, services.settings)
    webhook = await run_in_threadpool(services.webhooks.create, spec, caller_id())
    response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
    return webhook


@router.get("")
def list_webhooks(services: WithServices) -> WebhookList:
    """List this API key's webhooks; a key with the scope `admin` sees all."""
    return WebhookList(data=services.webhooks.all(_owner()))


@router.get("/{webhook_id}")
def get_webhook(webhook_id: str, services: WithServices) -> Webhook:
    """Return the webhook as it stands: whether it fails or was disabled, and how many events wait."""
    return _open(services, webhook_id)


@router.delete("/{webhook_id}", status_code=204, response_class=Response)
def delete_webhook(webhook_id: str, services: WithServices) -> Response:
    """Delete the webhook, with the events that wait for it."""
    services.webhooks.delete(_open(services, webhook_id).id)
    return Response(status_code=204)


@router.get("/{webhook_id}/attempts")
def list_attempts(webhook_id: str, services: WithServices) -> AttemptList:
    """List the last 50 attempts to deliver an event."""
    return AttemptList(data=services.webhooks.attempts(_open(services, webhook_id).id))


@router.post("/{webhook_id}/rotate-secret")
def rotate_secret(
    webhook_id: str,
    services: WithServices,
    overlap_s: Annotated[
        int, Query(ge=0, le=7 * DAY_S, description="seconds for which events are signed with the present secret too")
    ] = DAY_S,
) -> WebhookWithSecret:
    """Give the webhook a new secret, shown here and never again."""
    return services.webhooks.rotate(_open(services, webhook_id).id, overlap_s)


@router.post("/{webhook_id}/test", status_code=202)
def test_webhook(webhook_id: str, services: WithServices) -> WebhookMessage:
    """Send the webhook an event of the type `webhook.test`; `…/attempts` tells how that went."""
    return WebhookMessage(message=services.webhooks.test(_open(services, webhook_id).id))


@router.post("/{webhook_id}/enable")
def enable_webhook(webhook_id: str, services: WithServices) -> Webhook:
    """Let a webhook that was disabled be told of what happens from now on."""
    return services.webhooks.enable(_open(services, webhook_id).id)


def _owner() -> str | None:
    """Return whose webhooks the caller may see; none: all."""
    key = current_key.get()
    return None if key is not None and key.allows(Scope.ADMIN) else caller_id()


def _open(services: Services, webhook_id: str) -> Webhook:
    """Return the webhook if it is the caller's; whether somebody else has one of this name is not told."""
    webhook = services.webhooks.get(webhook_id)
    if _owner() not in {None, webhook.owner or ANONYMOUS}:
        raise NotFoundError(f"there is no webhook {webhook_id[:80]!r}")
    return webhook
