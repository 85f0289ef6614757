"""Handles of jobs and batches: they know how they stood when last asked."""

from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from accentor.spec import BatchStatus, JobState, JobStatus
from accentor_client import _calls
from accentor_client._following import PAGE, Order, batch_looks, harvest, job_looks, pages
from accentor_client._frames import data_frame, load_pandas
from accentor_client._progress import BatchBar
from accentor_client._saving import MANIFEST, manifest_line, write_lines
from accentor_client._transport import Transport
from accentor_client._views import BatchView, JobView
from accentor_client.results import JobResult, result_of

DOWNLOADS = 4
ENDED_WELL = (JobState.SUCCEEDED,)
TOLD = (JobState.SUCCEEDED, JobState.FAILED)


class Job(JobView):
    """One job."""

    def __init__(self, status: JobStatus, transport: Transport) -> None:
        super().__init__(status)
        self._transport = transport

    @property
    def result(self) -> JobResult:
        """Its result; if it failed, its error is raised."""
        result_of(self.status)
        return JobResult(self.status, self._transport)

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = self._transport.send(_calls.get_job(self.id))
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until it has ended, well or not; `WaitTimeoutError` after ``timeout`` seconds."""
        if not self.state.terminal:
            for status in self._transport.go_through(job_looks(self.id, timeout)):
                self.status = status
        return self

    def cancel(self) -> Self:
        """Cancel it."""
        self.status = self._transport.send(_calls.cancel_job(self.id))
        return self

    def events(self) -> Iterator[JobStatus]:
        """Follow it: its status at every change until it has ended."""
        for status in self._transport.follow(lambda seen: _calls.job_events(self.id, seen), JobStatus):
            self.status = status
            yield status


class Batch(BatchView):
    """Many jobs, submitted at once."""

    def __init__(self, status: BatchStatus, transport: Transport) -> None:
        super().__init__(status)
        self._transport = transport

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = self._transport.send(_calls.get_batch(self.id))
        return self

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> Self:
        """Wait until it has ended; `WaitTimeoutError` after ``timeout`` seconds."""
        with BatchBar(self.status, shown=progress) as bar:
            for status in () if self.state.terminal else self._transport.go_through(batch_looks(self.id, timeout)):
                self.status = status
                bar.update(status)
        return self

    def cancel(self) -> Self:
        """Cancel it: what is done stays."""
        self.status = self._transport.send(_calls.cancel_batch(self.id))
        return self

    def retry(self) -> Self:
        """Queue its failed jobs again, once it has ended; the others keep their results."""
        self.status = self._transport.send(_calls.retry_batch(self.id))
        return self

    def delete(self, *, results: bool = False) -> None:
        """Delete it once it has ended; with ``results``, its results too, unless another batch shares them."""
        self._transport.send(_calls.delete_batch(self.id, results=results))

    def events(self) -> Iterator[BatchStatus]:
        """Follow it: its status at every change until it has ended."""
        for status in self._transport.follow(lambda seen: _calls.batch_events(self.id, seen), BatchStatus):
            self.status = status
            yield status

    def jobs(self, *states: JobState) -> Iterator[Job]:
        """Go through its jobs in order: those in one of the states, or all."""
        for status in self._transport.go_through(pages(self.id, states)):
            yield Job(status, self._transport)

    def errors(self) -> Iterator[Job]:
        """Go through the jobs that failed; each says why in ``job.error``."""
        return self.jobs(JobState.FAILED)

    def results(
        self,
        timeout: float | None = None,
        *,
        order: Order = "completion",
        status: Collection[JobState | str] = ENDED_WELL,
        progress: bool = False,
    ) -> Iterator[JobResult]:
        """Go through the results until all jobs have ended.

        Parameters
        ----------
        order
            ``completion``: as the jobs end; ``submission``: a job that goes on holds back those after it.
        status
            Ends that are told. Failed and canceled jobs have ``error``, and no pictures.
        progress
            Show a progress bar.

        Raises
        ------
        WaitTimeoutError
            If it has not ended after ``timeout`` seconds.
        """
        found = self._transport.go_through(harvest(self.id, wanted_states(status), order, timeout))
        with BatchBar(self.status, shown=progress) as bar:
            for told in found:
                if isinstance(told, BatchStatus):
                    self.status = told
                    bar.update(told)
                elif is_told(told):
                    yield JobResult(told, self._transport)

    def download(self, folder: str | Path, timeout: float | None = None, *, progress: bool = False) -> Path:
        """Write each result into a folder of its own as the jobs end, then manifest.jsonl with a line for every job.

        What is there and has the digest that was noted when it came is not fetched again: an interrupted download goes
        on, and what was damaged since is mended.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="accentor-download") as pool:
            saving: deque[Future[Path]] = deque()
            for result in self.results(timeout, progress=progress):
                saving.append(pool.submit(result.save, folder / result.folder_name))
                if len(saving) > PAGE:
                    saving.popleft().result()
            for future in saving:
                future.result()
        lines = map(manifest_line, self._transport.go_through(pages(self.id, TOLD)))
        write_lines(folder / MANIFEST, lines)
        return folder

    def to_pandas(self, *states: JobState) -> Any:
        """Return its jobs in one of the states, or all, as a `pandas.DataFrame`; `ImportError` without pandas."""
        load_pandas()
        return data_frame(self._transport.go_through(pages(self.id, states)))


def wanted_states(status: Collection[JobState | str]) -> frozenset[JobState]:
    """Return the states that are meant, those of jobs that have ended."""
    return frozenset(map(JobState, [status] if isinstance(status, str) else status))


def is_told(job: JobStatus) -> bool:
    """Tell whether a result is worth telling: those of a job that succeeded may have been deleted."""
    return job.state is not JobState.SUCCEEDED or job.result is not None
