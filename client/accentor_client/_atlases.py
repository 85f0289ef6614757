"""Atlases without input or output: what is asked for, how long it is waited for, and what is downloaded."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Required, TypedDict

from accentor.atlas.chunks import remove_chunks
from accentor.atlas.clearing import made_before, remove_made
from accentor.errors import AccentorError, CanceledError, InvalidRequestError, ServiceError, error_from_code
from accentor.spec import BatchState, resolve_recipe
from accentor.spec.atlases import AtlasSpec, AtlasStatus
from accentor_client import _calls
from accentor_client._following import Patience, Stream, Told, looks
from accentor_client._saving import write
from accentor_client._sources import RecipeSource, checked

PAGE = 100
FILES = 1_000
FIRST_PAGE = "index.html"


class AtlasOptions(TypedDict, total=False):
    """What an atlas is of, all channels of ``layer`` or the features of ``dictionary``, and what it shows."""

    model: Required[str]
    layer: str
    dictionary: str
    dataset: Required[str]
    title: str | None
    top_k: int
    images: int
    errors: int
    limit: int | None
    recipe: RecipeSource
    seed: int
    metadata: Mapping[str, str]


class AtlasView:
    """An atlas as it stood when last asked."""

    def __init__(self, status: AtlasStatus, base_url: str = "") -> None:
        self.status = status
        self._base_url = base_url

    @property
    def id(self) -> str:
        """Its id."""
        return self.status.id

    @property
    def state(self) -> BatchState:
        """Its state when last asked."""
        return self.status.state

    @property
    def url(self) -> str | None:
        """Address of its first page, for a browser; none until it is published."""
        site = self.status.site
        return None if site is None or site.url is None else f"{self._base_url}{site.url}"

    @property
    def error(self) -> AccentorError | None:
        """Why it has no site; none if it has one, or has not ended."""
        if self.state is BatchState.CANCELED:
            return CanceledError(f"atlas {self.id} was canceled")
        failure = self.status.failure
        return None if failure is None else error_from_code(failure.code, failure.detail)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}: {self.status.title}>"


def atlas_spec(options: AtlasOptions) -> AtlasSpec:
    """Return what is asked for; faults that can be seen without the service are told at once."""
    fields = {name: value for name, value in options.items() if value is not None}
    if "recipe" in options:
        fields["recipe"] = resolve_recipe(options["recipe"])
    return checked(AtlasSpec, fields)


def atlas_looks(atlas_id: str, timeout: float | None) -> Stream[AtlasStatus]:
    """Tell how an atlas stands until it has ended."""
    return looks(lambda tag: _calls.look_at_atlas(atlas_id, tag), Patience(timeout, f"atlas {atlas_id}"))


def all_atlases() -> Stream[AtlasStatus]:
    """Tell all atlases, the newest first."""
    cursor = None
    while True:
        page: _calls.AtlasPage = yield _calls.list_atlases(cursor, PAGE)
        for atlas in page.data:
            yield Told(atlas)
        cursor = page.next_cursor
        if cursor is None:
            return


def site_files(atlas_id: str) -> Stream[_calls.SiteFile]:
    """Tell the files of a site, its first page last."""
    cursor: str | None = "0"
    while cursor is not None:
        page: _calls.SitePage = yield _calls.list_site_files(atlas_id, cursor, FILES)
        for file in page.data:
            yield Told(file)
        cursor = page.next_cursor


def site_root(status: AtlasStatus) -> str:
    """Return what the addresses of a site's files begin with; raise why there is no site."""
    if status.site is None or status.site.url is None:
        raise AtlasView(status).error or InvalidRequestError(f"atlas {status.id} is {status.state}: it has no site yet")
    return status.site.url.rpartition("/")[0] + "/"


def place_of(folder: Path, file: _calls.SiteFile) -> Path:
    """Return where a file of a site is saved; `ServiceError` if that would be outside of the folder."""
    path = PurePosixPath(file.name)
    if path.is_absolute() or ".." in path.parts or "\\" in file.name or ":" in file.name or not path.parts:
        raise ServiceError(f"the service names a file {file.name!r}: that is no path inside a folder")
    return folder.joinpath(*path.parts)


def make_room(folder: Path, files: Sequence[_calls.SiteFile]) -> None:
    """Remove the first page, which a whole site has, and what another atlas left, but no file that none wrote."""
    names = {file.name for file in files}
    (folder / FIRST_PAGE).unlink(missing_ok=True)
    remove_chunks(folder, names)
    remove_made(folder, made_before(folder) - names)


def is_saved(path: Path, file: _calls.SiteFile) -> bool:
    """Tell whether a file lies there undamaged."""
    return path.is_file() and path.stat().st_size == file.bytes and _digest(path.read_bytes()) == file.sha256


def save_file(path: Path, file: _calls.SiteFile, data: bytes) -> None:
    """Write a file of a site whole, if it is what was announced."""
    if _digest(data) != file.sha256:
        raise ServiceError(f"{file.name} came damaged: its sha256 is {_digest(data)}, announced was {file.sha256}")
    write(path, data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
