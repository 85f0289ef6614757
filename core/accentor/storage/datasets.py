"""Datasets in the object store: versions that never change, each with its card and its rows."""

import gzip
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar, overload

from pydantic import BaseModel, ValidationError

from accentor.datasets.indexing import BLOCK, ENTRY, PREFIX, Index, build_index, ids_of, names_of, rows_of
from accentor.datasets.labels import read_labels
from accentor.datasets.sources import members_of
from accentor.errors import IllegalTransitionError, NotFoundError, RequestError, ServiceError, UnknownDatasetError
from accentor.images import MAX_PIXELS
from accentor.spec.datasets import (
    MAX_LISTED,
    DatasetCard,
    DatasetRow,
    DatasetSpec,
    DatasetStatus,
    Named,
)
from accentor.spec.dictionaries import REFERENCE_FORM, VERSION_DIGITS
from accentor.spec.status import Failure
from accentor.storage.base import ObjectStore
from accentor.storage.keys import DATASETS, dataset_key, dataset_status_key, rows_key
from accentor.storage.versions import JSON, Versions

ORDER = "order"

ORDERS_KEPT = 16
BLOCKS_KEPT = 8
ID_BLOCKS_KEPT = 256
LISTING_S = 5.0
"""Seconds that the list of the datasets is used to find images; where that finds none it is read again."""

STALE_S = 120.0
"""Seconds without a sign of life after which the making of a dataset counts as broken off."""

E = TypeVar("E")

GZIP = "application/gzip"


class DatasetStore(Versions[DatasetCard]):
    """The datasets of a service; what was read last is kept, for a version never changes."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects, DATASETS, "dataset", DatasetCard, UnknownDatasetError)
        self._listed: list[tuple[str, str]] = []
        self._listed_until = 0.0
        self._orders = lru_cache(ORDERS_KEPT)(self._read_order)
        self._blocks = lru_cache(BLOCKS_KEPT)(self._read_block)
        self._ids = lru_cache(ID_BLOCKS_KEPT)(self._read_ids)

    def create(
        self,
        spec: DatasetSpec,
        *,
        max_pixels: int = MAX_PIXELS,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> tuple[DatasetCard, bool]:
        """Make a dataset, and tell whether it is new; the same images under the same name are one version.

        Raises
        ------
        InvalidRequestError, TooLargeError
            If there is no image in it, or too many, or what it is made from is not there.
        """
        labels = (
            None if spec.labels_file is None else read_labels(spec.labels_file, self._objects.get(spec.labels_file))
        )
        members = members_of(self._objects, spec)
        index = build_index(spec, members, labels, max_pixels=max_pixels, on_progress=on_progress)
        card = _card_of(spec, index)
        is_new = card.version not in self.versions(card.name)
        if is_new:
            self._write(card, index)
        return self.card(card.reference), is_new

    def rows(self, reference: str) -> "Rows":
        """Return the rows of a version, read when they are asked for; also of one that was deleted.

        Raises
        ------
        UnknownDatasetError
            If there is none.
        """
        card = self._named(reference)
        return Rows(card, lambda number: self._blocks(card.name, card.version, number))

    def ids(self, reference: str) -> Sequence[str]:
        """Return the sha256 of a version's images, in order; see `rows`."""
        rows = self.rows(reference)
        return Ids(rows.card, lambda number: self._ids(rows.card.name, rows.card.version, number))

    def names(self, reference: str) -> Iterator[Named]:
        """Yield sha256, id and label of a version's images, in order, read once; see `rows`."""
        card = self._named(reference)
        for number in range(-(-card.images // card.block)):
            yield from names_of(self._objects.get(rows_key(card.name, card.version, number)))

    def row_of(self, image: str) -> tuple[DatasetCard, DatasetRow] | None:
        """Return the row of an image that a dataset has in the store, and the dataset; none if there is none."""
        listed, now = self._listed, time.monotonic()
        found = None if now > self._listed_until else self._found(image, listed)
        if found is None:
            listed = self._there(DATASETS, deleted=True)
            self._listed, self._listed_until = listed, now + LISTING_S
            found = self._found(image, listed)
        return found

    def _found(self, image: str, places: Sequence[tuple[str, str]]) -> tuple[DatasetCard, DatasetRow] | None:
        wanted = bytes.fromhex(image)[:PREFIX]
        for name, version in places:
            order = self._orders(name, version)
            entry = bisect_left(range(len(order) // ENTRY), wanted, key=lambda i: order[i * ENTRY : i * ENTRY + PREFIX])
            while (known := order[entry * ENTRY : (entry + 1) * ENTRY])[:PREFIX] == wanted:
                row = self.rows(f"{name}@{version}")[int.from_bytes(known[PREFIX:], "big")]
                if row.image == image:
                    return self._cards(name, version), row
                entry += 1
        return None

    def status(self, name: str) -> DatasetStatus:
        """Return how a dataset stands.

        Raises
        ------
        UnknownDatasetError
            If there is none, and none is being made.
        """
        there = self.history(name) if re.fullmatch(REFERENCE_FORM, name) else []
        card = there[0] if there else None
        told = self._told(name) if re.fullmatch(REFERENCE_FORM, name) else None
        if told is None or (told.state == "ready" and card is not None):
            if card is None:
                raise self._unknown(name)
            return DatasetStatus(name=name, state="ready", done=0, card=card, updated_at=card.created_at)
        if told.state == "ready":
            raise self._unknown(name)
        return told.model_copy(update={"card": card})

    def tell(
        self, name: str, state: str, done: int = 0, error: Exception | None = None, at: datetime | None = None
    ) -> DatasetStatus:
        """Tell how far the making of a dataset is."""
        failure = None
        if error is not None:
            code = error.code if isinstance(error, RequestError | ServiceError) else "unexpected"
            failure = Failure(code=code, detail=getattr(error, "detail", "") or repr(error))
        status = DatasetStatus.model_validate(
            {"name": name, "state": state, "done": done, "failure": failure, "updated_at": at or datetime.now(UTC)}
        )
        self._objects.put(dataset_status_key(name), status.model_dump_json().encode(), content_type=JSON)
        return status

    def begin(self, name: str) -> DatasetStatus:
        """Tell that a dataset is being made.

        Raises
        ------
        IllegalTransitionError
            If it is already.
        """
        told = self._told(name)
        if told is not None and told.state == "indexing":
            raise IllegalTransitionError(f"the dataset {name!r} is being made: {told.done} members are done")
        return self.tell(name, "indexing")

    def _told(self, name: str) -> DatasetStatus | None:
        try:
            told = DatasetStatus.model_validate_json(self._objects.get(dataset_status_key(name)))
        except (NotFoundError, ValidationError):
            return None
        silent = (datetime.now(UTC) - told.updated_at).total_seconds()
        if told.state != "indexing" or silent < STALE_S:
            return told
        detail = f"its making broke off after {told.done} members: create it again"
        return told.model_copy(update={"state": "failed", "failure": Failure(code="worker-lost", detail=detail)})

    def _write(self, card: DatasetCard, index: Index) -> None:
        for number, block in enumerate(index.packed):
            self._objects.put(rows_key(card.name, card.version, number), block, content_type=GZIP)
        if index.order:
            self._put(card, ORDER, index.order, "application/octet-stream")
        for part, rows in (("skipped", index.skipped), ("duplicates", index.duplicates)):
            if rows:
                self._put(card, f"{part}.jsonl.gz", _lines(rows), GZIP)
        self._publish(card, card.model_dump_json().encode())

    def _read_order(self, name: str, version: str) -> bytes:
        try:
            return self._objects.get(dataset_key(name, version, ORDER))
        except NotFoundError:
            return b""

    def _read_block(self, name: str, version: str, number: int) -> list[DatasetRow]:
        return rows_of(self._objects.get(rows_key(name, version, number)))

    def _read_ids(self, name: str, version: str, number: int) -> list[str]:
        return ids_of(self._objects.get(rows_key(name, version, number)))


class _Blocks(Sequence[E]):
    """What lies in blocks, read when something in them is asked for."""

    def __init__(self, card: DatasetCard, read_block: Callable[[int], list[E]]) -> None:
        self.card = card
        self._block = read_block

    def __len__(self) -> int:
        return self.card.images

    @overload
    def __getitem__(self, index: int) -> E: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[E]: ...
    def __getitem__(self, index: int | slice) -> E | Sequence[E]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        number, row = divmod(range(len(self))[index], self.card.block)
        return self._block(number)[row]

    def __iter__(self) -> Iterator[E]:
        for number in range(-(-len(self) // self.card.block)):
            yield from self._block(number)


class Rows(_Blocks[DatasetRow]):
    """The rows of a dataset's version."""


class Ids(_Blocks[str]):
    """The sha256 of a dataset's images."""


def _card_of(spec: DatasetSpec, index: Index) -> DatasetCard:
    return DatasetCard(
        name=spec.name,
        version=index.digest[:VERSION_DIGITS],
        digest=index.digest,
        source=spec.source,
        images=index.images,
        bytes=index.size,
        labeled=sum(index.classes.values()),
        classes=index.first_classes,
        masks=index.masks,
        skipped=len(index.skipped),
        duplicates=len(index.duplicates),
        ignored=index.ignored,
        unmatched_labels=index.unmatched_labels,
        skipped_members=index.first_skipped,
        duplicate_members=tuple(index.duplicates[:MAX_LISTED]),
        block=BLOCK,
        description=spec.description,
        created_at=datetime.now(UTC),
    )


def _lines(rows: Sequence[BaseModel]) -> bytes:
    return gzip.compress(b"\n".join(row.model_dump_json().encode() for row in rows), mtime=0)
