"""``accentor webhooks``: addresses that are told what becomes of batches."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from accentor.cli.console import DEFAULT_URL, ApiKey, AsJson, Url, print_json, stderr, stdout, tell_deleted

if TYPE_CHECKING:
    from accentor.spec.webhooks import WebhookWithSecret

Id = Annotated[str, typer.Argument(metavar="ID", help="As `accentor webhooks list` shows it.")]


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(help="Webhooks of a service: who is told what becomes of batches.", no_args_is_help=True)
    for command in (create, show, attempts, enable, delete):
        group.command()(command)
    group.command("list")(list_webhooks)
    group.command("test")(send_test)
    group.command("rotate-secret")(rotate_secret)
    return group


def create(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where events are sent: https://…")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="Such as batch.failed; repeatable. Else the four ends of a batch."),
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a webhook. Its secret is shown once, now."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        _tell(client.webhooks.create(address, event or None, description=description), as_json=as_json)


def rotate_secret(
    webhook: Id,
    overlap_s: Annotated[int, typer.Option(min=0, max=604_800, help="Seconds that the old one signs too.")] = 86_400,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Give a webhook a new secret. It is shown once, now."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        _tell(client.webhooks.rotate_secret(webhook, overlap_s=overlap_s), as_json=as_json)


def list_webhooks(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List your webhooks."""
    from rich.table import Column, Table

    from accentor_client import Client

    with Client(url, api_key) as client:
        found = client.webhooks.list()
    if as_json:
        print_json([webhook.model_dump(mode="json") for webhook in found])
        return
    table = Table(Column("id", no_wrap=True), "url", "events", "waiting", "state", "description")
    for webhook in found:
        state = "disabled" if webhook.disabled_at else "failing" if webhook.failing_since else "well"
        events = ", ".join(name.removeprefix("batch.") for name in webhook.events)
        told = (escape(webhook.url), events, str(webhook.waiting), state, escape(webhook.description))
        table.add_row(webhook.id, *told)
    stdout().print(table)


def show(webhook: Id, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Print how a webhook stands, as JSON."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        print_json(client.webhooks.get(webhook).model_dump(mode="json"))


def attempts(webhook: Id, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the last attempts to deliver an event, the newest first."""
    from rich.table import Table

    from accentor_client import Client

    with Client(url, api_key) as client:
        found = client.webhooks.attempts(webhook)
    if as_json:
        print_json([attempt.model_dump(mode="json") for attempt in found])
        return
    table = Table("at", "event", "type", "attempt", "answer", "seconds", "again at")
    for attempt in found:
        again = f"{attempt.next_at:%Y-%m-%d %H:%M:%S}" if attempt.next_at else ""
        answer = escape(attempt.error or str(attempt.status))
        row = (attempt.message, attempt.type, str(attempt.attempt), answer, f"{attempt.seconds:.2f}", again)
        table.add_row(f"{attempt.at:%Y-%m-%d %H:%M:%S}", *row)
    stdout().print(table)


def send_test(webhook: Id, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Have a test event sent; `accentor webhooks attempts` tells how that went."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        message = client.webhooks.test(webhook)
    print_json({"message": message}) if as_json else typer.echo(message)


def enable(webhook: Id, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let a webhook that was disabled be told of what happens from now on."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        stands = client.webhooks.enable(webhook)
    print_json(stands.model_dump(mode="json")) if as_json else stdout().print(f"{stands.id}  enabled")


def delete(webhook: Id, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Delete a webhook, with the events that wait for it."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        client.webhooks.delete(webhook)
    tell_deleted("webhook", webhook, as_json=as_json)


def _tell(webhook: "WebhookWithSecret", *, as_json: bool) -> None:
    if as_json:
        print_json(webhook.model_dump(mode="json"))
        return
    stderr().print(f"Webhook {webhook.id}: keep its secret, it is not shown again.", markup=False, highlight=False)
    typer.echo(webhook.secret)
