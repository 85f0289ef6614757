"""Dictionaries in the object store: versions that never change, each with its card, its table and its file."""

import re
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
    REFERENCE_FORM,
    VERSION_DIGITS,
    DictionaryCard,
    DictionaryFeature,
    DictionarySpec,
    dead_feature,
)
from accentor.storage.base import ObjectStore
from accentor.storage.keys import DICTIONARIES, dictionary_key, dictionary_prefix

CARD = "card.json"
TABLE = "table.json"
FILE = "features"
DELETED = "deleted"
"""Marks a version that was deleted; its card stays, for batches that name it are still read."""

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
        if not self._objects.exists(_key(card, CARD)):
            self._put(card, CARD, card.model_dump_json().encode(), JSON)
        self._objects.delete(_key(card, DELETED))
        return self.card(card.reference), True

    def card(self, reference: str) -> DictionaryCard:
        """Return the card of ``NAME@VERSION``, or of the newest version of ``NAME``.

        Raises
        ------
        UnknownDictionaryError
            If there is none, or it was deleted.
        """
        if not re.fullmatch(REFERENCE_FORM, reference):
            raise _unknown(reference)
        name, _, version = reference.partition("@")
        if version in self.versions(name):
            return self._cards(name, version)
        cards = [] if version else self.history(name)
        if not cards:
            raise _unknown(reference)
        return cards[0]

    def history(self, name: str) -> list[DictionaryCard]:
        """Return the cards of all versions, the newest first."""
        cards = [self._cards(name, version) for version in self.versions(name)]
        return sorted(cards, key=_age, reverse=True)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a dictionary that are there, in no order."""
        return [version for _, version in self._there(dictionary_prefix(name))]

    def newest(self) -> list[DictionaryCard]:
        """Return the card of the newest version of each dictionary, by name."""
        cards: dict[str, DictionaryCard] = {}
        for name, version in self._there(DICTIONARIES):
            card = self._cards(name, version)
            if name not in cards or _age(card) > _age(cards[name]):
                cards[name] = card
        return [cards[name] for name in sorted(cards)]

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
            data = self._objects.get(_key(card, f"{FILE}{card.suffix}"))
        except NotFoundError as error:
            raise UnknownDictionaryError(f"the dictionary {card.reference} was deleted") from error
        if (found := sha256_hex(data)) != card.file:
            raise DigestMismatchError(f"the file of {card.reference} has the sha256 {found}, expected {card.file}")
        return data

    def delete(self, card: DictionaryCard) -> None:
        """Remove a version; its card stays for the batches that were submitted with it, and nothing else."""
        self._put(card, DELETED, b"", JSON)
        for part in (f"{FILE}{card.suffix}", TABLE):
            self._objects.delete(_key(card, part))

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the features of a dictionary as jobs name them, by index.

        Raises
        ------
        UnknownDictionaryError, UnknownLayerError, InvalidFeatureError
            If there is none of this name, or it is not for this model.
        """
        name, _, version = dictionary.partition("@")
        card = self._cards(name, version) if version else self.card(name)
        card.check_model(model)
        return Entries(card)

    def _put(self, card: DictionaryCard, part: str, data: bytes, content_type: str) -> None:
        self._objects.put(_key(card, part), data, content_type=content_type)

    def _there(self, prefix: str) -> list[tuple[str, str]]:
        """Return name and version of all that is whole and was not deleted."""
        parts: dict[tuple[str, str], set[str]] = {}
        for key in self._objects.keys(prefix):
            name, version, part = key.removeprefix(DICTIONARIES).split("/")
            parts.setdefault((name, version), set()).add(part)
        return [place for place, found in parts.items() if CARD in found and DELETED not in found]

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


def _key(card: DictionaryCard, part: str) -> str:
    return dictionary_key(card.name, card.version, part)


def _age(card: DictionaryCard) -> tuple[datetime, str]:
    return card.created_at, card.version


def _unknown(reference: str) -> UnknownDictionaryError:
    return UnknownDictionaryError(f"there is no dictionary {reference[:200]!r}")
