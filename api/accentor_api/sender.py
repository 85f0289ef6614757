"""Sends events to webhooks, in the background of every API: each event by one of them, and again when that one dies."""

import asyncio
import logging
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx

from accentor.errors import InvalidWebhookError, ServiceError
from accentor.settings import Settings
from accentor.spec.webhooks import WebhookAttempt
from accentor.state import Delivery, WebhookStore
from accentor.state.webhooks import Outcome
from accentor.webhooks import signed_headers
from accentor_api.addresses import parse, resolve

LOOK_S = 1.0
"""Seconds between two looks for events that are due."""

AT_ONCE = 16
"""Webhooks that one API sends to at once."""

JITTER = 0.2
GONE = 410
LONGEST_RETRY_S = 86_400.0
"""Seconds that a Retry-After is obeyed for at most."""

MAX_ERROR = 300
STOP_S = 3.0
"""Seconds that deliveries under way have to end when the API is stopped; they are sent again later if they have not."""

logger = logging.getLogger("accentor_api")


class Sender:
    """Delivers what is due until it is stopped."""

    def __init__(self, store: WebhookStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._is_down = False
        self._is_stopping = False
        self._woken = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        # A pool would give a connection that was made for one name to another one at the same address.
        self._http = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=settings.webhook_timeout_s,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"User-Agent": "Accentor-Webhooks", "Content-Type": "application/json"},
        )

    async def run(self) -> None:
        """Look for events that are due, and send them."""
        while not self._is_stopping:
            self._woken.clear()
            for delivery in await self._take():
                task = asyncio.create_task(self._deliver(delivery))
                self._under_way.add(task)
                task.add_done_callback(self._end)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()

    async def stop(self) -> None:
        """Take nothing more, and wait a little for what is under way."""
        self._is_stopping = True
        self._woken.set()
        if self._under_way:
            _, left = await asyncio.wait(self._under_way, timeout=STOP_S)
            for task in left:
                task.cancel()
        await self._http.aclose()

    @property
    def _free(self) -> int:
        return AT_ONCE - len(self._under_way)

    async def _take(self) -> list[Delivery]:
        if not self._free:
            return []
        try:
            taken = await asyncio.to_thread(self._store.take, self._free)
        except ServiceError as error:
            if not self._is_down:
                logger.warning("webhooks have to wait: %s", error.detail)
            self._is_down = True
            return []
        except Exception:
            logger.exception("webhooks cannot be sent")
            return []
        self._is_down = False
        return taken

    def _end(self, task: "asyncio.Task[None]") -> None:
        """Look for the webhook's next event as soon as one is through."""
        self._under_way.discard(task)
        self._woken.set()

    async def _deliver(self, delivery: Delivery) -> None:
        began, at = time.perf_counter(), datetime.now(UTC)
        status, error, wanted_s = await self._send(delivery, at)
        outcome, retry_s = self._next(delivery, status, error, wanted_s)
        attempt = WebhookAttempt(
            message=delivery.message,
            type=delivery.event.type,
            attempt=delivery.attempt,
            at=at,
            seconds=round(time.perf_counter() - began, 3),
            status=status,
            error=error,
            next_at=None if retry_s is None else datetime.now(UTC) + timedelta(seconds=retry_s),
        )
        pause_s = self._settings.webhook_retries_s[0]
        try:
            await asyncio.to_thread(self._store.end, delivery, attempt, outcome, retry_s=retry_s, pause_s=pause_s)
        except ServiceError as fault:
            logger.warning(
                "webhook %s, %s: it will be sent again: %s", delivery.webhook, delivery.message, fault.detail
            )
            return
        if error is not None:
            logger.info("webhook %s, %s: attempt %d: %s", delivery.webhook, delivery.message, delivery.attempt, error)

    async def _send(self, delivery: Delivery, now: datetime) -> tuple[int | None, str | None, float]:
        """Return the status of the answer, what went wrong, and the seconds after which it wants to be asked again."""
        limit = self._settings.webhook_timeout_s
        try:
            async with asyncio.timeout(limit):
                response = await self._post(delivery, now)
        except InvalidWebhookError as error:
            return None, error.detail[:MAX_ERROR], 0.0
        except TimeoutError:
            return None, f"no answer within {limit:g} s", 0.0
        except (httpx.HTTPError, OSError) as error:
            return None, (str(error) or type(error).__name__)[:MAX_ERROR], 0.0
        if response.is_success:
            return response.status_code, None, 0.0
        error_text = f"it answered {response.status_code}, expected 200 to 299"
        return response.status_code, error_text, retry_after_s(response.headers.get("Retry-After", ""))

    async def _post(self, delivery: Delivery, now: datetime) -> httpx.Response:
        """Send the event to the address that was looked up and allowed; the body of the answer is not read."""
        place = parse(delivery.url, self._settings)
        addresses = await resolve(place, self._settings)
        body = delivery.body
        headers = {"Host": place.host_header, **signed_headers(delivery.message, body, delivery.secrets, now)}
        names = {"sni_hostname": place.host}
        for address in addresses:
            request = self._http.build_request(
                "POST", place.at(address), content=body, headers=headers, extensions=names
            )
            try:
                response = await self._http.send(request, stream=True)
            except httpx.ConnectError:
                if address == addresses[-1]:
                    raise
                continue
            await response.aclose()
            return response
        raise InvalidWebhookError(f"the host {place.host!r} has no address")

    def _next(
        self, delivery: Delivery, status: int | None, error: str | None, wanted_s: float
    ) -> tuple[Outcome, float | None]:
        """Return what the attempt came to, and the seconds to the next one if there is to be one."""
        if error is None:
            return "delivered", None
        if status == GONE:
            return "gone", None
        retries = self._settings.webhook_retries_s
        if delivery.attempt > len(retries):
            return "failed", None
        planned = retries[delivery.attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        return "failed", max(planned, wanted_s)


def retry_after_s(value: str) -> float:
    """Return the seconds that a Retry-After asks for, up to a day; 0 if it says no number of them."""
    is_number = value.isascii() and value.isdigit() and len(value) < 10
    return min(float(value), LONGEST_RETRY_S) if is_number else 0.0
