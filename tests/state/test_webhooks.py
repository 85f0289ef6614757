"""Webhooks in Redis: events are queued with the batch's change, leased, tried again, given up; on a real server."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from tests.servers import RedisServer

from accentor.errors import IllegalTransitionError, NotFoundError, TooLargeError
from accentor.spec import Failure, JobState
from accentor.spec.webhooks import ENDS, EventType, WebhookAttempt, WebhookSpec
from accentor.state import AccessStore, Delivery, JobStore, NewBatch, Scope, WebhookStore, make_key
from accentor.state import webhooks as module
from accentor.state.keys import ANONYMOUS, TOTALS

EVERYTHING = tuple(EventType)
REASON = Failure(code="not-finite", detail="x")
URL = "https://example.org/hook"


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Return a client of a database of these tests' own: the API that others share would send these events."""
    with redis.Redis.from_url(redis_server.url.replace("/0", "/2"), socket_timeout=10.0) as client:
        client.flushdb()
        yield client


@pytest.fixture
def webhooks(redis_client: redis.Redis) -> WebhookStore:
    return WebhookStore(redis_client)


@pytest.fixture
def batch(store: JobStore) -> Callable[..., str]:
    def create(name: str = "b", total: int = 2, owner: str | None = ANONYMOUS) -> str:
        store.create_batch(
            NewBatch(name, "toy", "0" * 64, "bulk", total, datetime.now(UTC), {"who": "tésts"}, owner=owner)
        )
        return name

    return create


def told(webhooks: WebhookStore) -> list[str]:
    """Deliver all that is due, and return the types of the events in their order."""
    types = []
    while deliveries := webhooks.take(10):
        for delivery in deliveries:
            types.append(delivery.event.type)
            assert end(webhooks, delivery)
    return types


def end(webhooks: WebhookStore, delivery: Delivery, error: str | None = None, **options: Any) -> bool:
    attempt = WebhookAttempt(
        message=delivery.message,
        type=delivery.event.type,
        attempt=delivery.attempt,
        at=datetime.now(UTC),
        seconds=0.1,
        status=500 if error else 204,
        error=error,
    )
    given = {"outcome": "failed" if error else "delivered", "retry_s": None, "pause_s": 0.0, **options}
    return webhooks.end(delivery, attempt, **given)


def finish(store: JobStore, name: str, *states: JobState) -> None:
    for index, state in enumerate(states):
        store.finish_job(name, index, state, failure=REASON if state is JobState.FAILED else None)


S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((S, S), ["batch.running", "batch.succeeded"]),
        ((S, F), ["batch.running", "batch.partially_failed"]),
        ((F, F), ["batch.running", "batch.failed"]),
        ((C, C), ["batch.canceled"]),
    ],
)
def test_each_end_is_one_event(
    store: JobStore,
    webhooks: WebhookStore,
    batch: Callable[..., str],
    states: tuple[JobState, ...],
    expected: list[str],
) -> None:
    webhooks.create(WebhookSpec(url=URL, events=EVERYTHING), ANONYMOUS)
    finish(store, batch(), *states)
    finish(store, "b", *states)
    assert told(webhooks) == expected
    assert told(webhooks) == []


def test_an_event_is_the_batch_as_it_stood_then(
    store: JobStore, webhooks: WebhookStore, batch: Callable[..., str]
) -> None:
    webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    finish(store, batch(), S, F)
    then = store.status("b")
    store.retry("b")
    (delivery,) = webhooks.take(1)
    assert delivery.event.data == then
    assert delivery.event.timestamp == then.finished_at
    assert end(webhooks, delivery)
    finish(store, "b", S, S)
    (second,) = webhooks.take(1)
    assert second.event.type == "batch.succeeded"
    assert second.message != delivery.message
    assert second.message.startswith("msg_b_")


def test_a_retry_a_deadline_and_a_cancelation_are_told(
    store: JobStore, webhooks: WebhookStore, batch: Callable[..., str]
) -> None:
    webhooks.create(WebhookSpec(url=URL, events=EVERYTHING), ANONYMOUS)
    finish(store, batch("a"), F, F)
    store.retry("a")
    store.request_cancel("a")
    assert told(webhooks) == ["batch.running", "batch.failed", "batch.running", "batch.canceled"]
    store.create_batch(NewBatch("d", "toy", "0" * 64, "bulk", 3, datetime.now(UTC), deadline_s=0, owner=ANONYMOUS))
    time.sleep(0.01)
    assert store.pass_deadlines() == 3
    assert told(webhooks) == ["batch.failed"]


def test_only_the_owner_hears_of_a_batch_and_only_what_it_listens_to(
    store: JobStore, webhooks: WebhookStore, batch: Callable[..., str], redis_client: redis.Redis
) -> None:
    keys = AccessStore(redis_client)
    ana, _ = make_key("ana", [Scope.SUBMIT])
    keys.add(ana)
    webhooks.create(WebhookSpec(url=URL, events=(EventType.FAILED,)), ana.id)
    webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    finish(store, batch("hers", owner=ana.id), S, S)
    finish(store, batch("nobodys", owner=None), F, F)
    assert told(webhooks) == []
    finish(store, batch("hers2", owner=ana.id), F, F)
    assert told(webhooks) == ["batch.failed"]
    assert [webhook.owner for webhook in webhooks.all()] == [ana.id, None]
    assert [webhook.owner for webhook in webhooks.all(ana.id)] == [ana.id]

    finish(store, batch("hers3", owner=ana.id), F, F)
    keys.revoke(ana.id)
    assert told(webhooks) == []
    assert [webhook.owner for webhook in webhooks.all()] == [None]
    with pytest.raises(NotFoundError, match="revoked"):
        webhooks.create(WebhookSpec(url=URL), ana.id)


def test_an_event_is_with_one_sender_until_its_lease_is_over(
    store: JobStore, webhooks: WebhookStore, batch: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.2)
    webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    finish(store, batch("a"), S, S)
    (first,) = webhooks.take(5)
    finish(store, batch("b"), S, S)
    assert webhooks.take(5) == []
    time.sleep(0.25)
    (second,) = webhooks.take(5)
    assert (second.message, second.body, second.attempt) == (first.message, first.body, 1)
    assert not end(webhooks, first)
    assert end(webhooks, second)
    assert told(webhooks) == ["batch.succeeded"]


def test_a_failed_event_is_tried_again_and_the_webhook_is_left_alone_a_while(
    store: JobStore, webhooks: WebhookStore, batch: Callable[..., str]
) -> None:
    made = webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    finish(store, batch("a"), S, S)
    (delivery,) = webhooks.take(1)
    assert end(webhooks, delivery, "it answered 500", retry_s=0.3, pause_s=0.15)
    finish(store, batch("b"), S, S)
    assert webhooks.take(1) == []
    time.sleep(0.17)
    (other,) = webhooks.take(1)
    assert other.message != delivery.message
    assert end(webhooks, other)
    time.sleep(0.17)
    (again,) = webhooks.take(1)
    assert (again.message, again.attempt, again.body) == (delivery.message, 2, delivery.body)
    assert webhooks.get(made.id).failing_since is None
    assert end(webhooks, again)
    assert [(entry.message, entry.error) for entry in webhooks.attempts(made.id)] == [
        (delivery.message, None), (other.message, None), (delivery.message, "it answered 500"),
    ]  # fmt: skip
    assert webhooks.get(made.id).waiting == 0


def test_a_webhook_is_disabled_when_an_event_was_tried_to_the_end_and_nothing_else_came_through(
    store: JobStore, webhooks: WebhookStore, batch: Callable[..., str]
) -> None:
    made = webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    for name in "ab":
        finish(store, batch(name), S, S)
    first, _ = webhooks.take(1)[0], None
    assert end(webhooks, first, "no answer", retry_s=0.0)
    second = webhooks.take(1)[0]
    assert end(webhooks, second)
    again = webhooks.take(1)[0]
    assert again.message == first.message
    assert end(webhooks, again, "no answer")
    assert webhooks.get(made.id).disabled_at is None

    for name in "cd":
        finish(store, batch(name), S, S)
    assert end(webhooks, webhooks.take(1)[0], "no answer")
    stands = webhooks.get(made.id)
    assert stands.disabled_at is not None
    assert stands.disabled_reason is not None
    assert stands.disabled_reason.startswith("no answer; no event was delivered since ")
    assert stands.waiting == 0
    assert store.measures.read().webhooks == {"delivered": 1, "failed": 3, "dropped": 3}
    finish(store, batch("e"), S, S)
    assert webhooks.take(1) == []
    with pytest.raises(IllegalTransitionError, match="is disabled"):
        webhooks.test(made.id)

    webhooks.enable(made.id)
    finish(store, batch("f"), S, S)
    assert webhooks.get(made.id).disabled_reason is None
    assert [delivery.event.data.id for delivery in webhooks.take(1)] == ["f"]  # type: ignore[union-attr]


def test_gone_is_the_end_at_once(store: JobStore, webhooks: WebhookStore, batch: Callable[..., str]) -> None:
    made = webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    finish(store, batch(), S, S)
    assert end(webhooks, webhooks.take(1)[0], "it answered 410", outcome="gone")
    assert webhooks.get(made.id).disabled_at is not None
    assert store.measures.read().webhooks == {"gone": 1, "dropped": 1}


def test_secrets_count_side_by_side_for_a_while(webhooks: WebhookStore) -> None:
    made = webhooks.create(WebhookSpec(url=URL), ANONYMOUS)

    def count() -> tuple[str, ...]:
        webhooks.test(made.id)
        (delivery,) = webhooks.take(1)
        end(webhooks, delivery)
        return delivery.secrets

    assert count() == (made.secret,)
    second = webhooks.rotate(made.id, 60).secret
    assert count() == (second, made.secret)
    third = webhooks.rotate(made.id, 0.05).secret
    time.sleep(0.06)
    assert count() == (third, made.secret)
    for _ in range(6):
        newest = webhooks.rotate(made.id, 60).secret
    assert len(count()) == module.MAX_SECRETS
    assert count()[0] == newest


def test_what_waits_is_bounded_and_nothing_is_left_of_a_deleted_webhook(
    webhooks: WebhookStore, redis_client: redis.Redis
) -> None:
    made = webhooks.create(WebhookSpec(url=URL, events=ENDS), ANONYMOUS)
    for _ in range(1000):
        webhooks.test(made.id)
    with pytest.raises(IllegalTransitionError, match="1000 events waiting"):
        webhooks.test(made.id)
    stands = webhooks.get(made.id)
    assert (stands.waiting, stands.dropped) == (1000, 1)
    assert len(webhooks.take(10)) == 1
    webhooks.delete(made.id)
    assert redis_client.keys("*") == [TOTALS.encode()]
    assert redis_client.hgetall(TOTALS) == {b"webhook|dropped": b"1"}
    with pytest.raises(NotFoundError, match="no webhook"):
        webhooks.get(made.id)


def test_the_number_of_webhooks_is_limited(webhooks: WebhookStore) -> None:
    for _ in range(module.MAX_WEBHOOKS):
        webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
    with pytest.raises(TooLargeError, match="there are 10 webhooks, there may be 10"):
        webhooks.create(WebhookSpec(url=URL), ANONYMOUS)
