"""What batches may name, as it lies in the object store."""

from collections.abc import Sequence

from accentor.spec import Feature, ModelCard
from accentor.storage.base import ObjectStore
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore


class StoredCatalog:
    """The dictionaries and datasets of an object store, also those that were deleted: batches that name them stay."""

    def __init__(self, objects: ObjectStore) -> None:
        self._dictionaries = DictionaryStore(objects)
        self._datasets = DatasetStore(objects)

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the dictionary's features by index; `UnknownDictionaryError` if the model has none of this name."""
        return self._dictionaries.features(dictionary, model)

    def images(self, dataset: str) -> Sequence[str]:
        """Return the sha256 of the dataset's images in order; `UnknownDatasetError` if there is none of this name."""
        return self._datasets.ids(dataset)
