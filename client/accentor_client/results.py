"""What an accentuation brought: its numbers at once, its pictures when they are asked for."""

import base64
import io
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageSequence

from accentor.errors import (
    AccentorError,
    CanceledError,
    IllegalTransitionError,
    NotFoundError,
    RequestError,
    ServiceError,
)
from accentor.spec import JobSpec, JobState, JobStatus, Result, Snapshot
from accentor_client import _calls
from accentor_client._following import Program
from accentor_client._saving import artefact_names, folder_name, save, saved_sums, seal
from accentor_client._transport import Transport
from accentor_client._views import failure_of, job_table

IMAGE, OVERLAY, OPACITY, FRAMES = "accentuated.png", "overlay.png", "opacity.png", "frames.webp"


class ResultView:
    """The numbers of a result; the pictures come with `JobResult` and `AsyncJobResult`."""

    def __init__(self, job: JobStatus) -> None:
        self.job = job

    @property
    def state(self) -> JobState:
        """How the job ended."""
        return self.job.state

    @property
    def error(self) -> AccentorError | None:
        """Why the job failed; none if it did not."""
        return failure_of(self.job)

    @property
    def details(self) -> Result:
        """All that is known besides the pixels; if the job failed, its error is raised."""
        return result_of(self.job)

    @property
    def index(self) -> int:
        """Place of the job in its batch."""
        return self.job.index

    @property
    def spec(self) -> JobSpec:
        """What was asked for."""
        return self.job.spec

    @property
    def before(self) -> float:
        """The feature's value on the clean seed."""
        return self.details.before

    @property
    def after(self) -> float:
        """The feature's value on the clean result."""
        return self.details.after

    @property
    def trajectory(self) -> tuple[Snapshot, ...]:
        """Step, value and distance to the seed on the way."""
        return self.details.trajectory

    @property
    def folder_name(self) -> str:
        """Name of the folder that `Batch.download` puts it into."""
        return folder_name(self.job)

    def is_saved_in(self, folder: Path) -> bool:
        """Tell whether all of it lies in the folder, undamaged."""
        return saved_sums(folder, self.details).keys() == set(artefact_names(self.details))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job.id} {self.state}: {self.spec.feature}>"

    def _repr_html_(self) -> str:
        return job_table(self.job)


class JobResult(ResultView):
    """A result whose pictures are fetched when they are asked for, each once."""

    def __init__(self, job: JobStatus, transport: Transport) -> None:
        super().__init__(job)
        self._transport = transport

    @cached_property
    def image(self) -> Image.Image:
        """The accentuated picture."""
        return decoded(self.fetch(IMAGE))

    @cached_property
    def overlay(self) -> Image.Image:
        """The accentuated picture, seen only where it matters."""
        return decoded(self.fetch(OVERLAY))

    @cached_property
    def opacity(self) -> Image.Image:
        """Where it matters: white is there."""
        return decoded(self.fetch(OPACITY))

    @cached_property
    def frames(self) -> list[Image.Image]:
        """The way from the seed to the result."""
        return decoded_frames(self.fetch(FRAMES))

    def fetch(self, name: str) -> bytes:
        """Return the bytes of an artefact; a link that has expired is renewed."""
        self.job, data = self._transport.run(fetching(self.job, name))
        return data

    def save(self, folder: str | Path) -> Path:
        """Write every artefact that is not there undamaged into the folder, result.json last; return the folder."""
        folder = Path(folder)
        sums = saved_sums(folder, self.details)
        for name in artefact_names(self.details):
            if name not in sums:
                sums[name] = save(folder, name, self.fetch(name))
        return seal(folder, self.details, sums)

    def _repr_html_(self) -> str:
        if self.job.result is None:
            return super()._repr_html_()
        picture = io.BytesIO()
        self.overlay.save(picture, "PNG")
        data = base64.b64encode(picture.getvalue()).decode()
        return f'{super()._repr_html_()}<img alt="overlay" src="data:image/png;base64,{data}">'


def fetching(job: JobStatus, name: str) -> Program[tuple[JobStatus, bytes]]:
    """Get an artefact, with fresh links if need be; return the job with the links that led there, and the bytes."""
    try:
        return job, (yield _calls.fetch(link(job, name)))
    except RequestError:
        job = yield _calls.get_job(job.id)
        return job, (yield _calls.fetch(link(job, name)))


def link(job: JobStatus, name: str) -> str:
    """Return where to get an artefact."""
    if name not in job.urls:
        raise NotFoundError(f"job {job.id} has no {name}: there are {', '.join(job.urls) or 'none'}")
    return job.urls[name]


def result_of(status: JobStatus) -> Result:
    """Return a succeeded job's result, or raise why there is none."""
    if (error := failure_of(status)) is not None:
        raise error
    if status.state is JobState.CANCELED:
        raise CanceledError(f"job {status.id} was canceled", job=status.id)
    if not status.state.terminal:
        raise IllegalTransitionError(f"job {status.id} is {status.state}: wait() for it first", job=status.id)
    if status.result is None:
        raise IllegalTransitionError(f"the results of job {status.id} were deleted", job=status.id)
    return status.result


def decoded(data: bytes) -> Image.Image:
    """Return the bytes of a picture as a PIL image."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise ServiceError(f"the service sent a picture that cannot be read: {error}") from error
    return image


def decoded_frames(data: bytes) -> list[Image.Image]:
    """Return the frames of an animated picture."""
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(decoded(data))]
