"""What batches may name, as it lies in the object store."""

from collections.abc import Sequence

from accentor.errors import UnknownDatasetError
from accentor.spec import Feature, ModelCard
from accentor.storage.base import ObjectStore
from accentor.storage.dictionaries import DictionaryStore


class StoredCatalog:
    """The dictionaries of an object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._dictionaries = DictionaryStore(objects)

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the dictionary's features by index; `UnknownDictionaryError` if the model has none of this name."""
        return self._dictionaries.features(dictionary, model)

    def images(self, dataset: str) -> Sequence[str]:
        """Raise `UnknownDatasetError`."""
        raise UnknownDatasetError(f"there is no dataset {dataset!r}: this service has none")
