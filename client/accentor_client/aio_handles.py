"""Asynchronous handles, the twins of `Job`, `Batch` and `JobResult`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from PIL import Image

from accentor.errors import RequestError
from accentor.spec import BatchState, BatchStatus, Counts, JobState, JobStatus
from accentor_client import _calls
from accentor_client._following import Harvest, pauses
from accentor_client._transport import AsyncTransport
from accentor_client.handles import PAGE
from accentor_client.results import FRAMES, IMAGE, OPACITY, OVERLAY, RESULT, ResultView, decoded, decoded_frames, write


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
        url = self._url(name)
        try:
            return await self._transport.send(_calls.fetch(url))
        except RequestError:
            self.job = await self._transport.send(_calls.get_job(self.job.id))
            return await self._transport.send(_calls.fetch(self._url(name)))

    async def save(self, folder: str | Path) -> Path:
        """Write every artefact into the folder, result.json last; return the folder."""
        folder = Path(folder)
        for name in self._names():
            await asyncio.to_thread(write, folder / name, await self.fetch(name))
        await asyncio.to_thread(write, folder / RESULT, self._marker())
        return folder


class AsyncJob:
    """One job."""

    def __init__(self, status: JobStatus, transport: AsyncTransport) -> None:
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
    def result(self) -> AsyncJobResult:
        """Its result; if it failed, its error is raised."""
        return AsyncJobResult(self.status, self._transport)

    async def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = await self._transport.send(_calls.get_job(self.id))
        return self

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait until it has ended, well or not; `WaitTimeoutError` after ``timeout`` seconds."""
        for pause in () if self.state.terminal else pauses(timeout, f"job {self.id}"):
            await asyncio.sleep(pause)
            if (await self.refresh()).state.terminal:
                break
        return self

    async def cancel(self) -> Self:
        """Cancel it."""
        self.status = await self._transport.send(_calls.cancel_job(self.id))
        return self


class AsyncBatch:
    """Many jobs, submitted at once."""

    def __init__(self, status: BatchStatus, transport: AsyncTransport) -> None:
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

    async def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = await self._transport.send(_calls.get_batch(self.id))
        return self

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait until it has ended; `WaitTimeoutError` after ``timeout`` seconds."""
        for pause in () if self.state.terminal else pauses(timeout, f"batch {self.id}"):
            await asyncio.sleep(pause)
            if (await self.refresh()).state.terminal:
                break
        return self

    async def cancel(self) -> Self:
        """Cancel it: what is done stays."""
        self.status = await self._transport.send(_calls.cancel_batch(self.id))
        return self

    async def results(self, timeout: float | None = None) -> AsyncIterator[AsyncJobResult]:
        """Go through the results as the jobs end, until all have; failed and canceled jobs have none."""
        harvest = Harvest()
        for pause in pauses(timeout, f"batch {self.id}"):
            ended = (await self.refresh()).state.terminal
            cursor = harvest.cursor if harvest.is_worth_a_look(self.status) else None
            while cursor is not None:
                states = harvest.states(self.status)
                page = await self._transport.send(_calls.list_jobs(self.id, states, cursor, PAGE))
                for status in harvest.new(page.data):
                    yield AsyncJobResult(status, self._transport)
                cursor = page.next_cursor
            if ended:
                return
            await asyncio.sleep(pause)
