"""``accentor dataset``: images that batches and atlases name as a whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from accentor.cli.console import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    ModelOption,
    Url,
    Yes,
    confirm_deletion,
    print_json,
    progress_of,
    stderr,
    stdout,
    tell_deleted,
)
from accentor.errors import InvalidRequestError

if TYPE_CHECKING:
    from accentor.spec.datasets import DatasetCard
    from accentor.spec.scans import ScanStatus

Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@VERSION.")]
SHOWN = 10
"""Members that could not be read, and labels, that are shown."""


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(help="Datasets of a service: made once, never changed.", no_args_is_help=True)
    for command in (create, show, scan, delete):
        group.command()(command)
    group.command("list")(list_datasets)
    return group


def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of images here, or a text file with a path a line: uploaded.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Objects in the service's store, such as photos/; they stay where they are.")
    ] = None,
    tar: Annotated[
        list[str] | None, typer.Option("--tar", help="WebDataset tar in the store, or what such keys begin with.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="FILE", help="File of labels (.csv, .json, .jsonl).")
    ] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Folders and tars say no labels.")] = False,
    masks: Annotated[str | None, typer.Option(help="Folder, or prefix, of masks named as their images.")] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset from a folder here, from objects in the store, or from tars in it.

    A label is the name of the folder that an image is in, unless a file says it. Images that cannot be read are left
    out, counted and listed.
    """
    from accentor_client import Client

    given: dict[str, Any] = {"folder": folder, "prefix": prefix, "tars": tar or None}
    chosen = {key: value for key, value in given.items() if value is not None}
    if len(chosen) != 1:
        raise InvalidRequestError(f"expected one of FOLDER, --prefix and --tar; {len(chosen)} were given")
    options: Any = chosen | {"description": description}
    options |= {key: value for key, value in (("labels_file", labels), ("masks", masks)) if value is not None}
    if no_labels:
        options["labels"] = "none"
    with Client(url, api_key) as client, progress_of(f"dataset {name}", shown=not as_json) as told:
        card = client.datasets.create(name, on_progress=told, **options)
    print_json(card.model_dump(mode="json")) if as_json else _report(card)


def list_datasets(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the newest version of each dataset."""
    from rich.table import Table

    from accentor_client import Client

    with Client(url, api_key) as client:
        cards = list(client.datasets.list())
    if as_json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    table = Table("name", "version", "images", "labels", "skipped", "description")
    for card in cards:
        numbers = (str(card.images), str(len(card.classes)), str(card.skipped))
        table.add_row(card.name, card.version, *numbers, escape(card.description))
    stdout().print(table)


def show(name: Name, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show what is in a dataset, and what was left out; or how far one is that is being made."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        status = client.datasets.get(name)
        scans = client.datasets.scans(name) if status.card else ()
    if as_json:
        listed = [scan.model_dump(mode="json", exclude={"tables"}) for scan in scans]
        print_json({**status.model_dump(mode="json"), "scans": listed})
        return
    if status.state != "ready":
        why = f": {status.failure.detail}" if status.failure else f", {status.done} members are done"
        stdout().print(escape(f"{status.name}  {status.state}{why}"), highlight=False, soft_wrap=True)
    if status.card is not None:
        _report(status.card)
    for one in scans:
        _report_scan(one)


def scan(
    name: Name,
    model: ModelOption = "reference",
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="All channels of a layer.")] = None,
    dictionary: Annotated[str | None, typer.Option("--dictionary", help="All features of a dictionary.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Images kept for every feature.")] = 16,
    top_features: Annotated[int, typer.Option(min=1, help="Features kept for every image.")] = 16,
    reduce: Annotated[str, typer.Option(help="A feature's value on an image, over positions: mean or max.")] = "mean",
    code: Annotated[str, typer.Option(help="Of an encoder: pre or post, before or after its activation.")] = "post",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write the Parquet tables into.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Scan a dataset: top images, histogram and quantiles of every feature, top features of every image.

    What was scanned before is not scanned again; a scan that was interrupted goes on.
    """
    from accentor_client import Client

    given = {"layer": layer, "dictionary": dictionary, "reduce": reduce, "code": code}
    options: Any = {key: value for key, value in given.items() if value is not None}
    with Client(url, api_key) as client:
        with progress_of(f"scan of {name}", shown=not as_json) as told:
            found = client.datasets.scan(
                name, model=model, top_k=top_k, top_features=top_features, on_progress=told, **options
            )
        if out is not None:
            client.datasets.save_scan(found, out)
    print_json(found.model_dump(mode="json")) if as_json else _report_scan(found)
    if out is not None and not as_json:
        stdout().print(escape(f"tables in {out}"), highlight=False, soft_wrap=True)


def delete(
    name: Name,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete a dataset, or one version. Batches that were submitted with it go on; images stay where they are."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        client.datasets.get(name)
        confirm_deletion(f"dataset {name}", asked=not (yes or as_json))
        client.datasets.delete(name)
    tell_deleted("dataset", name, as_json=as_json)


def _report(card: "DatasetCard") -> None:
    parts = [f"{card.images} images"]
    counts = {"labeled": card.labeled, "masks": card.masks, "could not be read": card.skipped}
    counts |= {"repeated": card.duplicates, "not images": card.ignored, "labels of no image": card.unmatched_labels}
    parts += [f"{count} {name}" for name, count in counts.items() if count]
    stdout().print(f"{card.reference}  {', '.join(parts)}", highlight=False, soft_wrap=True)
    if card.classes:
        first = ", ".join(f"{label} {count}" for label, count in list(card.classes.items())[:SHOWN])
        more = " …" if len(card.classes) > SHOWN else ""
        stdout().print(escape(f"labels: {first}{more}"), highlight=False, soft_wrap=True)
    for member in card.skipped_members[:SHOWN]:
        stderr().print(escape(f"left out: {member.id}: {member.reason}"), highlight=False, soft_wrap=True)
    if card.skipped > SHOWN:
        stderr().print(f"… {card.skipped} in all", highlight=False)


def _report_scan(scan: "ScanStatus") -> None:
    if scan.card is None:
        why = f": {scan.failure.detail}" if scan.failure else f", {scan.done} of {scan.shards} shards"
        said = f"scan {scan.id}  {scan.state}{why}"
    else:
        card = scan.card
        what = card.dictionary or f"{card.layer} of {card.model}"
        said = f"scan {scan.id}  {what}: {card.features} features on {card.seen} images"
        said += f", {card.skipped} could not be read" if card.skipped else ""
    stdout().print(escape(said), highlight=False, soft_wrap=True)
