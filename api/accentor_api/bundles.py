"""All artefacts of a batch as one zip or tar, streamed: nothing is kept but what is being sent."""

import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

from accentor.errors import NotFoundError, TooLargeError
from accentor.spec import JobStatus
from accentor.storage.keys import RESULT, artefact_key
from accentor_api.services import Services
from accentor_api.sinks import Sink

BundleFormat = Literal["zip", "tar"]
MEDIA_TYPES: dict[BundleFormat, str] = {"zip": "application/zip", "tar": "application/x-tar"}
JOB = "job.json"
"""What was asked for: the job with its custom_id and metadata."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip knows: the same results, the same bytes."""

MAX_ZIP_JOBS = 20_000
"""A zip's list of members is kept until its end; a tar has none."""

Member = tuple[str, bytes]


def bundle(services: Services, jobs: Iterable[JobStatus], kind: BundleFormat, count: int) -> Iterator[bytes]:
    """Return a file of this format in pieces: a folder for each job."""
    if kind == "zip" and count > MAX_ZIP_JOBS:
        raise TooLargeError(
            f"the batch has {count} results, a zip holds at most {MAX_ZIP_JOBS}: ask for format=tar",
            results=count,
            limit=MAX_ZIP_JOBS,
        )
    members = _members(services, jobs)
    return _zip(members) if kind == "zip" else _tar(members)


def _members(services: Services, jobs: Iterable[JobStatus]) -> Iterator[Member]:
    for job in jobs:
        folder = f"{job.index:07d}"
        names = [*(job.result.artefacts if job.result else ()), RESULT]
        files = services.read_each(partial(_read, services, job.key), names)
        yield from ((f"{folder}/{name}", data) for name, data in zip(names, files, strict=True) if data is not None)
        yield f"{folder}/{JOB}", job.model_copy(update={"urls": {}}).model_dump_json().encode()


def _read(services: Services, key: str, name: str) -> bytes | None:
    try:
        return services.objects.get(artefact_key(key, name))
    except NotFoundError:
        return None


def _zip(members: Iterable[Member]) -> Iterator[bytes]:
    sink = Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
            yield sink.drain()
    yield sink.drain()


def _tar(members: Iterable[Member]) -> Iterator[bytes]:
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        yield from (info.tobuf(tarfile.PAX_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE))
    yield bytes(2 * tarfile.BLOCKSIZE)
