"""What a client offers, by kind: images, jobs, batches, models."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Unpack

from accentor.spec import BatchSpec, LayerInfo, ModelCard, Recipe, sha256_hex
from accentor_client import _calls
from accentor_client._calls import Estimate, ImageRef, ModelSummary
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
from accentor_client._transport import Transport
from accentor_client.handles import Batch, Job

UPLOADS = 4
PAGE = 100


class Images:
    """Images, each known by the sha256 of its bytes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, image: ImageSource) -> ImageRef:
        """Upload an image unless the service has it already."""
        data = resolved(image)
        if isinstance(data, ImageRef):
            return data
        name = sha256_hex(data)
        if not self._transport.send(_calls.has_image(name)):
            self._transport.send(_calls.put_image(name, data))
        return ImageRef(id=name)

    def upload_many(self, images: Iterable[ImageSource]) -> list[ImageRef]:
        """Upload images, several at once and each once, and return them in order."""
        given = list(images)
        distinct = {identity(image): image for image in given}
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="accentor-upload") as pool:
            uploaded = dict(zip(distinct, pool.map(self.upload, distinct.values()), strict=True))
        return [uploaded[identity(image)] for image in given]


class Jobs:
    """Single jobs: one picture for a person who waits."""

    def __init__(self, transport: Transport, images: Images) -> None:
        self._transport = transport
        self._images = images

    def create(self, *, wait: float | None = None, **options: Unpack[JobOptions]) -> Job:
        """Submit a job, its image first if need be; with ``wait``, give it so many seconds to end."""
        spec = job_spec(options, self._images.upload(options["image"]).id)
        return Job(self._transport.send(_calls.create_job(spec, wait)), self._transport)

    def get(self, job_id: str) -> Job:
        """Return the job with this id."""
        return Job(self._transport.send(_calls.get_job(job_id)), self._transport)


class Batches:
    """Batches: many jobs in one request."""

    def __init__(self, transport: Transport, images: Images) -> None:
        self._transport = transport
        self._images = images

    def create(self, **options: Unpack[BatchOptions]) -> Batch:
        """Submit a batch, its images first if need be."""
        return Batch(self._transport.send(_calls.create_batch(self._spec(options))), self._transport)

    def estimate(self, **options: Unpack[BatchOptions]) -> Estimate:
        """Tell what a batch would be, its images being uploaded if need be; nothing is submitted."""
        return self._transport.send(_calls.estimate_batch(self._spec(options)))

    def get(self, batch_id: str) -> Batch:
        """Return the batch with this id."""
        return Batch(self._transport.send(_calls.get_batch(batch_id)), self._transport)

    def list(self) -> Iterator[Batch]:
        """Go through all batches, the newest first."""
        page = self._transport.send(_calls.list_batches(None, PAGE))
        while True:
            yield from (Batch(status, self._transport) for status in page.data)
            if page.next_cursor is None:
                return
            page = self._transport.send(_calls.list_batches(page.next_cursor, PAGE))

    def _spec(self, options: BatchOptions) -> BatchSpec:
        images = self._images.upload_many(image_sources(options))
        return batch_spec(options, [image.id for image in images])


class Models:
    """What can be asked for."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[ModelSummary]:
        """Return the models that are served."""
        return self._transport.send(_calls.list_models()).data

    def get(self, name: str) -> ModelCard:
        """Return all that is known of a model without loading it."""
        return self._transport.send(_calls.get_model(name))

    def layers(self, name: str) -> Sequence[LayerInfo]:
        """Return the layers of a model with the shapes of their activations."""
        return self._transport.send(_calls.list_layers(name))

    def recipes(self) -> dict[str, Recipe]:
        """Return the presets with all their values."""
        return self._transport.send(_calls.list_recipes())
