"""Scans of datasets in the object store: shards by their content, the tables of the whole, and the card last."""

import io
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from accentor.errors import InvalidRequestError, NotFoundError
from accentor.spec import TopK
from accentor.spec.catalog import Scanned
from accentor.spec.scans import ScanCard
from accentor.storage.base import ObjectStore
from accentor.storage.keys import dataset_key, dictionary_key

TABLES = ("images", "skipped", "percentiles", "top", "sample", "features")
"""Names of the tables; the last one is stored last."""

CARD = "card.json"
BATCH = "batch.json"
PARQUET = "application/vnd.apache.parquet"
TOPS_KEPT = 4
STATISTICS = ("fires", "mean", "std", "min", "max")
"""Columns of the table of features that a dictionary's features are shown with."""


class ScanStore:
    """The scans of a service."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._tops = lru_cache(TOPS_KEPT)(self._read_tops)
        self._statistics = lru_cache(TOPS_KEPT)(self._read_statistics)

    def card(self, dataset: str, scan: str) -> ScanCard | None:
        """Return the card of a finished scan of a dataset's version; none if it is not finished."""
        try:
            return ScanCard.model_validate_json(self._objects.get(_key(dataset, scan, CARD)))
        except NotFoundError:
            return None

    def cards(self, dataset: str) -> list[ScanCard]:
        """Return the finished scans of a dataset's version, the newest first."""
        prefix = _prefix(dataset)
        keys = (key for key in self._objects.keys(prefix) if key.removeprefix(prefix).split("/")[1:] == [CARD])
        return self._read_cards(keys)

    def of_dictionary(self, dictionary: str) -> list[ScanCard]:
        """Return the finished scans of a dictionary's version, over any dataset, the newest first."""
        return self._read_cards(self._objects.keys(_mark(dictionary, "")))

    def started(self, dataset: str) -> list[str]:
        """Return the ids of all scans of a dataset's version that were ever begun."""
        prefix = _prefix(dataset)
        return sorted({key.removeprefix(prefix).partition("/")[0] for key in self._objects.keys(prefix)})

    def tops(self, card: ScanCard) -> "Tops":
        """Return the numbers of the top images of every feature."""
        return self._tops(card)

    def statistics(self, card: ScanCard) -> Mapping[str, Sequence[float | None]]:
        """Return what was found of every feature: the share of images on which it fires, mean, range of its values."""
        return self._statistics(card)

    def chosen(self, dataset: str, model: str, pairing: TopK, scanned: Scanned) -> ScanCard:
        """Return the first scan of a layer or a dictionary that keeps enough images: a batch means the same for ever.

        It is a usual one unless it is named, see `ScanSettings.is_usual`: what was measured otherwise ranks otherwise.

        Parameters
        ----------
        model
            Digest of the model.
        pairing
            May name the scan.

        Raises
        ------
        InvalidRequestError
            If there is none; it says how to make one.
        """
        top_k = pairing.top_k
        layer, dictionary = scanned
        what = f"the dictionary {dictionary}" if dictionary else f"layer {layer}"
        there = [
            card
            for card in self.cards(dataset)
            if card.model_digest == model
            and (card.dictionary == dictionary if dictionary else card.dictionary is None and card.layer == layer)
        ]
        cards = [card for card in there if (card.is_usual if pairing.scan is None else card.id == pairing.scan)]
        fitting = [card for card in cards if card.top_k >= top_k]
        if fitting:
            return fitting[-1]
        name = dataset.partition("@")[0]
        kept = f": those there are keep {max(card.top_k for card in cards)} images of a feature" if cards else ""
        others = [card for card in there if not card.is_usual]
        kept += f" ({others[0].id} is of {others[0].reduce} and {others[0].code}: name it)" if others else ""
        raise InvalidRequestError(
            f"there is no scan of {what} over the dataset {dataset} that keeps {top_k} images of a feature{kept}; make "
            f"one with POST /v1/datasets/{name}/scans"
        )

    def has_shard(self, key: str) -> bool:
        """Tell whether there is a shard under a key."""
        return self._objects.exists(key)

    def put_shard(self, key: str, folder: Path) -> None:
        """Store the tables of a shard."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in TABLES:
                archive.write(folder / f"{name}.parquet", f"{name}.parquet")
        self._objects.put(key, packed.getvalue(), content_type="application/zip")

    def get_shard(self, key: str, folder: Path) -> Path:
        """Fetch the tables of a shard into a folder, which is returned; `NotFoundError` if it is not there."""
        with zipfile.ZipFile(io.BytesIO(self._objects.get(key))) as archive:
            archive.extractall(folder)
        return folder

    def get(self, card: ScanCard, folder: Path) -> Path:
        """Fetch the tables of a finished scan into a folder, which is returned."""
        for name in TABLES:
            (folder / f"{name}.parquet").write_bytes(self._objects.get(table_key(card, name)))
        return folder

    def finish(self, card: ScanCard, folder: Path) -> None:
        """Store the tables of a whole scan and its card."""
        for name in TABLES:
            data = (folder / f"{name}.parquet").read_bytes()
            self._objects.put(table_key(card, name), data, content_type=PARQUET)
        data = card.model_dump_json().encode()
        self._objects.put(_key(card.dataset, card.id, CARD), data, content_type="application/json")
        if card.dictionary is not None:
            self._objects.put(_mark(card.dictionary, card.id), data, content_type="application/json")

    def batch(self, dataset: str, scan: str) -> str | None:
        """Return the batch that runs a scan, or has run it."""
        try:
            known: Mapping[str, str] = json.loads(self._objects.get(_key(dataset, scan, BATCH)))
        except NotFoundError:
            return None
        return known["batch"]

    def set_batch(self, dataset: str, scan: str, batch: str) -> None:
        """Say which batch runs a scan."""
        data = json.dumps({"batch": batch}).encode()
        self._objects.put(_key(dataset, scan, BATCH), data, content_type="application/json")

    def _read_tops(self, card: ScanCard) -> "Tops":
        return Tops(self._objects.get(table_key(card, "top")), card.features)

    def _read_statistics(self, card: ScanCard) -> dict[str, list[float | None]]:
        table = _read(self._objects.get(table_key(card, "features")), *STATISTICS)
        return {
            name: [value if math.isfinite(value) else None for value in table.column(name).to_pylist()]
            for name in STATISTICS
        }

    def _read_cards(self, keys: Iterable[str]) -> list[ScanCard]:
        found = [ScanCard.model_validate_json(self._objects.get(key)) for key in keys]
        return sorted(found, key=lambda card: (card.created_at, card.id), reverse=True)


class Tops(Sequence[Sequence[int]]):
    """The numbers of the top images of every feature, from the table of these."""

    def __init__(self, data: bytes, features: int) -> None:
        import numpy as np

        table = _read(data, "feature", "image")
        self._images = table.column("image").to_numpy()
        self._starts = np.searchsorted(table.column("feature").to_numpy(), np.arange(features + 1))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        feature = range(len(self))[index]
        images: list[int] = self._images[self._starts[feature] : self._starts[feature + 1]].tolist()
        return images


def table_key(card: ScanCard, name: str) -> str:
    """Return where a table of a finished scan lies."""
    return _key(card.dataset, card.id, f"{name}.parquet")


def _read(data: bytes, *columns: str) -> Any:
    from pyarrow import parquet  # type: ignore[import-untyped]

    return parquet.read_table(io.BytesIO(data), columns=list(columns))


def _mark(dictionary: str, scan: str) -> str:
    """Return where it is noted that there is a scan of a dictionary's version."""
    name, _, version = dictionary.partition("@")
    return dictionary_key(name, version, f"scans-{scan}")


def _prefix(dataset: str) -> str:
    name, _, version = dataset.partition("@")
    return dataset_key(name, version, "scans/")


def _key(dataset: str, scan: str, part: str) -> str:
    return f"{_prefix(dataset)}{scan}/{part}"
