"""``accentor keys``: made once, listed without secrets, revoked; on a real Redis server."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from accentor.cli.keys import read_time
from accentor.cli.main import build
from accentor.errors import AccentorError, InvalidRequestError
from accentor.settings import Settings
from accentor.state import AccessStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs ``accentor keys …`` and returns what it printed."""
    monkeypatch.setenv("ACCENTOR_REDIS_URL", settings.redis_url.get_secret_value())

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(build(), ["keys", *arguments], env={"COLUMNS": "80"})
        if isinstance(result.exception, AccentorError):
            raise result.exception
        return result

    return call


@pytest.fixture
def access(redis_client: redis.Redis) -> AccessStore:
    return AccessStore(redis_client)


def test_a_key_is_shown_once(run: Any, access: AccessStore) -> None:
    token = run("create", "--name", "ana").stdout.strip()
    key = access.find(token)
    assert key is not None
    assert (key.name, {str(scope) for scope in key.scopes}) == ("ana", {"read", "submit"})
    assert (key.max_queued_jobs, key.requests_per_minute, key.expires_at) == (None, None, None)
    listed = run("list").stdout
    assert "ana" in listed
    assert key.id in listed
    assert token.rpartition("_")[2][:12] not in listed
    assert key.digest not in run("list", "--json").stdout


def test_everything_can_be_said(run: Any, access: AccessStore) -> None:
    options = ["--scope", "read", "--scope", "admin", "--max-queued-jobs", "50", "--requests-per-minute", "7"]
    made = json.loads(run("create", "--name", "g", *options, "--expires", "2h", "--json").stdout)
    key = access.find(made["key"])
    assert key is not None
    assert (made["scopes"], made["max_queued_jobs"], made["requests_per_minute"]) == (["read", "admin"], 50, 7)
    assert (key.max_queued_jobs, key.requests_per_minute) == (50, 7)
    assert key.expires_at is not None
    assert timedelta(minutes=119) < key.expires_at - datetime.now(UTC) <= timedelta(hours=2)
    listed = json.loads(run("list", "--json").stdout)
    assert listed == [{name: value for name, value in made.items() if name != "key"}]


def test_a_key_is_revoked(run: Any, access: AccessStore) -> None:
    made = json.loads(run("create", "--name", "ana", "--json").stdout)
    assert json.loads(run("revoke", made["id"], "--json").stdout)["name"] == "ana"
    assert access.find(made["key"]) is None
    with pytest.raises(AccentorError, match=made["id"]):
        run("revoke", made["id"])
    assert json.loads(run("list", "--json").stdout) == []


@pytest.mark.parametrize(
    "options",
    [["--scope", "write"], ["--name", ""], ["--name", "x" * 101], ["--expires", "soon"], ["--expires", "2020-01-01"]],
)
def test_what_is_wrong_makes_no_key(run: Any, access: AccessStore, options: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        run("create", "--name", "ana", *options)
    assert access.is_empty()
    assert run("create", "--name", "a", "--max-queued-jobs", "0").exit_code == 2
    assert access.is_empty()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW + timedelta(minutes=90)), ("12h", NOW + timedelta(hours=12)), ("30d", NOW + timedelta(days=30)),
        ("4w", NOW + timedelta(weeks=4)), ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00+02:00", datetime(2027, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))),
    ],
)  # fmt: skip
def test_times(text: str, moment: datetime) -> None:
    assert read_time(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "0d", "-1d", "3", "3y", "d", "2026-03-01T12:00Z", "999999999d"])
def test_no_times(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        read_time(text, NOW)
