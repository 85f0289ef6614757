"""``accentor keys``: API keys of a service, made and revoked by whoever reaches its Redis (ACCENTOR_REDIS_URL)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accentor.cli.console import AsJson, print_json, stderr, stdout
from accentor.errors import InvalidRequestError

if TYPE_CHECKING:
    from accentor.state import AccessStore, ApiKey

SCOPES = ("read", "submit", "admin")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(help="API keys of a service: who may read and submit, and how much.", no_args_is_help=True)
    for command in (create, revoke):
        group.command()(command)
    group.command("list")(list_keys)
    return group


def create(
    name: Annotated[str, typer.Option("--name", help="Whose key it is, or what for.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="read, submit or admin; repeatable. Else read and submit.")
    ] = None,
    max_queued_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that may be queued at once.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Requests a minute.")] = None,
    expires: Annotated[str | None, typer.Option(help="After 30d, 12h, 90m or 4w, or at 2027-01-31T12:00Z.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown once, now: the service keeps its hash alone."""
    from accentor.state import Scope, make_key

    wanted = scope or ["read", "submit"]
    if unknown := sorted(set(wanted) - set(SCOPES)):
        raise InvalidRequestError(f"{', '.join(unknown)}: no scope; expected {', '.join(SCOPES)}")
    if not 1 <= len(name) <= 100:
        raise InvalidRequestError(f"a name has 1 to 100 characters, given {len(name)}")
    expires_at = None if expires is None else read_time(expires, datetime.now(UTC))
    key, token = make_key(
        name,
        [Scope(one) for one in wanted],
        max_queued_jobs=max_queued_jobs,
        requests_per_minute=requests_per_minute,
        expires_at=expires_at,
    )
    with _store() as store:
        store.add(key)
    if as_json:
        print_json({**_shown(key), "key": token})
        return
    stderr().print(f"Key {key.id} of {name!r}: keep it, it is not shown again.", markup=False, highlight=False)
    typer.echo(token)


def list_keys(as_json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    from rich.table import Column, Table

    with _store() as store:
        keys = [_shown(key) for key in store.all_keys()]
    if as_json:
        print_json(keys)
        return
    table = Table(
        Column("id", no_wrap=True), "name", "scopes", "queued jobs", "requests a minute", "created", "expires"
    )
    for key in keys:
        limits = (str(key[field] or "") for field in ("max_queued_jobs", "requests_per_minute"))
        moments = ((key[field] or "")[:16] for field in ("created_at", "expires_at"))
        table.add_row(key["id"], key["name"], ", ".join(key["scopes"]), *limits, *moments)
    stdout().print(table)


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `accentor keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Let a key count no longer, from the next request on. Its batches go on."""
    with _store() as store:
        key = store.revoke(key_id)
    if as_json:
        print_json(_shown(key))
    else:
        stderr().print(f"Key {key.id} of {key.name!r} is revoked.", markup=False, highlight=False)


def read_time(text: str, now: datetime) -> datetime:
    """Return the moment that a span from now or an ISO 8601 date means; one without a zone is UTC."""
    if span := re.fullmatch(r"([1-9]\d{0,5})([mhdw])", text):
        return now + timedelta(**{UNITS[span[2]]: int(span[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequestError(f"{text!r} is no time: expected 30d, 12h, 90m, 4w or 2027-01-31T12:00Z") from error
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    if moment <= now:
        raise InvalidRequestError(f"{text!r} is over: expected a time to come")
    return moment


def _shown(key: "ApiKey") -> dict[str, Any]:
    shown = key.model_dump(mode="json", exclude={"digest"})
    return {**shown, "scopes": sorted(shown["scopes"], key=SCOPES.index)}


@contextmanager
def _store() -> "Iterator[AccessStore]":
    from accentor.settings import read_settings
    from accentor.state import AccessStore, connect

    with connect(read_settings()) as client:
        yield AccessStore(client)
