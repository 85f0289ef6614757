"""Handles of jobs and batches: they know how they stood when last asked."""

import json
import time
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from accentor.spec import BatchState, BatchStatus, Counts, JobState, JobStatus
from accentor_client import _calls
from accentor_client._events import follow
from accentor_client._following import Harvest, pauses
from accentor_client._progress import BatchBar
from accentor_client._transport import Transport
from accentor_client.results import JobResult, write_lines

PAGE = 200
DOWNLOADS = 4
MANIFEST = "manifest.jsonl"


class Job:
    """One job."""

    def __init__(self, status: JobStatus, transport: Transport) -> None:
        self.status = status
        self._transport = transport

    @property
    def id(self) -> str:
        """Its id."""
        return self.status.id

    @property
    def state(self) -> JobState:
        """Its state when last asked."""
        return self.status.state

    @property
    def result(self) -> JobResult:
        """Its result; if it failed, its error is raised."""
        return JobResult(self.status, self._transport)

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = self._transport.send(_calls.get_job(self.id))
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until it has ended, well or not; `WaitTimeoutError` after ``timeout`` seconds."""
        for pause in () if self.state.terminal else pauses(timeout, f"job {self.id}"):
            time.sleep(pause)
            if self.refresh().state.terminal:
                break
        return self

    def cancel(self) -> Self:
        """Cancel it."""
        self.status = self._transport.send(_calls.cancel_job(self.id))
        return self

    def events(self) -> Iterator[JobStatus]:
        """Follow it: its status at every change until it has ended."""
        for status in follow(self._transport, lambda seen: _calls.job_events(self.id, seen), JobStatus):
            self.status = status
            yield status


class Batch:
    """Many jobs, submitted at once."""

    def __init__(self, status: BatchStatus, transport: Transport) -> None:
        self.status = status
        self._transport = transport

    @property
    def id(self) -> str:
        """Its id."""
        return self.status.id

    @property
    def state(self) -> BatchState:
        """Its state when last asked."""
        return self.status.state

    @property
    def counts(self) -> Counts:
        """Its jobs by state when last asked."""
        return self.status.counts

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = self._transport.send(_calls.get_batch(self.id))
        return self

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> Self:
        """Wait until it has ended; `WaitTimeoutError` after ``timeout`` seconds."""
        with BatchBar(self.status, shown=progress) as bar:
            for pause in () if self.state.terminal else pauses(timeout, f"batch {self.id}"):
                time.sleep(pause)
                bar.update(self.refresh().status)
                if self.state.terminal:
                    break
        return self

    def cancel(self) -> Self:
        """Cancel it: what is done stays."""
        self.status = self._transport.send(_calls.cancel_batch(self.id))
        return self

    def events(self) -> Iterator[BatchStatus]:
        """Follow it: its status at every change until it has ended."""
        for status in follow(self._transport, lambda seen: _calls.batch_events(self.id, seen), BatchStatus):
            self.status = status
            yield status

    def jobs(self, *states: JobState) -> Iterator[Job]:
        """Go through its jobs in order: those in one of the states, or all."""
        for page in self._pages(states, "0"):
            yield from (Job(status, self._transport) for status in page)

    def failures(self) -> Iterator[Job]:
        """Go through the jobs that failed; each says why in ``job.status.failure``."""
        return self.jobs(JobState.FAILED)

    def results(self, timeout: float | None = None, *, progress: bool = False) -> Iterator[JobResult]:
        """Go through the results as the jobs end, until all have; failed and canceled jobs have none.

        Raises
        ------
        WaitTimeoutError
            If it has not ended after ``timeout`` seconds.
        """
        harvest = Harvest()
        with BatchBar(self.status, shown=progress) as bar:
            for pause in pauses(timeout, f"batch {self.id}"):
                bar.update(self.refresh().status)
                ended = self.state.terminal
                if harvest.is_worth_a_look(self.status):
                    for page in self._pages(harvest.states(self.status), harvest.cursor):
                        yield from (JobResult(status, self._transport) for status in harvest.new(page))
                if ended:
                    return
                time.sleep(pause)

    def download(self, folder: str | Path, timeout: float | None = None, *, progress: bool = False) -> Path:
        """Write each result into a folder of its own as the jobs end, then manifest.jsonl with a line for every job.

        What is there complete is not fetched again, so an interrupted download goes on.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="accentor-download") as pool:
            saving: deque[Future[Path]] = deque()
            for result in self.results(timeout, progress=progress):
                saving.append(pool.submit(_save, result, folder / result.folder_name))
                if len(saving) > PAGE:
                    saving.popleft().result()
            for future in saving:
                future.result()
        write_lines(folder / MANIFEST, map(_manifest_line, self.jobs(JobState.SUCCEEDED, JobState.FAILED)))
        return folder

    def _pages(self, states: Collection[JobState], cursor: str | None) -> Iterator[list[JobStatus]]:
        while cursor is not None:
            page = self._transport.send(_calls.list_jobs(self.id, states, cursor, PAGE))
            yield page.data
            cursor = page.next_cursor


def _save(result: JobResult, folder: Path) -> Path:
    return folder if result.is_saved_in(folder) else result.save(folder)


def _manifest_line(job: Job) -> str:
    line = job.status.model_dump(mode="json", exclude={"urls"}, exclude_none=True)
    if job.status.result is not None:
        line["folder"] = job.result.folder_name
    return json.dumps(line)
