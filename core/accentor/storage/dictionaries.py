"""Dictionaries in the object store: versions that never change, each with its card, its table and its file."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

from pydantic import BaseModel, ConfigDict

from accentor.dictionaries import Contents, examine
from accentor.errors import DigestMismatchError, NotFoundError, UnknownDictionaryError
from accentor.spec import Entry, Feature, ModelCard, canonical_json, sha256_hex
from accentor.spec.dictionaries import (
    MAX_LISTED,
    REFERENCE_FORM,
    VERSION_DIGITS,
    DictionaryCard,
    DictionaryFeature,
    DictionarySpec,
)
from accentor.storage.base import ObjectStore
from accentor.storage.keys import DICTIONARIES, dictionary_key, dictionary_prefix

CARD = "card.json"
TABLE = "table.json"
FILE = "features"
CARDS_KEPT = 256
TABLES_KEPT = 4
JSON = "application/json"


class Table(BaseModel):
    """What is known of each feature, by index; lists are empty where nothing is."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...] | None = None
    norms: tuple[float | None, ...] = ()
    zero: frozenset[int] = frozenset()
    not_finite: frozenset[int] = frozenset()
    duplicates: dict[int, int] = {}
    statistics: dict[str, tuple[float | None, ...]] = {}

    def feature(self, card: DictionaryCard, index: int) -> DictionaryFeature:
        """Return what is told of one feature."""
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
                "statistics": {name: values[index] for name, values in self.statistics.items()},
            }
        )


class DictionaryStore:
    """The dictionaries of a service; what was read last is kept, for a version never changes."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._cards = lru_cache(CARDS_KEPT)(self._read_card)
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
        self._put(card, TABLE, table.model_dump_json().encode(), JSON)
        self._put(card, CARD, card.model_dump_json().encode(), JSON)
        return card, True

    def card(self, reference: str) -> DictionaryCard:
        """Return the card of ``NAME@VERSION``, or of the newest version of ``NAME``.

        Raises
        ------
        UnknownDictionaryError
            If there is none.
        """
        name, _, version = reference.partition("@")
        if not re.fullmatch(REFERENCE_FORM, reference):
            raise _unknown(reference)
        if version:
            return self._cards(name, version)
        cards = self.history(name)
        if not cards:
            raise _unknown(reference)
        return cards[0]

    def history(self, name: str) -> list[DictionaryCard]:
        """Return the cards of all versions, the newest first."""
        cards = [self._cards(name, version) for version in self.versions(name)]
        return sorted(cards, key=lambda card: (card.created_at, card.version), reverse=True)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a dictionary that are whole, in no order."""
        prefix = dictionary_prefix(name)
        keys = (key.removeprefix(prefix).split("/") for key in self._objects.keys(prefix))
        return [parts[0] for parts in keys if parts[1:] == [CARD]]

    def names(self) -> list[str]:
        """Return the names of all dictionaries, in order."""
        keys = (key.removeprefix(DICTIONARIES).split("/") for key in self._objects.keys(DICTIONARIES))
        return sorted({parts[0] for parts in keys if len(parts) == 3 and parts[2] == CARD})

    def table(self, card: DictionaryCard) -> Table:
        """Return what is known of each feature."""
        return self._tables(card.name, card.version)

    def data(self, card: DictionaryCard) -> bytes:
        """Return the file's bytes, as they were given.

        Raises
        ------
        DigestMismatchError
            If they are not those any more.
        """
        data = self._objects.get(dictionary_key(card.name, card.version, f"{FILE}{card.suffix}"))
        if (found := sha256_hex(data)) != card.file:
            raise DigestMismatchError(f"the file of {card.reference} has the sha256 {found}, expected {card.file}")
        return data

    def delete(self, card: DictionaryCard) -> None:
        """Remove a version; its card goes first, so that nobody finds half of it."""
        self._objects.delete(dictionary_key(card.name, card.version, CARD))
        for key in list(self._objects.keys(dictionary_prefix(card.name, card.version))):
            self._objects.delete(key)
        self._cards.cache_clear()
        self._tables.cache_clear()

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the features of a dictionary as jobs name them, by index.

        Raises
        ------
        UnknownDictionaryError, UnknownLayerError, InvalidFeatureError
            If there is none of this name, or it is not for this model.
        """
        card = self.card(dictionary)
        card.check_model(model)
        return Entries(card)

    def _put(self, card: DictionaryCard, part: str, data: bytes, content_type: str) -> None:
        self._objects.put(dictionary_key(card.name, card.version, part), data, content_type=content_type)

    def _read_card(self, name: str, version: str) -> DictionaryCard:
        try:
            return DictionaryCard.model_validate_json(self._objects.get(dictionary_key(name, version, CARD)))
        except NotFoundError as error:
            raise _unknown(f"{name}@{version}") from error

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


def _unknown(reference: str) -> UnknownDictionaryError:
    return UnknownDictionaryError(f"there is no dictionary {reference[:200]!r}")
