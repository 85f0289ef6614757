"""What batches may name, as it lies in the object store."""

from collections.abc import Sequence

from accentor.spec import Feature, ModelCard, TopK
from accentor.spec.catalog import Scanned
from accentor.storage.base import ObjectStore
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore
from accentor.storage.scans import ScanStore


class StoredCatalog:
    """The dictionaries and datasets of an object store, also those that were deleted: batches that name them stay."""

    def __init__(self, objects: ObjectStore) -> None:
        self._dictionaries = DictionaryStore(objects)
        self._datasets = DatasetStore(objects)
        self._scans = ScanStore(objects)

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the dictionary's features by index; `UnknownDictionaryError` if the model has none of this name."""
        return self._dictionaries.features(dictionary, model)

    def images(self, dataset: str) -> Sequence[str]:
        """Return the sha256 of the dataset's images in order; `UnknownDatasetError` if there is none of this name."""
        return self._datasets.ids(dataset)

    def tops(self, dataset: str, model: ModelCard, pairing: TopK, scanned: Scanned) -> Sequence[Sequence[int]]:
        """Return the numbers of the top images of each channel or feature; `InvalidRequestError` without a scan."""
        reference = self._datasets.rows(dataset).card.reference
        if scanned.dictionary is not None and "@" not in scanned.dictionary:
            scanned = Scanned(None, self._dictionaries.card(scanned.dictionary).reference)
        return self._scans.tops(self._scans.chosen(reference, model.digest, pairing, scanned))
