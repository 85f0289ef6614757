"""Atlases at a service, and handles of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, Unpack

from accentor.spec.atlases import AtlasStatus
from accentor_client import _calls
from accentor_client._atlases import (
    FIRST_PAGE,
    AtlasOptions,
    AtlasView,
    all_atlases,
    atlas_looks,
    atlas_spec,
    is_saved,
    make_room,
    place_of,
    save_file,
    site_files,
    site_root,
)
from accentor_client._progress import AtlasBar
from accentor_client._transport import Transport

DOWNLOADS = 4


class Atlas(AtlasView):
    """One atlas."""

    def __init__(self, status: AtlasStatus, transport: Transport) -> None:
        super().__init__(status, transport.base_url)
        self._transport = transport

    def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = self._transport.send(_calls.get_atlas(self.id))
        return self

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> Self:
        """Wait until it has ended, well or not; `WaitTimeoutError` after ``timeout`` seconds."""
        with AtlasBar(self.status, shown=progress) as bar:
            for status in () if self.state.terminal else self._transport.go_through(atlas_looks(self.id, timeout)):
                self.status = status
                bar.update(status)
        return self

    def cancel(self) -> Self:
        """Cancel it: what was computed stays for the next one."""
        self.status = self._transport.send(_calls.cancel_atlas(self.id))
        return self

    def delete(self) -> None:
        """Delete it with its site once it has ended."""
        self._transport.send(_calls.delete_atlas(self.id))

    def download(self, folder: str | Path) -> Path:
        """Write its site into a folder, and return its first page, which opens from disk and comes last.

        What lies there undamaged is not fetched again; pages of another atlas that lies there are removed.

        Raises
        ------
        AccentorError
            Why there is no site, if it failed or was canceled.
        """
        root, folder = site_root(self.status), Path(folder)
        files = list(self._transport.go_through(site_files(self.id)))
        make_room(folder, files)

        def save(file: _calls.SiteFile) -> None:
            path = place_of(folder, file)
            if not is_saved(path, file):
                save_file(path, file, self._transport.send(_calls.fetch(f"{root}{file.name}")))

        with ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="accentor-download") as pool:
            list(pool.map(save, (file for file in files if file.name != FIRST_PAGE)))
        for file in files:
            if file.name == FIRST_PAGE:
                save(file)
        return folder / FIRST_PAGE


class Atlases:
    """Atlases: what a whole dictionary sees in a dataset, as a site."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, **options: Unpack[AtlasOptions]) -> Atlas:
        """Ask for an atlas of a layer's channels, or of a dictionary, over a dataset.

        What was scanned or accentuated before is not computed again.
        """
        return Atlas(self._transport.send(_calls.create_atlas(atlas_spec(options))), self._transport)

    def get(self, atlas_id: str) -> Atlas:
        """Return the atlas with this id."""
        return Atlas(self._transport.send(_calls.get_atlas(atlas_id)), self._transport)

    def list(self) -> Iterator[Atlas]:
        """Go through all atlases, the newest first."""
        for status in self._transport.go_through(all_atlases()):
            yield Atlas(status, self._transport)
