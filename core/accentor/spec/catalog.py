"""What a batch may name instead of listing it: feature dictionaries and datasets."""

from collections.abc import Sequence
from typing import Protocol

from accentor.errors import UnknownDatasetError, UnknownDictionaryError
from accentor.spec.features import Feature
from accentor.spec.models import ModelCard


class Catalog(Protocol):
    """Looks up dictionaries and datasets by name."""

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the dictionary's features by index; `UnknownDictionaryError` if the model has none of this name."""

    def images(self, dataset: str) -> Sequence[str]:
        """Return the sha256 of the dataset's images in order; `UnknownDatasetError` if there is none of this name."""


class EmptyCatalog:
    """A catalog of a service that keeps neither dictionaries nor datasets."""

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:  # noqa: ARG002
        """Raise `UnknownDictionaryError`."""
        raise UnknownDictionaryError(f"there is no dictionary {dictionary!r}: this service has none")

    def images(self, dataset: str) -> Sequence[str]:
        """Raise `UnknownDatasetError`."""
        raise UnknownDatasetError(f"there is no dataset {dataset!r}: this service has none")


EMPTY_CATALOG = EmptyCatalog()
