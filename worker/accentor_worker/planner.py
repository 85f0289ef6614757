"""From shards to the jobs that are really to be computed."""

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property

from pydantic import ValidationError

from accentor.errors import (
    AccentorError,
    InvalidRequestError,
    ModelChangedError,
    NotFoundError,
    RequestError,
    ServiceError,
)
from accentor.spec import KeyMaker
from accentor.spec.atlases import AtlasBatch
from accentor.spec.scans import ScanBatch
from accentor.state import Shard
from accentor_worker.ledger import Ledger
from accentor_worker.plan import Item
from accentor_worker.services import LoadedModel, Services, StoredBatch

logger = logging.getLogger(__name__)


class Planner:
    """Plans shards of one model; what needs no computation, or cannot be computed, is ended on the way.

    Attributes
    ----------
    works
        The shards that are of scans and atlases, with their unfinished jobs.
    """

    def __init__(self, services: Services, ledger: Ledger, model: str) -> None:
        self._services = services
        self._jobs = services.jobs
        self._ledger = ledger
        self._name = model
        self.works: list[tuple[Shard, list[int], ScanBatch | AtlasBatch]] = []

    def plan(self, shards: Sequence[Shard]) -> tuple[list[Item], list[tuple[Item, Item]]]:
        """Return the jobs to compute, and those that ask for the same as one of these, each with that one."""
        items: dict[str, Item] = {}
        twins: list[tuple[Item, Item]] = []
        for shard in shards:
            for item in self._items(shard):
                if item.key in items:
                    twins.append((item, items[item.key]))
                else:
                    items[item.key] = item
        return list(items.values()), twins

    @cached_property
    def model(self) -> LoadedModel:
        """The model of the shards, loaded when it is first needed."""
        return self._services.models.get(self._name)

    @cached_property
    def _keys(self) -> KeyMaker:
        return KeyMaker(self.model.card)

    def _items(self, shard: Shard) -> Iterator[Item]:
        left = self._unfinished(shard)
        if not left:
            return
        try:
            batch = self._batch(shard)
        except ServiceError:
            raise
        except AccentorError as error:
            self._ledger.fail(shard, left, error)
            return
        if batch.work is not None:
            self.works.append((shard, left, batch.work))
            return
        for index in left:
            try:
                item = self._item(shard, index, batch)
            except RequestError as error:
                self._ledger.fail(shard, [index], error)
                continue
            if batch.force or not self._ledger.succeed_cached(item):
                yield item

    def _item(self, shard: Shard, index: int, batch: StoredBatch) -> Item:
        try:
            spec = batch.jobs[index]
        except ValidationError as error:
            raise InvalidRequestError(f"the job is not valid here: {error}") from error
        self.model.card.check_recipe(spec.recipe)
        return Item(shard, index, spec, self._keys.key(spec))

    def _unfinished(self, shard: Shard) -> list[int]:
        try:
            states = self._jobs.job_states(shard.batch, shard.start, shard.stop)
        except NotFoundError:
            logger.info("shard %s: its batch was deleted", shard.id)
            return []
        return [index for index, state in zip(shard.indices, states, strict=True) if not state.terminal]

    def _batch(self, shard: Shard) -> StoredBatch:
        submitted, loaded = self._jobs.model_digest(shard.batch), self.model.card.digest
        if submitted != loaded:
            raise ModelChangedError(
                f"the batch was submitted for the weights {submitted} of {shard.model}; this worker has {loaded}"
            )
        try:
            return self._services.batches.get(self._services.objects, shard.batch, self.model.card)
        except ValidationError as error:
            raise InvalidRequestError(f"the batch's specification is not valid here: {error}") from error
