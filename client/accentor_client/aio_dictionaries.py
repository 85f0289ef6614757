"""Feature dictionaries at a service, asynchronously; the twin of `dictionaries`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
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
from accentor_client._transport import AsyncTransport


class AsyncDictionaries:
    """Dictionaries: made once, and named by jobs and batches, ``dictionary:NAME#3``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, name: str, source: DictionarySource | None = None, *, model: str, **options: Unpack[DictionaryOptions]
    ) -> DictionaryCard:
        """Make a dictionary; a file is uploaded first; see `Dictionaries.create`."""
        data = await asyncio.to_thread(file_of, source)
        return await self._transport.run(making(name, model, data, options))

    async def get(self, name: str) -> DictionaryCard:
        """Return the card of a dictionary's newest version, or of ``NAME@VERSION``."""
        return await self._transport.send(_calls.get_dictionary(name))

    async def versions(self, name: str) -> Sequence[DictionaryCard]:
        """Return all versions, the newest first."""
        return await self._transport.send(_calls.list_dictionary_versions(name))

    async def scans(self, name: str) -> Sequence[ScanCard]:
        """Return the finished scans of a dictionary, over any dataset, the newest first."""
        return await self._transport.send(_calls.list_dictionary_scans(name))

    async def list(self, model: str | None = None) -> AsyncIterator[DictionaryCard]:
        """Go through the newest versions of all dictionaries, or of a model's, by name."""
        async for card in self._transport.go_through(all_dictionaries(model)):
            yield card

    async def features(
        self, name: str, *, search: str | None = None, state: str | None = None, scan: str | None = None
    ) -> AsyncIterator[DictionaryFeature]:
        """Go through the features: with ``search`` in the label, of one state, with statistics of a scan, if given."""
        async for feature in self._transport.go_through(all_features(name, search, state, scan)):
            yield feature

    async def delete(self, name: str) -> None:
        """Delete a dictionary, or ``NAME@VERSION``; jobs that are still to be computed with it fail."""
        await self._transport.send(_calls.delete_dictionary(name))
