"""The asynchronous client, the twin of `Client`: the same calls, the same answers, awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from accentor.spec import BatchSpec, LayerInfo, ModelCard, Recipe
from accentor_client import _calls
from accentor_client._calls import Estimate, ImageRef, ModelSummary
from accentor_client._following import batches
from accentor_client._lines import JobLines, LinesOptions, LinesSource, Packer
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
from accentor_client.aio_atlases import AsyncAtlases
from accentor_client.aio_datasets import AsyncDatasets
from accentor_client.aio_dictionaries import AsyncDictionaries
from accentor_client.aio_handles import AsyncBatch, AsyncJob
from accentor_client.aio_webhooks import AsyncWebhooks
from accentor_client.client import DEFAULT_TIMEOUT_S
from accentor_client.resources import PAGE, UPLOADS, uploading


class AsyncImages:
    """Images, each known by the sha256 of its bytes."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(self, image: ImageSource) -> ImageRef:
        """Upload an image unless the service has it already."""
        data = await asyncio.to_thread(resolved, image)
        return data if isinstance(data, ImageRef) else await self._transport.run(uploading(data))

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

    async def create(
        self, *, wait: float | None = None, force: bool = False, **options: Unpack[JobOptions]
    ) -> AsyncJob:
        """Submit a job, its image first if need be; see `Jobs.create`."""
        image = await self._images.upload(options["image"])
        call = _calls.create_job(job_spec(options, image.id), wait, force=force)
        return AsyncJob(await self._transport.send(call), self._transport)

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
        call = _calls.create_batch(await self._spec(options))
        return AsyncBatch(await self._transport.send(call), self._transport)

    async def estimate(self, **options: Unpack[BatchOptions]) -> Estimate:
        """Tell what a batch would be, its images being uploaded if need be; nothing is submitted."""
        return await self._transport.send(_calls.estimate_batch(await self._spec(options)))

    async def submit_lines(self, lines: LinesSource, **options: Unpack[LinesOptions]) -> AsyncBatch:
        """Submit a batch of JSON Lines, which are read, packed and sent as they come; see `Batches.submit_lines`."""
        given = JobLines(lines, options)
        call = _calls.create_lines(lambda: self._body(given), given.params, repeatable=given.repeatable)
        return AsyncBatch(await self._transport.send(call), self._transport)

    async def estimate_lines(self, lines: LinesSource, **options: Unpack[LinesOptions]) -> Estimate:
        """Tell what a batch of JSON Lines would be, its images being uploaded if need be; nothing is submitted."""
        given = JobLines(lines, options)
        call = _calls.estimate_lines(lambda: self._body(given), given.params, repeatable=given.repeatable)
        return await self._transport.send(call)

    async def get(self, batch_id: str) -> AsyncBatch:
        """Return the batch with this id."""
        return AsyncBatch(await self._transport.send(_calls.get_batch(batch_id)), self._transport)

    async def list(self) -> AsyncIterator[AsyncBatch]:
        """Go through all batches, the newest first."""
        async for status in self._transport.go_through(batches(PAGE)):
            yield AsyncBatch(status, self._transport)

    async def _body(self, lines: JobLines) -> AsyncIterator[bytes]:
        packer, known, chunks = Packer(), dict[Path, str](), lines.chunks()
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            uploaded = await self._images.upload_many(chunk.images(known))
            yield packer.add(chunk.rendered(uploaded, known))
        yield packer.end()

    async def _spec(self, options: BatchOptions) -> BatchSpec:
        images = await self._images.upload_many(image_sources(options))
        return batch_spec(options, [image.id for image in images])


class AsyncModels:
    """What can be asked for."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> "list[ModelSummary]":
        """Return the models that are served."""
        return (await self._transport.send(_calls.list_models())).data

    async def get(self, name: str) -> ModelCard:
        """Return all that is known of a model without loading it."""
        return await self._transport.send(_calls.get_model(name))

    async def layers(self, name: str) -> Sequence[LayerInfo]:
        """Return the layers of a model with the shapes of their activations."""
        return await self._transport.send(_calls.list_layers(name))

    async def recipes(self) -> dict[str, Recipe]:
        """Return the presets with all their values."""
        return await self._transport.send(_calls.list_recipes())


class AsyncClient:
    """A connection to a service, for programs with an event loop; see `Client`."""

    def __init__(self, base_url: str, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._transport = AsyncTransport(base_url, api_key, timeout)
        self.images = AsyncImages(self._transport)
        self.jobs = AsyncJobs(self._transport, self.images)
        self.batches = AsyncBatches(self._transport, self.images)
        self.models = AsyncModels(self._transport)
        self.datasets = AsyncDatasets(self._transport, self.images)
        self.dictionaries = AsyncDictionaries(self._transport)
        self.atlases = AsyncAtlases(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
