"""JSON Lines as they are sent: read in chunks, images that are files here put in by their sha256, packed with gzip."""

import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, Literal, TypedDict, cast

from PIL import Image
from pydantic import BaseModel

from accentor.errors import InvalidImageError, InvalidRequestError
from accentor.spec import Lane, is_sha256
from accentor_client._calls import ImageRef
from accentor_client._sources import ImageSource, RecipeSource

CHUNK_LINES = 256
LEVEL = 3
"""Of zlib: above 100 MB/s, and within a fifth of the size at 6."""

GZIP_BITS = 31
GZIP_MAGIC = b"\x1f\x8b"
HEADER = "batch"
IN_ADDRESS = frozenset({"model", "lane", "seed", "on_invalid"})

_READY = re.compile(rb'"image"\s*:\s*"[0-9a-f]{64}"')

LinesSource = str | Path | IO[bytes] | IO[str] | Iterable[Mapping[str, Any]]
"""A file, by name or open, packed with gzip or not; or jobs, each a mapping."""

Line = bytes | Mapping[str, Any]


class LinesOptions(TypedDict, total=False):
    """What holds for all lines; ``model``, ``recipe``, ``seed`` and ``lane`` count above the file's own first line."""

    model: str
    recipe: RecipeSource
    seed: int
    lane: Lane
    metadata: Mapping[str, str]
    force: bool
    deadline_s: int
    on_invalid: Literal["reject", "skip"]


class JobLines:
    """The lines of a batch.

    Attributes
    ----------
    repeatable
        Whether they can be read a second time.
    params
        What the address says.
    """

    def __init__(self, source: LinesSource, options: LinesOptions) -> None:
        self._source = source
        is_path = isinstance(source, str | Path)
        self._folder = Path(cast(str | Path, source)).parent if is_path else Path()
        self._name = str(source) if is_path else getattr(source, "name", "the batch")
        self._start = _place(source)
        self.repeatable = is_path or self._start is not None or isinstance(source, Sequence)
        recipe = options.get("recipe")
        settings = {name: value for name, value in options.items() if value is not None}
        in_address = IN_ADDRESS | ({"recipe"} if isinstance(recipe, str) else set())
        self.params = {name: settings.pop(name) for name in in_address & settings.keys()}
        self._header = {name: plain(value) for name, value in settings.items()}
        self._is_lenient = options.get("on_invalid") == "skip"

    def chunks(self) -> Iterator["Chunk"]:
        """Read the lines from the beginning."""
        try:
            with _opened(self._source, self._start) as lines:
                numbered = enumerate(self._headed(iter(lines)), 1)
                while part := list(itertools.islice(numbered, CHUNK_LINES)):
                    yield Chunk([self._line(number, line) for number, line in part])
        except (OSError, EOFError, UnicodeError, zlib.error) as error:
            raise InvalidRequestError(f"the lines of {self._name} cannot be read: {error}") from error

    def _headed(self, lines: Iterator[Any]) -> Iterator[Line]:
        if self._header:
            first = next(lines, None)
            own = _header_of(first)
            yield {HEADER: {**(own or {}), **self._header}}
            if own is None and first is not None:
                yield first
        yield from lines

    def _line(self, number: int, line: Any) -> Line:
        if isinstance(line, Mapping):
            return {name: _image(value) if name == "image" else plain(value) for name, value in line.items()}
        data: bytes = line.encode() if isinstance(line, str) else line
        if _READY.search(data) or b'"image"' not in data:
            return data
        body = _loaded(data)
        image = body.get("image") if isinstance(body, dict) else None
        return {**body, "image": path} if (path := self._file(number, image)) else data

    def _file(self, number: int, image: Any) -> Path | None:
        """Return the file that a line names; none if it names none, or none that is there and that is let pass."""
        if not isinstance(image, str) or "\0" in image:
            return None
        path = self._folder / image
        if path.is_file():
            return path
        if self._is_lenient:
            return None
        raise InvalidImageError(f"line {number}: the image {image!r} is no sha256, and there is no file {path}")


class Chunk:
    """Some lines in a row."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    def images(self, known: Mapping[Path, str]) -> list[ImageSource]:
        """Return the images to upload first, in order: files once, and not those in ``known``."""
        found: dict[Hashable, ImageSource] = {}
        for place, line in enumerate(self._lines):
            image = line.get("image") if isinstance(line, Mapping) else None
            if _is_to_upload(image) and not (isinstance(image, Path) and image in known):
                found.setdefault(image if isinstance(image, Path) else place, cast(ImageSource, image))
        return list(found.values())

    def rendered(self, uploaded: Sequence[ImageRef], known: dict[Path, str]) -> bytes:
        """Return the lines, the images replaced by what was uploaded for them, which ``known`` is told of."""
        names = iter(uploaded)
        return b"".join(self._rendered(line, names, known) for line in self._lines)

    def _rendered(self, line: Line, names: Iterator[ImageRef], known: dict[Path, str]) -> bytes:
        if not isinstance(line, Mapping):
            return line if line.endswith(b"\n") else line + b"\n"
        image = line.get("image")
        if isinstance(image, ImageRef):
            line = {**line, "image": image.id}
        elif _is_to_upload(image):
            line = {**line, "image": _name(image, names, known)}
        return json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n"


class Packer:
    """Packs bytes with gzip; the same bytes, the same packed bytes."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP_BITS)

    def add(self, data: bytes) -> bytes:
        """Return what can be sent after these bytes."""
        return self._packer.compress(data)

    def end(self) -> bytes:
        """Return the rest."""
        return self._packer.flush()


def plain(value: Any) -> Any:
    """Return a setting as JSON has it: features and recipes may be given as objects."""
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value


def _name(image: Any, names: Iterator[ImageRef], known: dict[Path, str]) -> str:
    if isinstance(image, Path):
        if image not in known:
            known[image] = next(names).id
        return known[image]
    return next(names).id


def _image(source: Any) -> Any:
    return Path(source) if isinstance(source, str) and not is_sha256(source) else source


def _is_to_upload(image: Any) -> bool:
    return isinstance(image, Path | bytes | Image.Image)


def _place(source: Any) -> int | None:
    """Return where an open file stands, if it can be read from there again."""
    if not hasattr(source, "read") or not getattr(source, "seekable", lambda: False)():
        return None
    return int(source.tell())


def _opened(source: LinesSource, start: int | None) -> Any:
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            is_packed = file.read(2) == GZIP_MAGIC
        return gzip.open(source) if is_packed else Path(source).open("rb")
    if start is not None:
        cast(io.IOBase, source).seek(start)
    return nullcontext(source)


def _header_of(line: Any) -> dict[str, Any] | None:
    body = line if isinstance(line, Mapping) or line is None else _loaded(line)
    is_header = isinstance(body, Mapping) and list(body) == [HEADER] and isinstance(body[HEADER], Mapping)
    return dict(body[HEADER]) if is_header and body else None


def _loaded(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None
