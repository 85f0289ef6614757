"""Datasets at a service."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

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
from accentor_client._transport import Transport
from accentor_client.resources import UPLOADS, Images

Done = Callable[[int, int | None], None]
"""Is told how many members are done, and of how many where that is known."""


class Datasets:
    """Datasets: made once, and named by batches instead of listing their images."""

    def __init__(self, transport: Transport, images: Images) -> None:
        self._transport = transport
        self._images = images

    def create(
        self,
        name: str,
        *,
        timeout: float | None = None,
        on_progress: Done = lambda done, total: None,
        **options: Unpack[DatasetOptions],
    ) -> DatasetCard:
        """Make a dataset, and wait until it is there; a folder's images are uploaded first.

        Images that cannot be read are left out: the card counts them, and lists the first.

        Parameters
        ----------
        timeout
            Seconds to wait for the service to make it; none: as long as it takes.
        on_progress
            Is told how far it is.
        """
        upload = folder_upload(options)
        if upload is not None:
            self._upload(upload, on_progress)
        self._transport.send(_calls.create_dataset(dataset_spec(name, options, upload)))
        return self.wait(name, timeout, on_progress=on_progress)

    def wait(
        self, name: str, timeout: float | None = None, *, on_progress: Done = lambda done, total: None
    ) -> DatasetCard:
        """Wait until a dataset is there, or raise why it could not be made."""
        card: DatasetCard | None = None
        for status in self._transport.go_through(made(name, timeout)):
            on_progress(status.done, None)
            card = status.card
        return card or self.card(name)

    def get(self, name: str) -> DatasetStatus:
        """Return how a dataset, or ``NAME@VERSION``, stands."""
        return self._transport.send(_calls.get_dataset(name))

    def card(self, name: str) -> DatasetCard:
        """Return the card of a dataset's newest version, or of ``NAME@VERSION``; wait for it if it is being made."""
        return self.get(name).card or self.wait(name)

    def list(self) -> Iterator[DatasetCard]:
        """Go through the newest versions of all datasets, by name."""
        yield from self._transport.go_through(all_datasets())

    def images(self, name: str) -> Iterator[DatasetRow]:
        """Go through the images of a dataset in order."""
        yield from self._transport.go_through(all_images(name))

    def skipped(self, name: str) -> Sequence[SkippedMember]:
        """Return the members that could not be read, and why."""
        return self._transport.send(_calls.list_skipped(name))

    def scan(
        self,
        name: str,
        *,
        model: str,
        timeout: float | None = None,
        on_progress: Done = lambda done, total: None,
        **options: Unpack[ScanOptions],
    ) -> ScanStatus:
        """Scan the dataset, unless that was done before, and wait until it is ready; `scans` lists those there are.

        Parameters
        ----------
        timeout
            Seconds to wait; none: as long as it takes. The scan goes on after it.
        on_progress
            Is told how many shards are done.

        Raises
        ------
        UnknownLayerError, UnknownDictionaryError, InvalidFeatureError
            If the model has no such layer, or the dictionary is not for it.
        """
        for status in self._transport.go_through(scanning(name, model, options, timeout)):
            on_progress(status.done, status.shards)
        return status

    def scans(self, name: str) -> Sequence[ScanStatus]:
        """Return the scans of a dataset's newest version, or of ``NAME@VERSION``, as they stand."""
        return self._transport.send(_calls.list_scans(name))

    def save_scan(self, scan: ScanStatus, folder: str | Path) -> Path:
        """Write the tables of a scan into a folder, as `accentor.engine.scan.write_scan` does, and return it."""
        return self._transport.run(saving(scan, Path(folder)))

    def delete(self, name: str) -> None:
        """Delete a dataset, or ``NAME@VERSION``; batches that were submitted with it go on."""
        self._transport.send(_calls.delete_dataset(name))

    def _upload(self, upload: FolderUpload, on_progress: Done) -> None:
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="accentor-upload") as pool:
            for members in upload.chunks():
                images = list(pool.map(self._uploaded, [member.path for member in members]))
                masks = list(pool.map(self._uploaded, [member.mask for member in members]))
                upload.add(members, [image or "" for image in images], masks)
                on_progress(len(upload.listed) + len(upload.skipped), len(upload.members))

    def _uploaded(self, path: Path | None) -> Uploaded | None:
        try:
            return None if path is None else self._images.upload(path).id
        except UNUSABLE as error:
            found: AccentorError = error
            return found
