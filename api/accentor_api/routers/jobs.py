"""Single jobs: one picture for a person who waits."""

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from starlette.concurrency import run_in_threadpool

from accentor.errors import IllegalTransitionError
from accentor.spec import JobSpec, JobState, JobStatus
from accentor_api.bodies import require_json
from accentor_api.events import event_response, wait_for_end
from accentor_api.services import Services, WithServices
from accentor_api.submission import submit_one
from accentor_api.views import OpenBatch, job_moment, job_status, open_batch, open_job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,9})(?=$|[,;\s])")


@router.post("", status_code=202, dependencies=[Depends(require_json)])
async def create_job(
    spec: JobSpec,
    response: Response,
    services: WithServices,
    prefer: Annotated[str, Header(description="`wait=N`: seconds to wait for the end")] = "",
) -> JobStatus:
    """Accept a job; with `Prefer: wait=N`, wait for it and answer 200 if it has ended by then."""
    batch = await run_in_threadpool(_submit, services, spec)
    response.headers["Location"] = f"/v1/jobs/{batch.id}-0"
    wanted = _WAIT.search(prefer)
    seconds = min(int(wanted[1]), services.settings.max_wait_s) if wanted else 0
    moment = await wait_for_end(partial(job_moment, batch, 0), seconds)
    if wanted:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        response.status_code = 200 if moment.ended else 202
    return moment.status


@router.get("/{job_id}")
def get_job(job_id: str, services: WithServices) -> JobStatus:
    """Return the job as it stands."""
    return job_status(*open_job(services, job_id))


@router.get("/{job_id}/events", response_class=Response)
async def follow_job(
    job_id: str, services: WithServices, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Follow the job as server-sent events, each the job as it stands, until it has ended."""
    batch, index = await run_in_threadpool(open_job, services, job_id)
    return await event_response(services, partial(job_moment, batch, index), last_event_id)


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


def _submit(services: Services, spec: JobSpec) -> OpenBatch:
    return open_batch(services, submit_one(services, spec).id)
