"""Things in the object store that have versions: each never changes, and is whole once its card is there."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Generic, Protocol, Self, TypeVar

from accentor.errors import AccentorError, NotFoundError
from accentor.spec.dictionaries import REFERENCE_FORM
from accentor.storage.base import ObjectStore

CARD = "card.json"
DELETED = "deleted"
"""Marks a version that was deleted; its card stays, for batches that name it are still read."""

CARDS_KEPT = 256
JSON = "application/json"


class Card(Protocol):
    """What is told of a version."""

    @property
    def name(self) -> str:
        """What all versions are called."""

    @property
    def version(self) -> str:
        """Which one it is."""

    @property
    def created_at(self) -> datetime:
        """When it was made."""

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Self:
        """Read it."""


C = TypeVar("C", bound=Card)


class Versions(Generic[C]):
    """The versions of one kind of thing, at ``<folder><name>/<version>/``; cards that were read last are kept.

    Parameters
    ----------
    objects
        The service's store.
    folder, noun
        With the slash at its end; what one of them is called.
    kind
        Of the cards.
    unknown
        The error for one that is not there.
    """

    def __init__(
        self, objects: ObjectStore, folder: str, noun: str, kind: type[C], unknown: type[AccentorError]
    ) -> None:
        self._objects = objects
        self._folder, self._noun, self._kind, self._error = folder, noun, kind, unknown
        self._cards = lru_cache(CARDS_KEPT)(self._read_card)

    def card(self, reference: str) -> C:
        """Return the card of ``NAME@VERSION``, or of the newest version of ``NAME``; an error if it was deleted."""
        if not re.fullmatch(REFERENCE_FORM, reference):
            raise self._unknown(reference)
        name, _, version = reference.partition("@")
        if version in self.versions(name):
            return self._cards(name, version)
        cards = [] if version else self.history(name)
        if not cards:
            raise self._unknown(reference)
        return cards[0]

    def history(self, name: str) -> list[C]:
        """Return the cards of all versions, the newest first."""
        return sorted((self._cards(name, version) for version in self.versions(name)), key=_age, reverse=True)

    def versions(self, name: str) -> list[str]:
        """Return the versions that are there, in no order."""
        return [version for _, version in self._there(f"{self._folder}{name}/")]

    def newest(self) -> list[C]:
        """Return the card of the newest version of each, by name."""
        cards: dict[str, C] = {}
        for name, version in self._there(self._folder):
            card = self._cards(name, version)
            if name not in cards or _age(card) > _age(cards[name]):
                cards[name] = card
        return [cards[name] for name in sorted(cards)]

    def delete(self, card: C) -> None:
        """Let a version be found no longer; what batches need that were submitted with it stays."""
        self._put(card, DELETED, b"")

    def _there(self, prefix: str, *, deleted: bool = False) -> list[tuple[str, str]]:
        """Return name and version of all that is whole, and was not deleted or may be."""
        parts: dict[tuple[str, str], set[str]] = {}
        for key in self._objects.keys(prefix):
            name, version, *rest = key.removeprefix(self._folder).split("/")
            if len(rest) == 1:
                parts.setdefault((name, version), set()).add(rest[0])
        return [place for place, found in parts.items() if CARD in found and (deleted or DELETED not in found)]

    def _named(self, reference: str) -> C:
        """Return the card of ``NAME@VERSION``, deleted or not, or of the newest version of ``NAME``."""
        name, _, version = reference.partition("@")
        return self._cards(name, version) if version else self.card(name)

    def _key(self, card: C, part: str) -> str:
        return f"{self._folder}{card.name}/{card.version}/{part}"

    def _put(self, card: C, part: str, data: bytes, content_type: str = JSON) -> None:
        self._objects.put(self._key(card, part), data, content_type=content_type)

    def _publish(self, card: C, data: bytes) -> None:
        """Write the card, unless it is there: it marks that all else is."""
        if not self._objects.exists(self._key(card, CARD)):
            self._put(card, CARD, data)
        self._objects.delete(self._key(card, DELETED))

    def _unknown(self, reference: str) -> AccentorError:
        return self._error(f"there is no {self._noun} {reference[:200]!r}")

    def _read_card(self, name: str, version: str) -> C:
        try:
            return self._kind.model_validate_json(self._objects.get(f"{self._folder}{name}/{version}/{CARD}"))
        except NotFoundError as error:
            raise self._unknown(f"{name}@{version}") from error


def _age(card: Card) -> tuple[datetime, str]:
    return card.created_at, card.version
