"""From the name of a dictionary or dataset to one version of it: what is stored must mean the same for ever."""

import re
from collections.abc import Callable
from typing import TypeVar

from accentor.errors import InvalidFeatureError
from accentor.spec import BatchSpec, DatasetImages, DictionaryFeatures, Encoder, Entry, Feature, ModelCard, Recipe
from accentor.spec.dictionaries import REFERENCE_FORM, DictionaryCard
from accentor.spec.features import OneAtom, replace_atoms
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore

T = TypeVar("T")


class Pins:
    """Pins what one submission for a model names: the same name means the same version throughout."""

    def __init__(self, store: DictionaryStore, datasets: DatasetStore, model: ModelCard) -> None:
        self._store = store
        self._datasets = datasets
        self._model = model
        self._cards: dict[str, DictionaryCard] = {}

    def feature(self, feature: Feature) -> Feature:
        """Return the feature with the versions of its dictionaries named.

        Raises
        ------
        UnknownDictionaryError, InvalidFeatureError, UnitOutOfRangeError
            If it names a file, a dictionary that is not there or for another model, or a unit that it has not.
        """
        return replace_atoms(feature, self._atom) if feature.references else feature

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe with its opacity feature pinned."""
        shown = recipe.opacity_feature
        if shown is None or not shown.references:
            return recipe
        return recipe.model_copy(update={"opacity_feature": self.feature(shown)})

    def batch(self, batch: BatchSpec) -> BatchSpec:
        """Return the batch with all that it names pinned."""
        changes: dict[str, object] = {"recipe": self.recipe(batch.recipe)}
        if isinstance(batch.features, DictionaryFeatures):
            card = self.card(batch.features.dictionary)
            changes["features"] = batch.features.model_copy(update={"dictionary": card.reference})
        elif isinstance(batch.features, tuple):
            changes["features"] = _each(batch.features, self.feature)
        if isinstance(batch.images, DatasetImages):
            dataset = self._datasets.card(batch.images.dataset)
            changes["images"] = batch.images.model_copy(update={"dataset": dataset.reference})
        if batch.jobs is not None:
            changes["jobs"] = tuple(
                job.model_copy(
                    update={
                        "feature": self.feature(job.feature),
                        "recipe": None if job.recipe is None else self.recipe(job.recipe),
                    }
                )
                for job in batch.jobs
            )
        return batch.model_copy(update=changes)

    def card(self, reference: str) -> DictionaryCard:
        """Return the card of a dictionary that is the model's."""
        if reference not in self._cards:
            card = self._store.card(reference)
            card.check_model(self._model)
            self._cards[reference] = card
        return self._cards[reference]

    def _atom(self, atom: OneAtom) -> OneAtom:
        if isinstance(atom, Entry):
            card = self._usable(atom.dictionary, atom.unit, str(atom))
            return atom.model_copy(update={"dictionary": card.reference})
        if isinstance(atom, Encoder) and atom.source is not None:
            name, _, unit = atom.source.rpartition("#")
            card = self._usable(name, int(unit), str(atom))
            if card.layer != atom.layer:
                raise InvalidFeatureError(
                    f"dictionary {card.name!r} is for layer {card.layer!r}, not for {atom.layer!r}"
                )
            if atom.code == "post" and card.kind != "encoder":
                raise InvalidFeatureError(
                    f"dictionary {card.name!r} is of {card.kind}: there is no code after an activation"
                )
            return atom.model_copy(update={"source": f"{card.reference}#{unit}"})
        if atom.reference is not None:
            raise _no_file(str(atom))
        return atom

    def _usable(self, reference: str, unit: int, text: str) -> DictionaryCard:
        if not re.fullmatch(REFERENCE_FORM, reference):
            raise _no_file(text)
        card = self.card(reference)
        card.check_unit(unit)
        if card.zero + card.not_finite > len(card.dead_features):
            self._store.table(card).check_usable(card, unit)
        return card


def without_versions(feature: Feature) -> Feature:
    """Return a pinned feature as it was submitted by whoever named no version."""
    return replace_atoms(feature, _without_version) if feature.references else feature


def _without_version(atom: OneAtom) -> OneAtom:
    if isinstance(atom, Entry):
        return atom.model_copy(update={"dictionary": atom.dictionary.partition("@")[0]})
    if isinstance(atom, Encoder) and atom.source is not None:
        name, _, unit = atom.source.rpartition("#")
        return atom.model_copy(update={"source": f"{name.partition('@')[0]}#{unit}"})
    return atom


def _each(items: tuple[T, ...], change: Callable[[T], T]) -> tuple[T, ...]:
    return tuple(change(item) for item in items)


def _no_file(text: str) -> InvalidFeatureError:
    return InvalidFeatureError(
        f"{text} names a file: a service takes features by their values, or by the name of one of its dictionaries"
    )
