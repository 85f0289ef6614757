"""Dictionaries in the object store: versions that never change, each with its card, its table and its file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

from pydantic import BaseModel, ConfigDict

from accentor.dictionaries import Contents, examine
from accentor.errors import DigestMismatchError, NotFoundError, UnknownDictionaryError
from accentor.spec import Entry, Feature, ModelCard, canonical_json, sha256_hex
from accentor.spec.dictionaries import (
    MAX_LISTED,
    VERSION_DIGITS,
    DictionaryCard,
    DictionaryFeature,
    DictionarySpec,
    dead_feature,
)
from accentor.storage.base import ObjectStore
from accentor.storage.keys import DICTIONARIES, dictionary_key
from accentor.storage.versions import Versions

TABLE = "table.json"
FILE = "features"

TABLES_KEPT = 4


class Table(BaseModel):
    """What is known of each feature, by index; lists are empty where nothing is."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...] | None = None
    norms: tuple[float | None, ...] = ()
    zero: frozenset[int] = frozenset()
    not_finite: frozenset[int] = frozenset()
    duplicates: dict[int, int] = {}
    statistics: dict[str, tuple[float | None, ...]] = {}

    def check_usable(self, card: DictionaryCard, unit: int) -> None:
        """Raise `InvalidFeatureError` for a feature that is all zero or not finite."""
        if unit in self.zero or unit in self.not_finite:
            raise dead_feature(card.name, unit)

    def feature(
        self, card: DictionaryCard, index: int, scanned: Mapping[str, Sequence[float | None]] | None = None
    ) -> DictionaryFeature:
        """Return what is told of one feature: the dictionary's own statistics, and those of a scan."""
        state = "zero" if index in self.zero else "not-finite" if index in self.not_finite else "ok"
        earlier = self.duplicates.get(index)
        return DictionaryFeature.model_validate(
            {
                "index": index,
                "feature": f"dictionary:{card.reference}#{index}",
                "label": self.labels[index] if self.labels else None,
                "state": "duplicate" if earlier is not None else state,
                "duplicate_of": earlier,
                "norm": self.norms[index] if self.norms else None,
                "statistics": {name: values[index] for name, values in {**(scanned or {}), **self.statistics}.items()},
            }
        )


class DictionaryStore(Versions[DictionaryCard]):
    """The dictionaries of a service; what was read last is kept, for a version never changes."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects, DICTIONARIES, "dictionary", DictionaryCard, UnknownDictionaryError)
        self._tables = lru_cache(TABLES_KEPT)(self._read_table)

    def create(self, spec: DictionarySpec, model: ModelCard, data: bytes = b"") -> tuple[DictionaryCard, bool]:
        """Store a dictionary, and tell whether it is new; the same contents under the same name are one version.

        Raises
        ------
        UnknownLayerError, InvalidFeatureError, TooLargeError
            If it is no dictionary of this model.
        """
        contents = examine(spec, model, data)
        table = _table_of(spec, contents)
        card = _card_of(spec, model, contents, table, data)
        if card.version in self.versions(card.name):
            return self.card(card.reference), False
        if card.suffix is not None:
            self._put(card, FILE + card.suffix, data, "application/octet-stream")
        self._put(card, TABLE, table.model_dump_json().encode())
        self._publish(card, card.model_dump_json().encode())
        return self.card(card.reference), True

    def table(self, card: DictionaryCard) -> Table:
        """Return what is known of each feature."""
        return self._tables(card.name, card.version)

    def data(self, card: DictionaryCard) -> bytes:
        """Return the file's bytes, as they were given.

        Raises
        ------
        UnknownDictionaryError
            If it was deleted.
        DigestMismatchError
            If they are not those any more.
        """
        try:
            data = self._objects.get(self._key(card, f"{FILE}{card.suffix}"))
        except NotFoundError as error:
            raise UnknownDictionaryError(f"the dictionary {card.reference} was deleted") from error
        if (found := sha256_hex(data)) != card.file:
            raise DigestMismatchError(f"the file of {card.reference} has the sha256 {found}, expected {card.file}")
        return data

    def delete(self, card: DictionaryCard) -> None:
        """Remove a version; its card stays for the batches that were submitted with it, and nothing else."""
        super().delete(card)
        for part in (f"{FILE}{card.suffix}", TABLE):
            self._objects.delete(self._key(card, part))

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the features of a dictionary as jobs name them, by index.

        Raises
        ------
        UnknownDictionaryError, UnknownLayerError, InvalidFeatureError
            If there is none of this name, or it is not for this model.
        """
        card = self._named(dictionary)
        card.check_model(model)
        return Entries(card)

    def _read_table(self, name: str, version: str) -> Table:
        return Table.model_validate_json(self._objects.get(dictionary_key(name, version, TABLE)))


class Entries(Sequence[Feature]):
    """The features of a dictionary's version, each made when it is asked for."""

    def __init__(self, card: DictionaryCard) -> None:
        self._card = card

    def __len__(self) -> int:
        return self._card.features

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | Sequence[Feature]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Entry(dictionary=self._card.reference, unit=range(len(self))[index])


def _table_of(spec: DictionarySpec, contents: Contents) -> Table:
    return Table(
        labels=contents.labels,
        norms=contents.norms,
        zero=frozenset(contents.zero),
        not_finite=frozenset(contents.not_finite),
        duplicates=dict(contents.duplicates or ()),
        statistics=dict(spec.statistics),
    )


def _card_of(spec: DictionarySpec, model: ModelCard, contents: Contents, table: Table, data: bytes) -> DictionaryCard:
    file = sha256_hex(data) if contents.suffix else None
    said = {
        "file": file,
        "kind": contents.kind,
        "layer": contents.layer,
        "model": model.digest,
        "options": dict(contents.options),
        "labels": table.labels,
        "statistics": table.statistics,
        "description": spec.description,
    }
    digest = sha256_hex(canonical_json(said))
    return DictionaryCard.model_validate(
        {
            "name": spec.name,
            "version": digest[:VERSION_DIGITS],
            "digest": digest,
            "model": model.name,
            "model_digest": model.digest,
            "layer": contents.layer,
            "kind": contents.kind,
            "features": contents.features,
            "units": contents.units,
            "dtype": contents.dtype,
            "activation": contents.activation,
            "k": contents.k,
            "options": contents.options,
            "file": file,
            "suffix": contents.suffix,
            "bytes": len(data),
            "labeled": contents.labels is not None,
            "statistics": tuple(spec.statistics),
            "zero": len(contents.zero),
            "not_finite": len(contents.not_finite),
            "duplicates": None if contents.duplicates is None else len(contents.duplicates),
            "dead_features": sorted(contents.zero + contents.not_finite)[:MAX_LISTED],
            "duplicate_features": (contents.duplicates or ())[:MAX_LISTED],
            "description": spec.description,
            "created_at": datetime.now(UTC),
        }
    )
