"""Running the shards of a scan: each stored under its content, the last one to end makes them one."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accentor.errors import InvalidRequestError, OutOfMemoryError
from accentor.spec.datasets import DatasetRow
from accentor.spec.scans import ScanBatch, ScanCard, ScanSettings
from accentor.storage.datasets import DatasetStore
from accentor.storage.images import read_row
from accentor.storage.keys import shard_key, unread_shard_key
from accentor.storage.scans import ScanStore
from accentor_worker.services import LoadedModel, Services

if TYPE_CHECKING:
    from accentor.engine.dictionaries import Dictionary
    from accentor.engine.scan import Item, Scan

IMAGES_AT_ONCE = 32

logger = logging.getLogger(__name__)


class ShardScan:
    """The shards of one scan, in this worker."""

    def __init__(self, services: Services, batch: ScanBatch, model: LoadedModel) -> None:
        self._services, self._batch, self._model = services, batch, model
        self._store = ScanStore(services.objects)

    def size(self, job: int) -> int:
        """Return how many images a shard has."""
        return len(self._batch.range(job))

    def run(self, job: int, on_progress: Callable[[int], None]) -> bool:
        """Scan a shard, unless that was done, and return whether it was; if it is the last one, make all one.

        Raises
        ------
        RequestError
            If the dictionary is gone, or no image of the whole dataset could be read.
        OutOfMemoryError
            If a single image does not fit the device's memory.
        """
        is_known = self._card_is_there() or self._place(job) is not None
        if not is_known:
            with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
                self._scan(job, Path(folder), on_progress)
        self._finish(on_progress)
        return is_known

    def _scan(self, job: int, folder: Path, on_progress: Callable[[int], None]) -> None:
        from accentor.engine.models.devices import is_out_of_memory
        from accentor.engine.scan import scan, write_scan

        batch, images, size = self._batch, self._batch.range(job), IMAGES_AT_ONCE
        dictionary: Dictionary | str = batch.layer
        if batch.dictionary is not None:
            dictionary = self._services.dictionaries.whole(batch.dictionary, self._model.card)
        model: Any = self._model
        settings = batch.model_dump(include=set(ScanSettings.model_fields))
        while True:
            try:
                found = scan(
                    model,
                    dictionary,
                    self._items(images),
                    batch=size,
                    on_progress=on_progress,
                    may_be_empty=True,
                    **settings,
                )
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise OutOfMemoryError("one image does not fit the device's memory") from error
                size //= 2
                logger.warning("scan %s: %d images at once from now on", batch.scan, size)
        place = self._places(job)[bool(found.skipped)]
        self._store.put_shard(place, write_scan(found, folder, is_part=True))

    def _items(self, images: range) -> "Iterator[Item]":
        rows = DatasetStore(self._services.objects).rows(self._batch.dataset)
        yield from (item_of(self._services, rows[index], self._batch.dataset) for index in images)

    def _places(self, job: int) -> tuple[str, str]:
        """Return where a shard is kept for all scans, and where for this batch if not all images can be read."""
        return shard_key(self._batch.shards[job].key), unread_shard_key(self._batch.id, job)

    def _place(self, job: int) -> str | None:
        """Return where a shard is; none if it is not there."""
        return next(filter(self._store.has_shard, self._places(job)), None)

    def _card_is_there(self) -> bool:
        return self._store.card(self._batch.dataset, self._batch.scan) is not None

    def _are_all_there(self) -> bool:
        """Tell whether all shards are there; those that were are not looked for again."""
        known = self._services.shards_there
        while (job := known.get(self._batch.id, 0)) < self._batch.total:
            if self._place(job) is None:
                return False
            known[self._batch.id] = job + 1
        return True

    def _finish(self, on_progress: Callable[[int], None]) -> None:
        """Make the shards one once all are there; whoever ends the last one does, perhaps several at once."""
        if self._card_is_there() or not self._are_all_there():
            return
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
            self._join(Path(folder), on_progress)
        logger.info(
            "scan %s: %d shards made one in %.1f s", self._batch.scan, self._batch.total, time.monotonic() - started
        )

    def _join(self, folder: Path, on_progress: Callable[[int], None]) -> None:
        from accentor.engine.scan import join

        whole = join(self._shards(folder, on_progress), folder / "whole")
        if not whole.seen:
            raise InvalidRequestError(
                f"none of the {len(whole.skipped)} images of {self._batch.dataset} could be read; the first: "
                f"{whole.skipped[0].id}: {whole.skipped[0].reason}"
            )
        self._store.finish(self._card(whole), folder / "whole")

    def _shards(self, folder: Path, on_progress: Callable[[int], None]) -> Iterator[Path]:
        for job in range(self._batch.total):
            on_progress(0)
            yield self._store.get_shard(self._place(job) or self._places(job)[0], folder / "shard")

    def _card(self, whole: "Scan") -> ScanCard:
        batch = self._batch
        return ScanCard(
            **batch.model_dump(include=set(ScanSettings.model_fields)),
            id=batch.scan,
            dataset=batch.dataset,
            model=batch.model,
            model_digest=self._model.card.digest,
            layer=batch.layer,
            dictionary=batch.dictionary,
            features=whole.settings.features,
            shards=batch.total,
            seen=whole.seen,
            skipped=len(whole.skipped),
            created_at=datetime.now(UTC),
        )


def item_of(services: Services, row: DatasetRow, dataset: str) -> "Item":
    """Return an image of a dataset as it is scanned."""
    from accentor.engine.scan import Item

    return Item(row.id, partial(read_row, services.objects, row, dataset), row.label)
