"""Feature dictionaries at a service."""

from collections.abc import Iterator, Sequence
from typing import Unpack

from accentor.spec import DictionaryCard, DictionaryFeature
from accentor.spec.scans import ScanCard
from accentor_client import _calls
from accentor_client._dictionaries import (
    DictionaryOptions,
    DictionarySource,
    all_dictionaries,
    all_features,
    file_of,
    making,
)
from accentor_client._transport import Transport


class Dictionaries:
    """Dictionaries: made once, and named by jobs and batches, ``dictionary:NAME#3``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, name: str, source: DictionarySource | None = None, *, model: str, **options: Unpack[DictionaryOptions]
    ) -> DictionaryCard:
        """Make a dictionary; a file is uploaded first. The same contents are made once.

        Parameters
        ----------
        source
            A ``.npy`` or ``.safetensors`` file, its bytes, or a dictionary of `accentor.engine`; none: with
            ``channels=True`` all channels of ``layer``, or the file at the key ``object`` of the service's store.
        model
            The model that it is for.

        Raises
        ------
        InvalidFeatureError, UnknownLayerError
            If it does not fit the model; both are named.
        """
        return self._transport.run(making(name, model, file_of(source), options))

    def get(self, name: str) -> DictionaryCard:
        """Return the card of a dictionary's newest version, or of ``NAME@VERSION``."""
        return self._transport.send(_calls.get_dictionary(name))

    def versions(self, name: str) -> Sequence[DictionaryCard]:
        """Return all versions, the newest first."""
        return self._transport.send(_calls.list_dictionary_versions(name))

    def scans(self, name: str) -> Sequence[ScanCard]:
        """Return the finished scans of a dictionary, over any dataset, the newest first."""
        return self._transport.send(_calls.list_dictionary_scans(name))

    def list(self, model: str | None = None) -> Iterator[DictionaryCard]:
        """Go through the newest versions of all dictionaries, or of a model's, by name."""
        yield from self._transport.go_through(all_dictionaries(model))

    def features(
        self, name: str, *, search: str | None = None, state: str | None = None, scan: str | None = None
    ) -> Iterator[DictionaryFeature]:
        """Go through the features: with ``search`` in the label, of one state, with statistics of a scan, if given."""
        yield from self._transport.go_through(all_features(name, search, state, scan))

    def delete(self, name: str) -> None:
        """Delete a dictionary, or ``NAME@VERSION``; jobs that are still to be computed with it fail."""
        self._transport.send(_calls.delete_dictionary(name))
