"""Dictionaries of the object store, fetched when a job names one and kept for the next."""

import logging
import tempfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accentor.spec import Encoder, Entry, Feature, ModelCard, Recipe
from accentor.spec.dictionaries import DictionaryCard
from accentor.spec.features import AnyAtom
from accentor.storage import ObjectStore
from accentor.storage.dictionaries import DictionaryStore

if TYPE_CHECKING:
    from accentor.engine import Dictionary

KEPT = 8
"""Dictionaries kept in memory: of 16,384 features and 2,048 units each takes 128 MiB."""

logger = logging.getLogger(__name__)


class Dictionaries:
    """Makes dictionaries known to the engine under ``NAME@VERSION``."""

    def __init__(self, objects: ObjectStore) -> None:
        self._store = DictionaryStore(objects)
        self._known: OrderedDict[str, None] = OrderedDict()

    def feature(self, feature: Feature, model: ModelCard) -> Feature:
        """Return the feature by value; the code of a TopK dictionary keeps naming it.

        Raises
        ------
        UnknownDictionaryError, DigestMismatchError, InvalidFeatureError, UnitOutOfRangeError
            If the dictionary is gone, or is none of the model, or has no such feature.
        """
        if not feature.references:
            return feature
        from accentor.engine import inline

        for atom in feature.factors_of():
            if name := _dictionary_of(atom):
                self._fetch(name, model)
        return inline(feature, model)

    def whole(self, name: str, model: ModelCard) -> "Dictionary":
        """Return a whole dictionary, ``NAME@VERSION``; raises as `feature` does."""
        from accentor.engine.dictionaries import load_dictionary

        self._fetch(name, model)
        return load_dictionary(name)

    def recipe(self, recipe: Recipe, model: ModelCard) -> Recipe:
        """Return the recipe with its opacity feature by value."""
        shown = recipe.opacity_feature
        if shown is None or not shown.references:
            return recipe
        return recipe.model_copy(update={"opacity_feature": self.feature(shown, model)})

    def _fetch(self, name: str, model: ModelCard) -> None:
        if name not in self._known:
            from accentor.engine.dictionaries import forget_dictionary, register_dictionary

            card = self._store.card(name)
            card.check_model(model)
            logger.info("fetching the dictionary %s", name)
            register_dictionary(replace(self._read(card), labels=self._store.table(card).labels), name)
            self._known[name] = None
            if len(self._known) > KEPT:
                forget_dictionary(self._known.popitem(last=False)[0])
        self._known.move_to_end(name)

    def _read(self, card: DictionaryCard) -> "Dictionary":
        from accentor.engine.dictionaries import ChannelDictionary, load_dictionary

        if card.suffix is None:
            return ChannelDictionary(name=card.name, layer=card.layer, units=card.units)
        with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
            path = Path(folder, f"{card.version}{card.suffix}")
            path.write_bytes(self._store.data(card))
            return load_dictionary(path, card.layer, name=card.name, **card.options)  # type: ignore[arg-type]


def _dictionary_of(atom: AnyAtom) -> str | None:
    if isinstance(atom, Entry):
        return atom.dictionary
    return atom.source.rpartition("#")[0] if isinstance(atom, Encoder) and atom.source else None
