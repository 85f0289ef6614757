"""``accentor status``, ``watch``, ``cancel``, ``retry``, ``fetch`` and ``delete``: what becomes of a batch."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from accentor.cli.accentuating import EXIT_JOB_FAILED
from accentor.cli.console import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    Url,
    Yes,
    confirm_deletion,
    print_json,
    stderr,
    stdout,
    tell_deleted,
)
from accentor.spec import BatchState, BatchStatus

LISTED = 20

BatchId = Annotated[str, typer.Argument(help="Id of the batch.")]


def status(
    batch_id: Annotated[str | None, typer.Argument(help="Id of the batch; none: the latest batches.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Tell how a batch stands, or list the latest ones."""
    from itertools import islice

    from accentor_client import Client

    with Client(url, api_key) as client:
        one = None if batch_id is None else client.batches.get(batch_id).status
        listed = [batch.status for batch in islice(client.batches.list(), LISTED)] if one is None else [one]
    if as_json:
        dumped = [entry.model_dump(mode="json") for entry in listed]
        print_json(dumped if one is None else dumped[0])
        return
    for entry in listed:
        report(entry)
    if not listed:
        stderr().print("no batches yet")


def watch(batch_id: BatchId, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Follow a batch until it has ended; with --json, a line at every change."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        batch = client.batches.get(batch_id)
        if as_json:
            for event in batch.events():
                print_json(event.model_dump(mode="json"))
        else:
            batch.wait(progress=True)
            report(batch.status)
    end_with(batch.status)


def cancel(batch_id: BatchId, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel a batch; what is done stays."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        stopped = client.batches.get(batch_id).cancel().status
    print_json(stopped.model_dump(mode="json")) if as_json else report(stopped)


def retry(
    batch_id: BatchId,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Queue the failed jobs of a batch that has ended again; the others keep their results."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        batch = client.batches.get(batch_id).retry()
        if wait:
            batch.wait(progress=not as_json)
    print_json(batch.status.model_dump(mode="json")) if as_json else report(batch.status)
    if wait:
        end_with(batch.status)


def delete(
    batch_id: BatchId,
    results: Annotated[bool, typer.Option("--results", help="And its results that no other batch shares.")] = False,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete a batch that has ended. Its results stay for whoever asks for the same again, unless --results."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        batch = client.batches.get(batch_id)
        what = "its results too" if results else "its results stay"
        confirm_deletion(f"batch {batch.id} of {batch.status.total} jobs ({what})", asked=not (yes or as_json))
        batch.delete(results=results)
    tell_deleted("batch", batch.id, as_json=as_json)


def fetch(
    batch_id: BatchId,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("results"),
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Download the results of a batch as its jobs end; what is there already is not fetched again."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        batch = client.batches.get(batch_id)
        batch.download(out, progress=not as_json)
        for job in batch.errors():
            if failure := job.status.failure:
                stderr().print(escape(f"{job.id}: {failure.code}: {failure.detail}"), soft_wrap=True)
    if as_json:
        print_json({"batch": batch.id, "folder": str(out), "counts": batch.counts.model_dump()})
    else:
        stdout().print(f"{batch.counts.succeeded} of {batch.status.total} results in {out}", highlight=False)
    end_with(batch.status)


def report(batch: BatchStatus) -> None:
    """Print a batch on one line."""
    counts = ", ".join(f"{count} {name}" for name, count in batch.counts.model_dump().items() if count)
    stdout().print(f"{batch.id}  {batch.state}  {batch.total} jobs of {batch.model}: {counts}", highlight=False)


def end_with(batch: BatchStatus) -> None:
    """Exit with 1 if a job of the ended batch has failed."""
    if batch.state in {BatchState.FAILED, BatchState.PARTIALLY_FAILED}:
        raise typer.Exit(EXIT_JOB_FAILED)
