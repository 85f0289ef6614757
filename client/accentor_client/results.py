"""What an accentuation brought: its numbers at once, its pictures when they are asked for."""

import io
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

from PIL import Image, ImageSequence

from accentor.errors import NotFoundError, RequestError, ServiceError
from accentor.spec import JobSpec, JobStatus, Result, Snapshot
from accentor_client import _calls
from accentor_client._following import result_of
from accentor_client._transport import Transport

IMAGE, OVERLAY, OPACITY, FRAMES, RESULT = "accentuated.png", "overlay.png", "opacity.png", "frames.webp", "result.json"
MAX_SLUG = 60

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ResultView:
    """The numbers of a result; the pictures come with `JobResult` and `AsyncJobResult`."""

    def __init__(self, job: JobStatus) -> None:
        self.job = job
        self.details: Result = result_of(job)

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
        return f"{self.index:06d}-{slug(self.spec.custom_id or str(self.spec.feature))}"

    def is_saved_in(self, folder: Path) -> bool:
        """Tell whether all of it lies in the folder: result.json is written last."""
        try:
            return Result.model_validate_json((folder / RESULT).read_bytes()).key == self.details.key
        except (OSError, ValueError):
            return False

    def _names(self) -> list[str]:
        return [plain_name(name) for name in self.details.artefacts if name != RESULT]

    def _url(self, name: str) -> str:
        if name not in self.job.urls:
            raise NotFoundError(f"job {self.job.id} has no {name}: there are {', '.join(self.job.urls)}")
        return self.job.urls[name]

    def _marker(self) -> bytes:
        return self.details.model_dump_json(indent=2).encode()


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
        url = self._url(name)
        try:
            return self._transport.send(_calls.fetch(url))
        except RequestError:
            self.job = self._transport.send(_calls.get_job(self.job.id))
            return self._transport.send(_calls.fetch(self._url(name)))

    def save(self, folder: str | Path) -> Path:
        """Write every artefact into the folder, result.json last; return the folder."""
        folder = Path(folder)
        for name in self._names():
            write(folder / name, self.fetch(name))
        write(folder / RESULT, self._marker())
        return folder


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


def plain_name(name: str) -> str:
    """Return a file name that a service sent, if it stays in the folder it is joined to."""
    if not _PLAIN_NAME.fullmatch(name):
        raise ServiceError(f"the service names an artefact {name!r}: that is no plain file name")
    return name


def slug(text: str) -> str:
    """Return a text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:MAX_SLUG].strip("-.") or "job"


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as file:
        file.write(data)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines into a file whole or not at all."""
    with _replacing(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    temporary = path.with_name(f".writing-{secrets.token_hex(4)}-{path.name}")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
