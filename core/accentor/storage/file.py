"""A folder as object store."""

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accentor.errors import InvalidRequestError, NotFoundError, StorageUnavailableError
from accentor.storage.base import DEFAULT_CONTENT_TYPE, ObjectStore, check_key

TEMPORARY = ".writing"
"""Folder of the store that objects are written in before they get their names."""

ABANDONED_S = 3_600.0
"""Seconds after which what lies there was left by a process that was killed."""


class FileStore(ObjectStore):
    """Objects as files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / TEMPORARY
        self._remove_abandoned()

    def put(self, key: str, data: bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> None:  # noqa: ARG002
        """Write to a temporary file, flush it to the disk and give it its name."""
        path = self._path(key)
        with self._errors(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.mkdir(exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._temporary)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        """Read the file."""
        path = self._path(key)
        with self._errors(key):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise NotFoundError(f"there is no object {key}") from error

    def get_range(self, key: str, start: int, size: int) -> bytes:
        """Read part of the file."""
        path = self._path(key)
        with self._errors(key):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read(size)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise NotFoundError(f"there is no object {key}") from error

    def size(self, key: str) -> int | None:
        """Ask the file system for the size."""
        path = self._path(key)
        with self._errors(key):
            return path.stat().st_size if path.is_file() else None

    def delete(self, key: str) -> None:
        """Remove the file."""
        path = self._path(key)
        with self._errors(key):
            if path.is_file():
                path.unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """Walk the folder that the prefix reaches into."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        with self._errors(prefix):
            found = [self._key(path) for path in start.rglob("*") if path.is_file()]
        yield from sorted(key for key in found if key.startswith(prefix) and not key.startswith(f"{TEMPORARY}/"))

    def url(self, key: str, *, expires_s: int) -> str | None:  # noqa: ARG002
        """Return none: a folder serves no links, the API signs its own."""
        return None

    def check(self) -> None:
        """Raise `StorageUnavailableError` unless the folder can be read and written."""
        if not self._root.is_dir():
            raise StorageUnavailableError(f"the folder {self._root} does not exist")
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise StorageUnavailableError(f"the folder {self._root} cannot be read and written")

    def ensure_bucket(self) -> None:
        """Create the folder."""
        with self._errors("."):
            self._root.mkdir(parents=True, exist_ok=True)

    def _remove_abandoned(self) -> None:
        """Remove what killed processes were writing; whatever cannot be removed now is left to the next time."""
        with suppress(OSError):
            for path in self._temporary.iterdir():
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise InvalidRequestError(f"{key!r} has too long a part for the name of a file") from error
            raise StorageUnavailableError(f"the folder {self._root} fails at {key}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
