"""API keys, what they have used, and requests that are done once, on a real Redis server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import redis

from accentor.errors import NotFoundError, QueueLimitError, RateLimitError, TooLargeError
from accentor.spec import JobState
from accentor.state import AccessStore, ApiKey, JobStore, OnceStore, Scope, make_key
from accentor.state import access as module
from accentor.state import once as once_module
from accentor.state.keys import ACCESS

BOTH = [Scope.READ, Scope.SUBMIT]


@pytest.fixture
def access(redis_client: redis.Redis) -> AccessStore:
    return AccessStore(redis_client)


@pytest.fixture
def once(redis_client: redis.Redis) -> OnceStore:
    return OnceStore(redis_client)


def limited(**limits: int) -> ApiKey:
    return make_key("limited", BOTH, **limits)[0]


def test_a_key_is_found_by_its_text_alone(access: AccessStore) -> None:
    assert access.is_empty()
    key, token = make_key("ana", BOTH)
    access.add(key)
    assert not access.is_empty()
    assert access.find(token) == key
    other = token[:-1] + ("0" if token[-1] != "0" else "1")
    for wrong in (
        other,
        "",
        token.upper(),
        f"{token} ",
        token[: len("acc_000000000000")],
        "acc_é",
        make_key("b", BOTH)[1],
    ):
        assert access.find(wrong) is None


def test_the_secret_is_nowhere(access: AccessStore, redis_client: redis.Redis) -> None:
    key, token = make_key("ana", BOTH)
    access.add(key)
    secret = token.rpartition("_")[2]
    assert len(secret) == 64
    kept = b"".join(redis_client.hvals(ACCESS)).decode()
    assert key.digest in kept
    assert secret not in kept
    assert secret not in repr(key)
    assert key.digest not in repr(key)


def test_keys_are_listed_and_revoked(access: AccessStore) -> None:
    made = [make_key(name, BOTH) for name in ("first", "second")]
    for key, _ in reversed(made):
        access.add(key)
    assert [key.name for key in access.all_keys()] == ["first", "second"]
    assert access.revoke(made[0][0].id).name == "first"
    assert access.find(made[0][1]) is None
    assert access.find(made[1][1]) is not None
    with pytest.raises(NotFoundError, match=made[0][0].id):
        access.revoke(made[0][0].id)


@pytest.mark.parametrize(
    ("has", "allowed"),
    [([Scope.READ], {"read"}), ([Scope.SUBMIT], {"submit"}), ([Scope.ADMIN], {"read", "submit", "admin"})],
)
def test_scopes(has: list[Scope], allowed: set[str]) -> None:
    key, _ = make_key("k", has)
    assert {str(scope) for scope in Scope if key.allows(scope)} == allowed


def test_expiry() -> None:
    now = datetime.now(UTC)
    key, _ = make_key("k", BOTH, expires_at=now)
    assert key.expired(now)
    assert not key.expired(now - timedelta(seconds=1))
    assert not make_key("k", BOTH)[0].expired(now)


def exhaust(access: AccessStore, key: ApiKey) -> None:
    """Send a few more, for those that were earned while the burst was sent."""
    for _ in range(10):
        access.take_request(key)


def test_requests_come_in_one_burst_then_evenly(access: AccessStore) -> None:
    key, other = limited(requests_per_minute=120), limited(requests_per_minute=1)
    for _ in range(120):
        access.take_request(key)
    with pytest.raises(RateLimitError, match="120 requests a minute") as refused:
        exhaust(access, key)
    assert refused.value.extra == {"limit": 120, "retry_after_s": 1}
    time.sleep(0.55)
    access.take_request(key)
    access.take_request(other)
    with pytest.raises(RateLimitError) as refused:
        access.take_request(other)
    assert 59 <= refused.value.extra["retry_after_s"] <= 60
    access.take_request(limited())


def test_queued_jobs_are_counted_until_they_begin(
    access: AccessStore, store: JobStore, new_batch: Callable[..., str]
) -> None:
    key = limited(max_queued_jobs=10)
    access.admit(key, "a", 6)
    new_batch("a", 6)
    with pytest.raises(QueueLimitError, match="10 jobs queued: 6 are, 5 more") as refused:
        access.admit(key, "b", 5)
    assert refused.value.extra | {"retry_after_s": 0} == {"jobs": 5, "queued": 6, "limit": 10, "retry_after_s": 0}
    access.admit(limited(max_queued_jobs=10), "c", 5)
    store.start_jobs("a", [0])
    access.admit(key, "b", 5)
    new_batch("b", 5)
    with pytest.raises(QueueLimitError):
        access.admit(key, "d", 1)
    store.request_cancel("b")
    store.finish_job("a", 0, JobState.SUCCEEDED)
    access.admit(key, "d", 5)


def test_a_batch_that_never_fits_is_told_so(access: AccessStore) -> None:
    with pytest.raises(TooLargeError, match="10 jobs queued, this batch has 11") as refused:
        access.admit(limited(max_queued_jobs=10), "a", 11)
    assert refused.value.extra == {"jobs": 11, "limit": 10}


def test_submissions_at_once_do_not_pass_the_limit_together(access: AccessStore) -> None:
    key = limited(max_queued_jobs=10)

    def admit(number: int) -> bool:
        try:
            access.admit(key, f"b{number}", 3)
        except QueueLimitError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(admit, range(16))) == 3


def test_what_was_admitted_and_never_made_is_forgotten(access: AccessStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = limited(max_queued_jobs=10)
    access.admit(key, "a", 8)
    access.admit(key, "a", 10)
    monkeypatch.setattr(module, "CREATION_S", 0)
    time.sleep(0.01)
    access.admit(key, "b", 10)


def test_the_first_runs_the_second_waits_then_repeats(once: OnceStore, new_batch: Callable[..., str]) -> None:
    first = once.begin("ana", "k", "one")
    assert (first.do, first.batch) == ("run", "one")
    assert once.begin("ana", "k", "two").do == "wait"
    assert once.begin("ben", "k", "three").do == "run"
    assert once.begin("ana", "other", "four").do == "run"
    assert once.renew(first, "f" * 64)
    new_batch("one")
    second = once.begin("ana", "k", "two")
    assert (second.do, second.batch, second.fingerprint, second.status) == ("replay", "one", "f" * 64, 202)
    assert once.end(first, 200)
    assert once.begin("ana", "k", "two").status == 200


def test_what_made_no_batch_leaves_nothing(once: OnceStore, redis_client: redis.Redis) -> None:
    first = once.begin("ana", "k", "one")
    once.renew(first, "f")
    assert not once.end(first, 422)
    assert redis_client.dbsize() == 0
    assert once.begin("ana", "k", "two").batch == "two"


def test_a_dead_one_is_taken_over_under_the_same_id(once: OnceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once_module, "LEASE_S", 0.1)
    dead = once.begin("ana", "k", "one")
    assert once.begin("ana", "k", "two").do == "wait"
    once.renew(dead)
    time.sleep(0.15)
    heir = once.begin("ana", "k", "two")
    assert (heir.do, heir.batch) == ("run", "one")
    assert not once.renew(dead, "late")
    assert not once.end(dead, 202)
    assert once.renew(heir)


def test_a_batch_that_was_made_by_a_dead_one_is_not_made_again(
    once: OnceStore, new_batch: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once_module, "LEASE_S", 0.01)
    dead = once.begin("ana", "k", "one")
    once.renew(dead, "f")
    new_batch("one")
    time.sleep(0.02)
    assert once.begin("ana", "k", "two").do == "replay"


def test_it_is_kept_for_a_day(once: OnceStore, redis_client: redis.Redis) -> None:
    first = once.begin("ana", "k", "one")
    assert 86_000 < redis_client.ttl(first.key) <= 86_400
