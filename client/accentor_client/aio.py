"""The asynchronous client, the twin of `Client`: the same calls, the same answers, awaited."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self, Unpack

from accentor.spec import sha256_hex
from accentor_client import _calls
from accentor_client._calls import ImageRef
from accentor_client._sources import (
    BatchOptions,
    ImageSource,
    JobOptions,
    batch_spec,
    identity,
    image_sources,
    job_spec,
    resolved,
)
from accentor_client._transport import AsyncTransport
from accentor_client.aio_handles import AsyncBatch, AsyncJob
from accentor_client.client import DEFAULT_TIMEOUT_S
from accentor_client.resources import UPLOADS


class AsyncImages:
    """Images, each known by the sha256 of its bytes."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(self, image: ImageSource) -> ImageRef:
        """Upload an image unless the service has it already."""
        data = await asyncio.to_thread(resolved, image)
        if isinstance(data, ImageRef):
            return data
        name = await asyncio.to_thread(sha256_hex, data)
        if not await self._transport.send(_calls.has_image(name)):
            await self._transport.send(_calls.put_image(name, data))
        return ImageRef(id=name)

    async def upload_many(self, images: Iterable[ImageSource]) -> list[ImageRef]:
        """Upload images, several at once and each once, and return them in order."""
        given = list(images)
        room = asyncio.Semaphore(UPLOADS)

        async def upload(image: ImageSource) -> ImageRef:
            async with room:
                return await self.upload(image)

        distinct = {identity(image): image for image in given}
        uploaded = dict(zip(distinct, await asyncio.gather(*map(upload, distinct.values())), strict=True))
        return [uploaded[identity(image)] for image in given]


class AsyncJobs:
    """Single jobs: one picture for a person who waits."""

    def __init__(self, transport: AsyncTransport, images: AsyncImages) -> None:
        self._transport = transport
        self._images = images

    async def create(self, *, wait: float | None = None, **options: Unpack[JobOptions]) -> AsyncJob:
        """Submit a job, its image first if need be; with ``wait``, give it so many seconds to end."""
        image = await self._images.upload(options["image"])
        spec = job_spec(options, image.id)
        return AsyncJob(await self._transport.send(_calls.create_job(spec, wait)), self._transport)

    async def get(self, job_id: str) -> AsyncJob:
        """Return the job with this id."""
        return AsyncJob(await self._transport.send(_calls.get_job(job_id)), self._transport)


class AsyncBatches:
    """Batches: many jobs in one request."""

    def __init__(self, transport: AsyncTransport, images: AsyncImages) -> None:
        self._transport = transport
        self._images = images

    async def create(self, **options: Unpack[BatchOptions]) -> AsyncBatch:
        """Submit a batch, its images first if need be."""
        images = await self._images.upload_many(image_sources(options))
        spec = batch_spec(options, [image.id for image in images])
        return AsyncBatch(await self._transport.send(_calls.create_batch(spec)), self._transport)

    async def get(self, batch_id: str) -> AsyncBatch:
        """Return the batch with this id."""
        return AsyncBatch(await self._transport.send(_calls.get_batch(batch_id)), self._transport)


class AsyncClient:
    """A connection to a service, for programs with an event loop; see `Client`."""

    def __init__(self, base_url: str, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._transport = AsyncTransport(base_url, api_key, timeout)
        self.images = AsyncImages(self._transport)
        self.jobs = AsyncJobs(self._transport, self.images)
        self.batches = AsyncBatches(self._transport, self.images)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
