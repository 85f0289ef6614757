"""Datasets at a service, asynchronously; the twin of `datasets`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from accentor.errors import AccentorError
from accentor.spec.datasets import DatasetCard, DatasetRow, DatasetStatus, SkippedMember
from accentor.spec.scans import ScanStatus
from accentor_client import _calls
from accentor_client._datasets import (
    UNUSABLE,
    DatasetOptions,
    FolderUpload,
    Uploaded,
    all_datasets,
    all_images,
    dataset_spec,
    folder_upload,
    made,
)
from accentor_client._scans import ScanOptions, saving, scanning
from accentor_client._transport import AsyncTransport
from accentor_client.datasets import Done
from accentor_client.resources import UPLOADS

if TYPE_CHECKING:
    from accentor_client.aio import AsyncImages


class AsyncDatasets:
    """Datasets: made once, and named by batches instead of listing their images."""

    def __init__(self, transport: AsyncTransport, images: "AsyncImages") -> None:
        self._transport = transport
        self._images = images

    async def create(
        self,
        name: str,
        *,
        timeout: float | None = None,
        on_progress: Done = lambda done, total: None,
        **options: Unpack[DatasetOptions],
    ) -> DatasetCard:
        """Make a dataset, and wait until it is there; see `Datasets.create`."""
        upload = await asyncio.to_thread(folder_upload, options)
        if upload is not None:
            await self._upload(upload, on_progress)
        await self._transport.send(_calls.create_dataset(dataset_spec(name, options, upload)))
        return await self.wait(name, timeout, on_progress=on_progress)

    async def wait(
        self, name: str, timeout: float | None = None, *, on_progress: Done = lambda done, total: None
    ) -> DatasetCard:
        """Wait until a dataset is there, or raise why it could not be made."""
        card: DatasetCard | None = None
        async for status in self._transport.go_through(made(name, timeout)):
            on_progress(status.done, None)
            card = status.card
        return card or await self.card(name)

    async def get(self, name: str) -> DatasetStatus:
        """Return how a dataset, or ``NAME@VERSION``, stands."""
        return await self._transport.send(_calls.get_dataset(name))

    async def card(self, name: str) -> DatasetCard:
        """Return the card of a dataset's newest version, or of ``NAME@VERSION``; wait for it if it is being made."""
        return (await self.get(name)).card or await self.wait(name)

    async def list(self) -> AsyncIterator[DatasetCard]:
        """Go through the newest versions of all datasets, by name."""
        async for card in self._transport.go_through(all_datasets()):
            yield card

    async def images(self, name: str) -> AsyncIterator[DatasetRow]:
        """Go through the images of a dataset in order."""
        async for row in self._transport.go_through(all_images(name)):
            yield row

    async def skipped(self, name: str) -> Sequence[SkippedMember]:
        """Return the members that could not be read, and why."""
        return await self._transport.send(_calls.list_skipped(name))

    async def scan(
        self,
        name: str,
        *,
        model: str,
        timeout: float | None = None,
        on_progress: Done = lambda done, total: None,
        **options: Unpack[ScanOptions],
    ) -> ScanStatus:
        """Scan the dataset, unless that was done before, and wait until it is ready; see `Datasets.scan`."""
        async for status in self._transport.go_through(scanning(name, model, options, timeout)):
            on_progress(status.done, status.shards)
        return status

    async def scans(self, name: str) -> Sequence[ScanStatus]:
        """Return the scans of a dataset's newest version, or of ``NAME@VERSION``, as they stand."""
        return await self._transport.send(_calls.list_scans(name))

    async def save_scan(self, scan: ScanStatus, folder: str | Path) -> Path:
        """Write the tables of a scan into a folder, as `accentor.engine.scan.write_scan` does, and return it."""
        return await self._transport.run(saving(scan, Path(folder)))

    async def delete(self, name: str) -> None:
        """Delete a dataset, or ``NAME@VERSION``; batches that were submitted with it go on."""
        await self._transport.send(_calls.delete_dataset(name))

    async def _upload(self, upload: FolderUpload, on_progress: Done) -> None:
        room = asyncio.Semaphore(UPLOADS)

        async def uploaded(path: Path | None) -> Uploaded | None:
            async with room:
                try:
                    return None if path is None else (await self._images.upload(path)).id
                except UNUSABLE as error:
                    found: AccentorError = error
                    return found

        for members in upload.chunks():
            images = await asyncio.gather(*(uploaded(member.path) for member in members))
            masks = await asyncio.gather(*(uploaded(member.mask) for member in members))
            upload.add(members, [image or "" for image in images], masks)
            on_progress(len(upload.listed) + len(upload.skipped), len(upload.members))
