"""Results in folders: written whole or not at all, and told from damaged ones."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from accentor.errors import ServiceError
from accentor.spec import JobStatus, Result

RESULT = "result.json"
"""Written last: the mark that everything else is there."""

SUMS = "SHA256SUMS"
"""Digests of the artefacts as they were received, in the form that ``sha256sum -c`` checks."""

MANIFEST = "manifest.jsonl"
MAX_SLUG = 60

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")


def folder_name(job: JobStatus) -> str:
    """Return the name of the folder that a download puts the job's result into."""
    return f"{job.index:06d}-{slug(job.spec.custom_id or str(job.spec.feature))}"


def artefact_names(result: Result) -> list[str]:
    """Return the names of a result's files without result.json."""
    return [plain_name(name) for name in result.artefacts if name != RESULT]


def saved_sums(folder: Path, result: Result) -> dict[str, str]:
    """Return name and digest of the files of this result that lie in the folder undamaged; none without its mark."""
    try:
        if Result.model_validate_json((folder / RESULT).read_bytes()).key != result.key:
            return {}
        told = read_sums((folder / SUMS).read_text())
    except (OSError, ValueError):
        return {}
    return {
        name: told[name] for name in artefact_names(result) if name in told and _digest(folder / name) == told[name]
    }


def save(folder: Path, name: str, data: bytes) -> str:
    """Write an artefact and return its digest."""
    write(folder / name, data)
    return hashlib.sha256(data).hexdigest()


def seal(folder: Path, result: Result, sums: Mapping[str, str]) -> Path:
    """Write the digests and, last, result.json; return the folder."""
    write(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode())
    write(folder / RESULT, result.model_dump_json(indent=2).encode())
    return folder


def read_sums(text: str) -> dict[str, str]:
    """Return the digests that a file of sums tells, by name."""
    found = (_SUM.fullmatch(line) for line in text.splitlines())
    return {match[2]: match[1] for match in found if match}


def manifest_line(job: JobStatus) -> str:
    """Return a job as a line of the manifest of a download."""
    line: dict[str, Any] = job.model_dump(mode="json", exclude={"urls"}, exclude_none=True)
    if job.result is not None:
        line["folder"] = folder_name(job)
    return json.dumps(line)


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
    with replacing(path) as file:
        file.write(data)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines into a file whole or not at all."""
    with replacing(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of the one at the path once it is whole."""
    temporary = path.with_name(f".writing-{secrets.token_hex(4)}-{path.name}")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
