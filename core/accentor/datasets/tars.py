"""WebDataset tars in a store, read once from beginning to end: samples of members with the same name up to its dot."""

import io
import json
import tarfile
from collections.abc import Iterator
from functools import partial

from accentor.datasets.labels import label_text
from accentor.datasets.members import Broken, Ignored, Member
from accentor.errors import InvalidRequestError
from accentor.images import IMAGE_SUFFIXES
from accentor.spec.datasets import Place
from accentor.storage.base import ObjectStore

AHEAD_BYTES = 4 * 2**20
"""Bytes that are read from the store at once."""

MASKS = ("mask.png", "seg.png")
LABEL, NOTES = "cls", "json"
NOTES_BYTES = 2**20
"""A longer member says no label."""

Part = tuple[tarfile.TarInfo, bytes]


class ObjectFile(io.RawIOBase):
    """An object of a store as a file that can be read at any place."""

    def __init__(self, objects: ObjectStore, key: str, size: int) -> None:
        self._objects, self._key, self._size, self._place = objects, key, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read as much as the buffer takes."""
        count = min(len(buffer), self._size - self._place)
        if count <= 0:
            return 0
        data = self._objects.get_range(self._key, self._place, count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def tar_members(objects: ObjectStore, key: str) -> Iterator[Member | Broken | Ignored]:
    """Yield the samples of a tar, and what is wrong with it."""
    size = objects.size(key)
    if size is None:
        yield Broken(key, "there is no such object")
        return
    file = io.BufferedReader(ObjectFile(objects, key, size), AHEAD_BYTES)
    name, parts = "", dict[str, Part]()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if not info.isfile():
                    continue
                sample, suffix = _split(info.name)
                if parts and sample != name:
                    yield _sample(key, name, parts)
                    parts = {}
                name = sample
                parts[suffix] = (info, _read(tar, info))
            if tar.offset >= size:
                raise tarfile.ReadError("it ends without an end mark")
    except tarfile.TarError as error:
        at = f"after {name!r}" if name else "at its beginning"
        yield Broken(key, f"it is no plain tar, or breaks off, {at}: {error}")
    if parts:
        yield _sample(key, name, parts)


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    member = tar.extractfile(info)
    data = b"" if member is None else member.read()
    if len(data) < info.size:
        raise tarfile.ReadError(f"{info.name} has {len(data)} bytes of {info.size}")
    return data


def _split(path: str) -> tuple[str, str]:
    """Return what comes before the first dot of a file's name, with its folders, and what comes after it."""
    folder, slash, name = path.removeprefix("./").rpartition("/")
    stem, _, suffix = name.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _sample(key: str, name: str, parts: dict[str, Part]) -> Member | Broken | Ignored:
    suffixes = [suffix for suffix in parts if suffix not in MASKS and f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES]
    if not suffixes:
        return Ignored()
    info, data = parts[suffixes[0]]
    mask = next((parts[suffix] for suffix in MASKS if suffix in parts), None)
    full = f"{key}:{name}.{suffixes[0]}"
    try:
        label = _label(full, parts)
    except InvalidRequestError as error:
        return Broken(full, error.detail)
    return Member(
        id=full,
        read=partial(bytes, data),
        place=_place(key, info),
        label=label,
        mask=None if mask is None else _place(key, mask[0]),
        read_mask=None if mask is None else partial(bytes, mask[1]),
    )


def _place(key: str, info: tarfile.TarInfo) -> Place:
    return Place(key=key, offset=info.offset_data, size=info.size)


def _label(name: str, parts: dict[str, Part]) -> str | None:
    try:
        if LABEL in parts:
            return label_text(parts[LABEL][1][:NOTES_BYTES].decode(), name)
        if NOTES in parts and parts[NOTES][0].size <= NOTES_BYTES:
            notes = json.loads(parts[NOTES][1])
            if isinstance(notes, dict) and notes.get("label") is not None:
                return label_text(notes["label"], name)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the label of {name} cannot be read: {error}") from error
    return None
