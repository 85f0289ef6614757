"""Atlases at a service, asynchronously; the twin of `atlases`."""

import asyncio
from collections.abc import AsyncIterator
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
from accentor_client._transport import AsyncTransport
from accentor_client.atlases import DOWNLOADS


class AsyncAtlas(AtlasView):
    """One atlas."""

    def __init__(self, status: AtlasStatus, transport: AsyncTransport) -> None:
        super().__init__(status, transport.base_url)
        self._transport = transport

    async def refresh(self) -> Self:
        """Ask how it stands now."""
        self.status = await self._transport.send(_calls.get_atlas(self.id))
        return self

    async def wait(self, timeout: float | None = None, *, progress: bool = False) -> Self:
        """Wait until it has ended, well or not; `WaitTimeoutError` after ``timeout`` seconds."""
        if self.state.terminal:
            return self
        with AtlasBar(self.status, shown=progress) as bar:
            async for status in self._transport.go_through(atlas_looks(self.id, timeout)):
                self.status = status
                bar.update(status)
        return self

    async def cancel(self) -> Self:
        """Cancel it: what was computed stays for the next one."""
        self.status = await self._transport.send(_calls.cancel_atlas(self.id))
        return self

    async def delete(self) -> None:
        """Delete it with its site once it has ended."""
        await self._transport.send(_calls.delete_atlas(self.id))

    async def download(self, folder: str | Path) -> Path:
        """Write its site into a folder, and return its first page; see `Atlas.download`."""
        root, folder = site_root(self.status), Path(folder)
        room = asyncio.Semaphore(DOWNLOADS)
        files = [file async for file in self._transport.go_through(site_files(self.id))]
        await asyncio.to_thread(make_room, folder, files)

        async def save(file: _calls.SiteFile) -> None:
            path = place_of(folder, file)
            async with room:
                if not await asyncio.to_thread(is_saved, path, file):
                    data = await self._transport.send(_calls.fetch(f"{root}{file.name}"))
                    await asyncio.to_thread(save_file, path, file, data)

        async with asyncio.TaskGroup() as saving:
            for file in files:
                if file.name != FIRST_PAGE:
                    saving.create_task(save(file))
        for file in files:
            if file.name == FIRST_PAGE:
                await save(file)
        return folder / FIRST_PAGE


class AsyncAtlases:
    """Atlases: what a whole dictionary sees in a dataset, as a site."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **options: Unpack[AtlasOptions]) -> AsyncAtlas:
        """Ask for an atlas of a layer's channels, or of a dictionary, over a dataset; see `Atlases.create`."""
        return AsyncAtlas(await self._transport.send(_calls.create_atlas(atlas_spec(options))), self._transport)

    async def get(self, atlas_id: str) -> AsyncAtlas:
        """Return the atlas with this id."""
        return AsyncAtlas(await self._transport.send(_calls.get_atlas(atlas_id)), self._transport)

    async def list(self) -> AsyncIterator[AsyncAtlas]:
        """Go through all atlases, the newest first."""
        async for status in self._transport.go_through(all_atlases()):
            yield AsyncAtlas(status, self._transport)
