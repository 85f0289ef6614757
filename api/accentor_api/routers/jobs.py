"""Single jobs: one picture for a person who waits."""

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from accentor.errors import IllegalTransitionError
from accentor.spec import JobSpec, JobState, JobStatus
from accentor_api.bodies import read_model
from accentor_api.conditional import not_modified, retry_after, tagged
from accentor_api.events import EAGER_S, event_response, wait_for_end
from accentor_api.openapi import CREATED, JOB_BODY, ONCE, UNCHANGED
from accentor_api.services import Services, WithServices
from accentor_api.submission import submit_one
from accentor_api.views import OpenBatch, job_moment, job_status, open_batch, open_job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\"?)(\d{1,9})\1(?=$|[,;\s])", re.IGNORECASE)


@router.post("", status_code=202, openapi_extra=JOB_BODY | ONCE, responses=CREATED)
async def create_job(
    request: Request,
    response: Response,
    services: WithServices,
    prefer: Annotated[tuple[str, ...], Header(description="`wait=N`: seconds to wait for the end")] = (),
    *,
    force: Annotated[bool, Query(description="compute again what was computed before")] = False,
) -> JobStatus:
    """Accept a job; with `Prefer: wait=N`, wait for it and answer 200 if it has ended by then."""
    spec = await read_model(request, JobSpec, services.settings.max_body_bytes)
    batch = await run_in_threadpool(_submit, services, spec, force=force)
    response.headers["Location"] = f"/v1/jobs/{batch.id}-0"
    wanted = _WAIT.search(",".join(prefer))
    seconds = min(int(wanted[2]), services.settings.max_wait_s) if wanted else 0
    await wait_for_end(lambda: services.jobs.job_state(batch.id, 0).terminal, seconds)
    status = await run_in_threadpool(job_status, batch, 0)
    if wanted:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        response.status_code = 200 if status.state.terminal else 202
    if not status.state.terminal:
        response.headers.update(retry_after(0.0))
    return status


@router.get("/{job_id}", responses=UNCHANGED)
def get_job(
    job_id: str, response: Response, services: WithServices, if_none_match: Annotated[str | None, Header()] = None
) -> JobStatus:
    """Return the job as it stands; with its `ETag` in `If-None-Match`, 304 until there is something new."""
    batch, index = open_job(services, job_id)
    state = services.jobs.job_state(batch.id, index)
    headers = tagged(batch.tag(index, state), None if state.terminal else 0.0)
    if not_modified(headers, if_none_match):
        return Response(status_code=304, headers=headers)  # type: ignore[return-value]
    response.headers.update(headers)
    return batch.job(index, state)


@router.get("/{job_id}/events", response_class=Response)
async def follow_job(
    job_id: str, services: WithServices, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Follow the job as server-sent events, each the job as it stands, until it has ended."""
    batch, index = await run_in_threadpool(open_job, services, job_id)
    look = partial(job_moment, batch, index)
    return await event_response(services, f"job {job_id}", look, last_event_id, eager_s=EAGER_S)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, services: WithServices) -> JobStatus:
    """Cancel the job: at once while it is queued, at its next step while it runs; the rest of its batch goes on."""
    batch, index = open_job(services, job_id)
    if batch.status.total == 1:
        services.jobs.request_cancel(batch.id)
        return job_status(batch, index)
    changed = services.jobs.finish_job(batch.id, index, JobState.CANCELED)
    job = job_status(batch, index)
    if not changed and job.state is not JobState.CANCELED:
        raise IllegalTransitionError(f"job {job_id} has ended: it is {job.state} and cannot be canceled")
    return job


def _submit(services: Services, spec: JobSpec, *, force: bool) -> OpenBatch:
    return open_batch(services, submit_one(services, spec, force=force).id)
