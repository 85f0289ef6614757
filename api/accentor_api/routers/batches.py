"""Batches: many jobs in one request."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from accentor.errors import InvalidRequestError, NotFoundError, RequestError
from accentor.spec import BatchSpec, BatchStatus, JobState, JobStatus, Lane
from accentor.spec.jobs import MAX_SEED
from accentor.storage.keys import skipped_key
from accentor_api.bodies import JSON, JSON_LINES, LINES_TYPES, read_model, require
from accentor_api.bundles import MEDIA_TYPES, BundleFormat, bundle
from accentor_api.conditional import not_modified, retry_after, tagged
from accentor_api.estimates import DryRun, dry_run
from accentor_api.events import event_response
from accentor_api.openapi import BATCH_BODY, CREATED, ONCE, STREAMS, UNCHANGED
from accentor_api.pages import DEFAULT_LIMIT, BatchPage, JobPage, Limit
from accentor_api.parquet import PARQUET, parquet_stream
from accentor_api.selection import Order, Selection
from accentor_api.services import Services, WithServices
from accentor_api.submission import submit
from accentor_api.uploads import LinesUpload, OnInvalid, UploadOptions
from accentor_api.views import batch_moment, batch_status, check_batch_id, open_batch

FEED_BYTES = 256 * 1024
"""Bytes of an upload that are checked in one go."""

DRAIN_BYTES = 64 * 1024 * 1024
"""Bytes of an upload that are still read after it was refused, so that the client hears why."""

router = APIRouter(prefix="/v1/batches", tags=["batches"])


class BatchQuery(BaseModel):
    """What the address may say; settings of a batch of JSON Lines count above those of its first line."""

    dry_run: Annotated[bool, Field(description="only tell what the batch would be; answers 200")] = False
    model: Annotated[str | None, Field(description="JSON Lines: the model of all jobs")] = None
    recipe: Annotated[str | None, Field(description="JSON Lines: preset of jobs without a recipe")] = None
    lane: Annotated[Lane | None, Field(description="JSON Lines: the lane")] = None
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="JSON Lines: of jobs without a random seed")] = (
        None
    )
    on_invalid: Annotated[
        OnInvalid | None, Field(description="JSON Lines: `reject` all if a line is wrong (the default), or `skip` it")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return what was given of the settings of the batch."""
        return self.model_dump(exclude_none=True, exclude={"on_invalid", "dry_run"})


@router.post("", status_code=202, openapi_extra=BATCH_BODY | ONCE, responses=CREATED)
async def create_batch(
    request: Request,
    response: Response,
    services: WithServices,
    query: Annotated[BatchQuery, Query()],
) -> BatchStatus | DryRun:
    """Accept a batch: features × images × seeds, features zipped with images, a list of jobs, or JSON Lines."""
    if require(request, [JSON, *LINES_TYPES]) == JSON:
        if names := ", ".join(sorted(query.model_fields_set - {"dry_run"})):
            raise InvalidRequestError(f"{names} in the address: that goes with JSON Lines; the body says it here")
        spec = await read_model(request, BatchSpec, services.settings.max_body_bytes)
        answer = await run_in_threadpool(_answer, services, spec, is_dry=query.dry_run)
    else:
        answer = await _upload(request, services, query)
    if isinstance(answer, BatchStatus):
        response.headers["Location"] = f"/v1/batches/{answer.id}"
        if not answer.state.terminal:
            response.headers.update(retry_after(answer.eta_s or 0.0))
    else:
        response.status_code = 200
    return answer


@router.get("")
def list_batches(services: WithServices, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> BatchPage:
    """List the batches, the newest first."""
    found = services.jobs.recent(limit + 1, cursor)
    return BatchPage(data=found[:limit], next_cursor=found[limit - 1].id if len(found) > limit else None)


@router.get("/{batch_id}", responses=UNCHANGED)
def get_batch(
    batch_id: str, response: Response, services: WithServices, if_none_match: Annotated[str | None, Header()] = None
) -> BatchStatus:
    """Return the batch as it stands; with its `ETag` in `If-None-Match`, 304 until there is something new."""
    status = batch_status(services, batch_id)
    headers = tagged(str(status.revision), None if status.state.terminal else status.eta_s or 0.0)
    if not_modified(headers, if_none_match):
        return Response(status_code=304, headers=headers)  # type: ignore[return-value]
    response.headers.update(headers)
    return status


@router.delete("/{batch_id}", status_code=204, response_class=Response)
def delete_batch(
    batch_id: str,
    services: WithServices,
    *,
    results: Annotated[
        bool, Query(description="also remove results, except those whose image another batch of the model uses")
    ] = False,
) -> Response:
    """Delete a batch that has ended, with all that is its own; results stay for whoever asks for the same again."""
    services.remove_batch(check_batch_id(batch_id), results=results)
    return Response(status_code=204)


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
    entries = batch.in_states(frozenset(status or JobState), _place(cursor))
    page = [entry for entry, _ in zip(entries, range(limit + 1), strict=False)]
    following = str(page[limit][0]) if len(page) > limit else None
    return JobPage(data=list(batch.shown(page[:limit])), next_cursor=following)


@router.get("/{batch_id}/events", response_class=Response, responses=STREAMS)
async def follow_batch(
    batch_id: str, services: WithServices, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Follow the batch as server-sent events, each the batch as it stands, until it has ended."""
    look = partial(batch_moment, services, check_batch_id(batch_id))
    return await event_response(services, f"batch {batch_id}", look, last_event_id)


@router.get("/{batch_id}/results", response_class=Response)
def get_results(
    batch_id: str,
    services: WithServices,
    status: Annotated[list[JobState] | None, Query(description="jobs in these states; else the succeeded")] = None,
    order: Annotated[Order, Query(description="of submission, or of completion: ended jobs alone")] = "submission",
    feature: Annotated[str | None, Query(max_length=4096, description="only jobs of this feature")] = None,
    custom_id: Annotated[str | None, Query(max_length=200, description="only the job called so")] = None,
    cursor: Annotated[str | None, Query(description="place in the order to begin at")] = None,
    form: Annotated[Literal["jsonl", "parquet"], Query(alias="format")] = "jsonl",
) -> Response:
    """Stream the jobs, each with its result and links, as JSON Lines or as a Parquet table."""
    batch = open_batch(services, batch_id)
    states = frozenset(status or {JobState.SUCCEEDED})
    jobs = Selection(states, order, feature, custom_id, _place(cursor)).jobs(batch)
    return _parquet(jobs, batch_id) if form == "parquet" else _lines(jobs)


@router.get("/{batch_id}/errors", response_class=Response)
def get_errors(batch_id: str, services: WithServices) -> Response:
    """Stream the failed jobs in order as JSON Lines, each with the reason."""
    return _lines(Selection(frozenset({JobState.FAILED})).jobs(open_batch(services, batch_id)))


@router.get("/{batch_id}/skipped", response_class=Response)
def get_skipped(batch_id: str, services: WithServices) -> Response:
    """Return the faults of the lines that were left out of an upload with `on_invalid=skip`, as JSON Lines."""
    batch_status(services, batch_id)
    try:
        return Response(services.objects.get(skipped_key(batch_id)), media_type=JSON_LINES)
    except NotFoundError:
        return Response(b"", media_type=JSON_LINES)


@router.get("/{batch_id}/archive", response_class=Response)
def get_archive(
    batch_id: str,
    services: WithServices,
    form: Annotated[BundleFormat, Query(alias="format")] = "zip",
    feature: Annotated[str | None, Query(max_length=4096, description="only jobs of this feature")] = None,
) -> Response:
    """Stream the artefacts of the succeeded jobs as one file, a folder for each job."""
    batch = open_batch(services, batch_id)
    jobs = Selection(frozenset({JobState.SUCCEEDED}), feature=feature).jobs(batch)
    pieces = bundle(services, jobs, form, batch.status.counts.succeeded)
    return _file(pieces, MEDIA_TYPES[form], f"{batch_id}.{form}")


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, services: WithServices) -> BatchStatus:
    """Cancel the batch: queued jobs at once, running ones at their next step; what is done stays."""
    return services.jobs.request_cancel(check_batch_id(batch_id))


@router.post("/{batch_id}/retry", status_code=202)
def retry_batch(batch_id: str, services: WithServices) -> BatchStatus:
    """Queue the failed jobs of a batch that has ended once more; the others keep their results."""
    services.admit(batch_id, batch_status(services, batch_id).counts.failed)
    services.jobs.retry(batch_id)
    services.dispatch()
    return services.jobs.status(batch_id)


def _answer(services: Services, spec: BatchSpec, *, is_dry: bool) -> BatchStatus | DryRun:
    return dry_run(services, spec) if is_dry else submit(services, spec)


async def _upload(request: Request, services: Services, query: BatchQuery) -> BatchStatus | DryRun:
    encoding = request.headers.get("content-encoding", "")
    options = UploadOptions(query.given(), encoding, query.on_invalid or "reject", query.dry_run)
    upload = LinesUpload(services, options)
    pieces = request.stream()
    try:
        await _feed(upload, pieces)
        return await run_in_threadpool(upload.finish)
    except BaseException as error:
        await run_in_threadpool(upload.abort)
        if isinstance(error, RequestError):
            await _drain(pieces)
        raise


async def _feed(upload: LinesUpload, pieces: AsyncIterator[bytes]) -> None:
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= FEED_BYTES:
            await run_in_threadpool(upload.feed, bytes(held))
            held.clear()
    await run_in_threadpool(upload.feed, bytes(held))


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read on for a while after a refusal: many clients hear the answer only when they have sent everything."""
    taken = 0
    async for piece in pieces:
        taken += len(piece)
        if taken > DRAIN_BYTES:
            return


def _place(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise InvalidRequestError(f"{cursor[:80]!r} is no cursor: use the next_cursor of a page")
    return int(cursor)


def _lines(jobs: Iterator[JobStatus]) -> StreamingResponse:
    return StreamingResponse((f"{job.model_dump_json()}\n" for job in jobs), media_type=JSON_LINES)


def _parquet(jobs: Iterator[JobStatus], batch_id: str) -> StreamingResponse:
    return _file(parquet_stream(jobs), PARQUET, f"{batch_id}.parquet")


def _file(pieces: Iterator[bytes], media_type: str, name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Encoding": "identity"}
    return StreamingResponse(pieces, media_type=media_type, headers=headers)
