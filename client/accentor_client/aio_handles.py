"""Asynchronous handles, the twins of `Job`, `Batch` and `JobResult`."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from PIL import Image

from accentor.spec import BatchStatus, JobState, JobStatus
from accentor_client import _calls
from accentor_client._following import PAGE, Order, batch_looks, harvest, job_looks, pages
from accentor_client._frames import data_frame, load_pandas
from accentor_client._progress import BatchBar
from accentor_client._saving import MANIFEST, artefact_names, manifest_line, save, saved_sums, seal, write_lines
from accentor_client._transport import AsyncTransport
from accentor_client._views import BatchView, JobView
from accentor_client.handles import DOWNLOADS, ENDED_WELL, TOLD, is_told, wanted_states
from accentor_client.results import (
    FRAMES,
    IMAGE,
    OPACITY,
    OVERLAY,
    ResultView,
    decoded,
    decoded_frames,
    fetching,
    result_of,
)


class AsyncJobResult(ResultView):
    """A result whose pictures are fetched when they are asked for."""

    def __init__(self, job: JobStatus, transport: AsyncTransport) -> None:
        super().__init__(job)
        self._transport = transport

    async def image(self) -> Image.Image:
        """Return the accentuated picture."""
        return decoded(await self.fetch(IMAGE))

    async def overlay(self) -> Image.Image:
        """Return the accentuated picture, seen only where it matters."""
        return decoded(await self.fetch(OVERLAY))

    async def opacity(self) -> Image.Image:
        """Return where it matters: white is there."""
        return decoded(await self.fetch(OPACITY))

    async def frames(self) -> list[Image.Image]:
        """Return the way from the seed to the result."""
        return decoded_frames(await self.fetch(FRAMES))

    async def fetch(self, name: str) -> bytes:
        """Return the bytes of an artefact; a link that has expired is renewed."""
        self.job, data = await self._transport.run(fetching(self.job, name))
        return data

    async def save(self, folder: str | Path) -> Path:
        """Write every artefact that is not there undamaged into the folder, result.json last; return the folder."""
        folder = Path(folder)
        sums = await asyncio.to_thread(saved_sums, folder, self.details)
        for name in artefact_names(self.details):
            if name not in sums:
                sums[name] = await asyncio.to_thread(save, folder, name, await self.fetch(name))
        return await asyncio.to_thread(seal, folder, self.details, sums)


class AsyncJob(JobView):
    """One job."""

    def __init__(self, status: JobStatus, transport: AsyncTransport) -> None:
        super().__init__(status)
        self._transport = transport

    @property
    def result(self) -> AsyncJobResult:
        """Its result; if it failed, its error is raised."""
        result_of(self.status)
        return AsyncJobResult(self.status, self._transport)

    async def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = await self._transport.send(_calls.get_job(self.id))
        return self

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait until it has ended, well or not; `WaitTimeoutError` after ``timeout`` seconds."""
        if not self.state.terminal:
            async for status in self._transport.go_through(job_looks(self.id, timeout)):
                self.status = status
        return self

    async def cancel(self) -> Self:
        """Cancel it."""
        self.status = await self._transport.send(_calls.cancel_job(self.id))
        return self

    async def events(self) -> AsyncIterator[JobStatus]:
        """Follow it: its status at every change until it has ended."""
        async with aclosing(self._transport.follow(lambda seen: _calls.job_events(self.id, seen), JobStatus)) as told:
            async for status in told:
                self.status = status
                yield status


class AsyncBatch(BatchView):
    """Many jobs, submitted at once."""

    def __init__(self, status: BatchStatus, transport: AsyncTransport) -> None:
        super().__init__(status)
        self._transport = transport

    async def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = await self._transport.send(_calls.get_batch(self.id))
        return self

    async def wait(self, timeout: float | None = None, *, progress: bool = False) -> Self:
        """Wait until it has ended; `WaitTimeoutError` after ``timeout`` seconds."""
        if self.state.terminal:
            return self
        with BatchBar(self.status, shown=progress) as bar:
            async for status in self._transport.go_through(batch_looks(self.id, timeout)):
                self.status = status
                bar.update(status)
        return self

    async def cancel(self) -> Self:
        """Cancel it: what is done stays."""
        self.status = await self._transport.send(_calls.cancel_batch(self.id))
        return self

    async def retry(self) -> Self:
        """Queue its failed jobs again, once it has ended; the others keep their results."""
        self.status = await self._transport.send(_calls.retry_batch(self.id))
        return self

    async def delete(self, *, results: bool = False) -> None:
        """Delete it once it has ended; with ``results``, its results too, unless another batch shares them."""
        await self._transport.send(_calls.delete_batch(self.id, results=results))

    async def events(self) -> AsyncIterator[BatchStatus]:
        """Follow it: its status at every change until it has ended."""
        follow = self._transport.follow(lambda seen: _calls.batch_events(self.id, seen), BatchStatus)
        async with aclosing(follow) as told:
            async for status in told:
                self.status = status
                yield status

    async def jobs(self, *states: JobState) -> AsyncIterator[AsyncJob]:
        """Go through its jobs in order: those in one of the states, or all."""
        async for status in self._transport.go_through(pages(self.id, states)):
            yield AsyncJob(status, self._transport)

    def errors(self) -> AsyncIterator[AsyncJob]:
        """Go through the jobs that failed; each says why in ``job.error``."""
        return self.jobs(JobState.FAILED)

    async def results(
        self,
        timeout: float | None = None,
        *,
        order: Order = "completion",
        status: Collection[JobState | str] = ENDED_WELL,
        progress: bool = False,
    ) -> AsyncIterator[AsyncJobResult]:
        """Go through the results until all jobs have ended; see `Batch.results`."""
        found = self._transport.go_through(harvest(self.id, wanted_states(status), order, timeout))
        with BatchBar(self.status, shown=progress) as bar:
            async for told in found:
                if isinstance(told, BatchStatus):
                    self.status = told
                    bar.update(told)
                elif is_told(told):
                    yield AsyncJobResult(told, self._transport)

    async def download(self, folder: str | Path, timeout: float | None = None, *, progress: bool = False) -> Path:
        """Write each result into a folder of its own, then manifest.jsonl with all jobs; see `Batch.download`."""
        folder = Path(folder)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        room, places = asyncio.Semaphore(DOWNLOADS), asyncio.Semaphore(PAGE)

        async def save(result: AsyncJobResult) -> None:
            try:
                async with room:
                    await result.save(folder / result.folder_name)
            finally:
                places.release()

        async with asyncio.TaskGroup() as saving:
            async for result in self.results(timeout, progress=progress):
                await places.acquire()
                saving.create_task(save(result))
        lines = [manifest_line(job) async for job in self._transport.go_through(pages(self.id, TOLD))]
        await asyncio.to_thread(write_lines, folder / MANIFEST, lines)
        return folder

    async def to_pandas(self, *states: JobState) -> Any:
        """Return its jobs in one of the states, or all, as a `pandas.DataFrame`; `ImportError` without pandas."""
        load_pandas()
        return data_frame([job async for job in self._transport.go_through(pages(self.id, states))])
