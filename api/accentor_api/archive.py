"""What was submitted, as it was stored: the specification of each batch, the card of the model it was meant for."""

from functools import lru_cache

from accentor.spec import Catalog, Jobs, LineJobs, ModelCard
from accentor.storage import ObjectStore
from accentor.storage.batches import AnyBatch, jobs_of, keep_card, read_batch, read_card, write_batch
from accentor.storage.catalog import StoredCatalog

BATCHES_KEPT = 16
"""Specifications kept in memory: a large one takes some ten megabytes."""

CARDS_KEPT = 32


class Archive:
    """Specifications and cards in the object store; neither ever changes, so the last ones read are kept.

    The card is kept by the model's digest: a batch stays readable when its model's name has come to mean another.
    """

    def __init__(self, objects: ObjectStore, catalog: Catalog | None = None) -> None:
        self._objects = objects
        self.catalog = catalog or StoredCatalog(objects)
        self._cards = lru_cache(CARDS_KEPT)(self._read_card)
        self._batches = lru_cache(BATCHES_KEPT)(self._read_jobs)

    def keep(self, batch_id: str, batch: AnyBatch, card: ModelCard) -> None:
        """Store what was submitted, before its batch is created."""
        keep_card(self._objects, card)
        write_batch(self._objects, batch_id, batch)

    def card(self, digest: str) -> ModelCard:
        """Return the card of the model with this digest."""
        return self._cards(digest)

    def jobs(self, batch_id: str, digest: str) -> Jobs | LineJobs:
        """Return the jobs of a batch that was submitted for the model with this digest."""
        return self._batches(batch_id, digest)

    def _read_card(self, digest: str) -> ModelCard:
        return read_card(self._objects, digest)

    def _read_jobs(self, batch_id: str, digest: str) -> Jobs | LineJobs:
        batch = read_batch(self._objects, batch_id)
        return jobs_of(self._objects, batch_id, batch, self.card(digest), self.catalog)
