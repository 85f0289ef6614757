"""What a client offers, by kind: images, jobs, batches, models."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

from accentor.spec import BatchSpec, LayerInfo, ModelCard, Recipe, sha256_hex
from accentor_client import _calls
from accentor_client._calls import Estimate, ImageRef, ModelSummary
from accentor_client._following import Program, batches
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
        return data if isinstance(data, ImageRef) else self._transport.run(uploading(data))

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

    def create(self, *, wait: float | None = None, force: bool = False, **options: Unpack[JobOptions]) -> Job:
        """Submit a job, its image first if need be.

        Parameters
        ----------
        wait
            Seconds that the service gives it to end before it answers.
        force
            Compute again what was computed before.
        """
        spec = job_spec(options, self._images.upload(options["image"]).id)
        return Job(self._transport.send(_calls.create_job(spec, wait, force=force)), self._transport)

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

    def submit_lines(self, lines: LinesSource, **options: Unpack[LinesOptions]) -> Batch:
        """Submit a batch of JSON Lines, which are read, packed and sent as they come.

        Images that are files, by a path from the file of lines or from here, are uploaded and named by their sha256.

        Raises
        ------
        RequestError
            With the wrong lines in ``error.extra["errors"]``, unless ``on_invalid="skip"`` leaves them out.
        """
        given = JobLines(lines, options)
        call = _calls.create_lines(lambda: self._body(given), given.params, repeatable=given.repeatable)
        return Batch(self._transport.send(call), self._transport)

    def estimate_lines(self, lines: LinesSource, **options: Unpack[LinesOptions]) -> Estimate:
        """Tell what a batch of JSON Lines would be, its images being uploaded if need be; nothing is submitted."""
        given = JobLines(lines, options)
        call = _calls.estimate_lines(lambda: self._body(given), given.params, repeatable=given.repeatable)
        return self._transport.send(call)

    def get(self, batch_id: str) -> Batch:
        """Return the batch with this id."""
        return Batch(self._transport.send(_calls.get_batch(batch_id)), self._transport)

    def list(self) -> Iterator[Batch]:
        """Go through all batches, the newest first."""
        for status in self._transport.go_through(batches(PAGE)):
            yield Batch(status, self._transport)

    def _body(self, lines: JobLines) -> Iterator[bytes]:
        packer, known = Packer(), dict[Path, str]()
        for chunk in lines.chunks():
            uploaded = self._images.upload_many(chunk.images(known))
            yield packer.add(chunk.rendered(uploaded, known))
        yield packer.end()

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


def uploading(data: bytes) -> Program[ImageRef]:
    """Send an image unless the service has it."""
    name = sha256_hex(data)
    if not (yield _calls.has_image(name)):
        yield _calls.put_image(name, data)
    return ImageRef(id=name)
