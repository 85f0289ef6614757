"""Batches: many jobs in one request."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from accentor.errors import InvalidRequestError
from accentor.spec import BatchSpec, BatchStatus, JobState
from accentor_api.bodies import require_json
from accentor_api.events import event_response
from accentor_api.pages import DEFAULT_LIMIT, BatchPage, JobPage, Limit
from accentor_api.services import WithServices
from accentor_api.submission import DryRun, dry_run, submit
from accentor_api.views import OpenBatch, batch_moment, batch_status, check_batch_id, open_batch

JSON_LINES = "application/jsonl"

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("", status_code=202, dependencies=[Depends(require_json)])
def create_batch(
    spec: BatchSpec,
    response: Response,
    services: WithServices,
    *,
    dry: Annotated[bool, Query(alias="dry_run", description="only tell what the batch would be; answers 200")] = False,
) -> BatchStatus | DryRun:
    """Accept a batch: features × images × seeds, features zipped with images, or a list of jobs."""
    if dry:
        response.status_code = 200
        return dry_run(services, spec)
    status = submit(services, spec)
    response.headers["Location"] = f"/v1/batches/{status.id}"
    return status


@router.get("")
def list_batches(services: WithServices, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> BatchPage:
    """List the batches, the newest first."""
    found = services.jobs.recent(limit + 1, cursor)
    return BatchPage(data=found[:limit], next_cursor=found[limit - 1].id if len(found) > limit else None)


@router.get("/{batch_id}")
def get_batch(batch_id: str, services: WithServices) -> BatchStatus:
    """Return the batch as it stands."""
    return batch_status(services, batch_id)


@router.get("/{batch_id}/jobs")
def list_jobs(
    batch_id: str,
    services: WithServices,
    status: Annotated[list[JobState] | None, Query(description="only jobs in these states")] = None,
    cursor: str | None = None,
    limit: Limit = DEFAULT_LIMIT,
) -> JobPage:
    """List the batch's jobs in order, page by page; the cursor is the index of the page's first job."""
    batch = open_batch(services, batch_id)
    entries = batch.in_states(frozenset(status or JobState), _index(cursor))
    page = [entry for entry, _ in zip(entries, range(limit + 1), strict=False)]
    following = str(page[limit][0]) if len(page) > limit else None
    return JobPage(data=list(batch.shown(page[:limit])), next_cursor=following)


@router.get("/{batch_id}/events", response_class=Response)
async def follow_batch(
    batch_id: str, services: WithServices, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Follow the batch as server-sent events, each the batch as it stands, until it has ended."""
    return await event_response(services, partial(batch_moment, services, check_batch_id(batch_id)), last_event_id)


@router.get("/{batch_id}/results", response_class=Response)
def get_results(batch_id: str, services: WithServices) -> Response:
    """Stream the succeeded jobs in order as JSON Lines, each with its result and links."""
    return _lines(open_batch(services, batch_id), JobState.SUCCEEDED)


@router.get("/{batch_id}/errors", response_class=Response)
def get_errors(batch_id: str, services: WithServices) -> Response:
    """Stream the failed jobs in order as JSON Lines, each with the reason."""
    return _lines(open_batch(services, batch_id), JobState.FAILED)


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, services: WithServices) -> BatchStatus:
    """Cancel the batch: queued jobs at once, running ones at their next step; what is done stays."""
    return services.jobs.request_cancel(check_batch_id(batch_id))


def _index(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise InvalidRequestError(f"{cursor[:80]!r} is no cursor: use the next_cursor of a page")
    return int(cursor)


def _lines(batch: OpenBatch, state: JobState) -> StreamingResponse:
    entries = batch.in_states(frozenset({state}))
    lines: Iterator[str] = (f"{job.model_dump_json()}\n" for job in batch.shown(entries))
    return StreamingResponse(lines, media_type=JSON_LINES)
