"""Batches and jobs as they are shown: the record in Redis, the specification and the results in the object store."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from accentor.errors import NotFoundError
from accentor.spec import BatchStatus, Jobs, JobSpec, JobState, JobStatus, KeyMaker, LineJobs, ModelCard, Result
from accentor.storage.keys import RESULT, result_key
from accentor_api.events import Moment
from accentor_api.services import Services

LINKS_TOLD = 2
"""How often the links to a result are told anew in the time that they are valid."""

WINDOW = 10_000
"""Jobs whose states are read from Redis in one go."""

_BATCH_ID = re.compile(r"[a-z0-9]{1,40}")
_JOB_ID = re.compile(r"([a-z0-9]{1,40})-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class OpenBatch:
    """A batch with its jobs."""

    services: Services
    id: str
    status: BatchStatus
    jobs: Jobs | LineJobs
    digest: str

    @cached_property
    def card(self) -> ModelCard:
        """The card of the model that the batch was submitted for."""
        return self.services.archive.card(self.digest)

    @cached_property
    def _keys(self) -> KeyMaker:
        return KeyMaker(self.card)

    def job(self, index: int, state: JobState, *, position: int | None = None) -> JobStatus:
        """Return job ``index``, which is in this state, with its result if it has one."""
        spec = self.jobs[index]
        key = self._keys.key(spec)
        store = self.services.jobs
        result = _result(self.services, spec, key) if state is JobState.SUCCEEDED else None
        return JobStatus(
            id=f"{self.id}-{index}",
            batch=self.id,
            index=index,
            state=state,
            key=key,
            spec=spec,
            progress=store.progress(self.id, index) if state is JobState.RUNNING else None,
            failure=store.failure(self.id, index) if state is JobState.FAILED else None,
            result=result,
            position=position,
            urls=self.services.links.of_result(key, [*result.artefacts, RESULT]) if result else {},
            created_at=self.status.created_at,
        )

    def in_states(self, wanted: frozenset[JobState], start: int = 0) -> Iterator[tuple[int, JobState]]:
        """Return index and state of the jobs in one of these states, from ``start`` on, in order."""
        for first in range(start, self.status.total, WINDOW):
            states = self.services.jobs.job_states(self.id, first, min(first + WINDOW, self.status.total))
            yield from ((index, state) for index, state in enumerate(states, first) if state in wanted)

    def shown(self, entries: Iterable[tuple[int, JobState]]) -> Iterator[JobStatus]:
        """Return these jobs in order, several results being read at once."""
        return self.services.read_each(lambda entry: self.job(*entry), entries)

    def tag(self, index: int, state: JobState) -> str:
        """Return a text that changes whenever there is something new to tell of a job; links are told anew in time."""
        progress = self.services.jobs.progress(self.id, index) if state is JobState.RUNNING else None
        links = int(time.time() * LINKS_TOLD / self.services.settings.link_seconds)
        told = {JobState.RUNNING: f"-{progress.step}" if progress else "", JobState.SUCCEEDED: f"-{links}"}
        return f"{state}{told.get(state, '')}"


def open_batch(services: Services, batch_id: str) -> OpenBatch:
    """Return the batch with its jobs."""
    status = batch_status(services, batch_id)
    digest = services.jobs.model_digest(batch_id)
    return OpenBatch(services, batch_id, status, services.archive.jobs(batch_id, digest), digest)


def batch_status(services: Services, batch_id: str) -> BatchStatus:
    """Return the batch as it stands."""
    return services.jobs.status(check_batch_id(batch_id))


def check_batch_id(batch_id: str) -> str:
    """Return the id if it can be one; nothing else ever becomes part of a key."""
    if not _BATCH_ID.fullmatch(batch_id):
        raise NotFoundError(f"there is no batch {batch_id!r}")
    return batch_id


def open_job(services: Services, job_id: str) -> tuple[OpenBatch, int]:
    """Return the batch that the job is in, and the job's index there."""
    match = _JOB_ID.fullmatch(job_id)
    if match is None:
        raise NotFoundError(f"there is no job {job_id!r}")
    batch, index = open_batch(services, match[1]), int(match[2])
    if index >= batch.status.total:
        raise NotFoundError(f"batch {batch.id} has jobs 0 to {batch.status.total - 1}; {index} was asked for")
    return batch, index


def job_status(batch: OpenBatch, index: int) -> JobStatus:
    """Return the job as it stands."""
    return batch.job(index, batch.services.jobs.job_state(batch.id, index))


def batch_moment(services: Services, batch_id: str) -> Moment[BatchStatus]:
    """Return the batch as seen now, for those who follow it."""
    status = services.jobs.status(batch_id)
    return Moment(str(status.revision), status, status.state.terminal)


def job_moment(batch: OpenBatch, index: int) -> Moment[JobStatus]:
    """Return the job as seen now, for those who follow it."""
    status = job_status(batch, index)
    step = f"-{status.progress.step}" if status.progress else ""
    return Moment(f"{status.state}{step}", status, status.state.terminal)


def _result(services: Services, spec: JobSpec, key: str) -> Result | None:
    """Return the result under the key, told as this job's: another may have been the first to ask for it."""
    try:
        stored = Result.model_validate_json(services.objects.get(result_key(key)))
    except NotFoundError:
        return None
    return stored.model_copy(update={"spec": spec})
