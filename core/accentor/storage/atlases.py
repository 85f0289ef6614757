"""Atlases in the object store: what was selected, the parts while they are made, the site, and its card last."""

import gzip
import json
import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from accentor.errors import NotFoundError
from accentor.spec import sha256_hex
from accentor.spec.atlases import AtlasSelection, AtlasSite
from accentor.storage.base import DEFAULT_CONTENT_TYPE, ObjectStore
from accentor.storage.keys import atlas_prefix

SITE = "site/"
TYPES = {".js": "text/javascript", ".jsonl": "application/jsonl", ".parquet": "application/vnd.apache.parquet"}
"""Of files of a site, where Python does not know them alike everywhere."""


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A file of a site."""

    name: str
    bytes: int
    sha256: str


def site_type(name: str) -> str:
    """Return the content type of a file of a site."""
    return TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or DEFAULT_CONTENT_TYPE


class AtlasObjects:
    """The objects of one atlas."""

    def __init__(self, objects: ObjectStore, atlas_id: str) -> None:
        self._objects = objects
        self._id = atlas_id

    @property
    def prefix(self) -> str:
        """What the keys of the site's files begin with."""
        return self._key(SITE)

    def selection(self) -> AtlasSelection:
        """Return how much is shown; `NotFoundError` until that is selected."""
        return AtlasSelection.model_validate_json(self._objects.get(self._key("selection.json")))

    def set_selection(self, selection: AtlasSelection) -> None:
        """Say how much is shown."""
        self._put("selection.json", selection.model_dump_json().encode(), "application/json")

    def card(self) -> AtlasSite | None:
        """Return what is told of the site; none until it is whole."""
        try:
            return AtlasSite.model_validate_json(self._objects.get(self._key("card.json")))
        except NotFoundError:
            return None

    def has_part(self, number: int) -> bool:
        """Tell whether a part is there, with all its files."""
        return self._objects.exists(self._part_key(number))

    def put_part(self, number: int, files: Sequence[SiteFile], entries: Iterable[str]) -> None:
        """Store what is said in a part, one entry a line; its files are in the site already."""
        lines = [json.dumps([asdict(file) for file in files]), *entries]
        packed = gzip.compress("\n".join(lines).encode(), mtime=0)
        self._objects.put(self._part_key(number), packed, content_type="application/gzip")

    def part(self, number: int) -> tuple[list[SiteFile], list[str]] | None:
        """Return the files and the entries of a part; none if it was not made."""
        try:
            files, *entries = gzip.decompress(self._objects.get(self._part_key(number))).decode().split("\n")
        except NotFoundError:
            return None
        return [SiteFile(**file) for file in json.loads(files)], entries

    def put_file(self, name: str, path: Path) -> SiteFile:
        """Store a file of the site."""
        data = path.read_bytes()
        self._put(f"{SITE}{name}", data, site_type(name))
        return SiteFile(name, len(data), sha256_hex(data))

    def get_file(self, name: str) -> bytes:
        """Return a file of the site."""
        return self._objects.get(self._key(f"{SITE}{name}"))

    def finish(self, site: AtlasSite, files: Iterable[SiteFile]) -> None:
        """Store the list of the site's files, and its card; the parts are not needed any more."""
        listed = "\n".join(json.dumps(asdict(file)) for file in files)
        self._put("files.jsonl.gz", gzip.compress(listed.encode(), mtime=0), "application/gzip")
        self._put("card.json", site.model_dump_json().encode(), "application/json")
        for key in list(self._objects.keys(self._key("parts/"))):
            self._objects.delete(key)

    def files(self, start: int = 0, limit: int | None = None) -> Iterator[SiteFile]:
        """Yield the files of a finished site, the first page last, from a place in the list on."""
        lines = gzip.decompress(self._objects.get(self._key("files.jsonl.gz"))).decode().splitlines()
        stop = None if limit is None else start + limit
        yield from (SiteFile(**json.loads(line)) for line in islice(lines, start, stop))

    def _part_key(self, number: int) -> str:
        return self._key(f"parts/{number:06d}.jsonl.gz")

    def _put(self, part: str, data: bytes, content_type: str) -> None:
        self._objects.put(self._key(part), data, content_type=content_type)

    def _key(self, part: str) -> str:
        return atlas_prefix(self._id, part)
