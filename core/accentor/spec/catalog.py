"""What a batch may name instead of listing it: feature dictionaries and datasets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from accentor.errors import UnknownDatasetError, UnknownDictionaryError
from accentor.spec.features import Feature
from accentor.spec.models import ModelCard

if TYPE_CHECKING:
    from accentor.spec.batches import TopK


class Scanned(NamedTuple):
    """What a scan is of: all channels of a layer, or a dictionary."""

    layer: str | None
    dictionary: str | None


class Catalog(Protocol):
    """Looks up dictionaries and datasets by name."""

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:
        """Return the dictionary's features by index; `UnknownDictionaryError` if the model has none of this name."""

    def images(self, dataset: str) -> Sequence[str]:
        """Return the sha256 of the dataset's images in order; `UnknownDatasetError` if there is none of this name."""

    def tops(self, dataset: str, model: ModelCard, pairing: "TopK", scanned: Scanned) -> Sequence[Sequence[int]]:
        """Return the numbers of the top images of each channel or feature; `InvalidRequestError` without a scan."""


class EmptyCatalog:
    """A catalog of a service that keeps neither dictionaries nor datasets."""

    def features(self, dictionary: str, model: ModelCard) -> Sequence[Feature]:  # noqa: ARG002
        """Raise `UnknownDictionaryError`."""
        raise UnknownDictionaryError(f"there is no dictionary {dictionary!r}: this service has none")

    def images(self, dataset: str) -> Sequence[str]:
        """Raise `UnknownDatasetError`."""
        raise UnknownDatasetError(f"there is no dataset {dataset!r}: this service has none")

    def tops(
        self,
        dataset: str,
        model: ModelCard,  # noqa: ARG002
        pairing: "TopK",  # noqa: ARG002
        scanned: Scanned,  # noqa: ARG002
    ) -> Sequence[Sequence[int]]:
        """Raise `UnknownDatasetError`."""
        raise UnknownDatasetError(f"there is no dataset {dataset!r}: this service has none")


EMPTY_CATALOG = EmptyCatalog()
