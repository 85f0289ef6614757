"""Moving atlases on, from step to step: over the stores, without Celery, and by as many at once as there are.

Each step is a batch. One whose batch has ended is followed by the next: scan, select, accentuate, evaluate, publish.
A step's own batch has an id that follows from the atlas', so that of several who make it one does.
"""

import logging
from contextlib import suppress
from datetime import UTC, datetime

from accentor.errors import AccentorError, IllegalTransitionError, NotFoundError, RequestError, ServiceError
from accentor.settings import Settings
from accentor.spec import BatchState, BatchStatus, Failure, ModelCard
from accentor.spec.atlases import AtlasBatch, AtlasSpec, AtlasStep, AtlasStepName, step_batch_id
from accentor.spec.scans import WantedScan
from accentor.state import AtlasRecord, AtlasStore, JobStore, NewBatch
from accentor.storage import ObjectStore
from accentor.storage.atlases import AtlasObjects
from accentor.storage.batches import AnyBatch, read_batch, read_card, write_batch
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore
from accentor.storage.scans import ScanStore

ORDER = tuple(AtlasStepName)
METADATA = "atlas"
"""Name under which a step's batch says whose it is."""

NEEDED = frozenset({AtlasStepName.SCAN, AtlasStepName.SELECT, AtlasStepName.PUBLISH})
"""Steps without whose success there is no site; of the others what there is is published."""

logger = logging.getLogger(__name__)


class Stepper:
    """Moves atlases on."""

    def __init__(self, atlases: AtlasStore, jobs: JobStore, objects: ObjectStore, settings: Settings) -> None:
        self._atlases = atlases
        self._jobs = jobs
        self._objects = objects
        self._settings = settings
        self._scans = ScanStore(objects)

    def step_all(self) -> None:
        """Look once after every atlas that has not ended."""
        for atlas_id in self._atlases.unfinished():
            try:
                self.step(atlas_id)
            except ServiceError:
                raise
            except Exception:
                logger.exception("atlas %s does not go on", atlas_id)

    def step(self, atlas_id: str) -> None:
        """Look once after an atlas: begin its step, or go on if that has ended."""
        try:
            atlas = self._atlases.get(atlas_id)
            if atlas.finished_at is not None:
                return
            batch = self._batch(atlas)
            if atlas.state is BatchState.CANCELING:
                self._cancel(atlas, batch)
            elif batch is None:
                self._begin(atlas)
            elif batch.state.terminal:
                self._follow(atlas, batch)
        except RequestError as error:
            self._fail(atlas_id, error)

    def _batch(self, atlas: AtlasRecord) -> BatchStatus | None:
        return None if atlas.batch is None else self._jobs.status(atlas.batch)

    def _begin(self, atlas: AtlasRecord) -> None:
        """Make the batch of the present step."""
        card = read_card(self._objects, atlas.digest)
        if atlas.step is AtlasStepName.SCAN:
            self._begin_scan(atlas, card)
            return
        batch_id = step_batch_id(atlas.id, atlas.step)
        if atlas.step is AtlasStepName.ACCENTUATE:
            selection = AtlasObjects(self._objects, atlas.id).selection()
            if not selection.pictures:
                self._atlases.move(atlas, AtlasStep(name=atlas.step), AtlasStepName.EVALUATE)
                return
            self._create(atlas, card, read_batch(self._objects, batch_id), selection.pictures)
            return
        total = 1
        if atlas.step is AtlasStepName.EVALUATE:
            total = AtlasObjects(self._objects, atlas.id).selection().parts
        scan = self._scan(atlas.spec, card).id
        batch = AtlasBatch(
            atlas=atlas.id, step=atlas.step, total=total, scan=scan, spec=atlas.spec, metadata=metadata_of(atlas)
        )
        write_batch(self._objects, batch_id, batch)
        self._create(atlas, card, batch, total)

    def _begin_scan(self, atlas: AtlasRecord, card: ModelCard) -> None:
        """Make the scan, unless it is there or under way."""
        wanted = self._scan(atlas.spec, card)
        dataset = wanted.dataset.reference
        there = self._scans.card(dataset, wanted.id)
        if there is not None:
            counts = dict.fromkeys(("total", "done", "cached"), there.shards)
            ended = AtlasStep(name=atlas.step, state=BatchState.SUCCEEDED, **counts)
            self._atlases.move(atlas, ended, AtlasStepName.SELECT)
            return
        others = self._scans.batch(dataset, wanted.id)
        if others is not None and self._runs(others):
            self._atlases.begin(atlas, others)
            return
        batch_id = step_batch_id(atlas.id, atlas.step)
        batch = wanted.batch(batch_id, DatasetStore(self._objects).names(dataset), metadata_of(atlas))
        write_batch(self._objects, batch_id, batch)
        self._scans.set_batch(dataset, wanted.id, batch_id)
        self._create(atlas, card, batch, batch.total)

    def _scan(self, spec: AtlasSpec, card: ModelCard) -> WantedScan:
        dataset = DatasetStore(self._objects).card(spec.dataset)
        dictionary = None if spec.dictionary is None else DictionaryStore(self._objects).card(spec.dictionary)
        return WantedScan(spec.scan, dataset, card, spec.layer, dictionary)

    def _runs(self, batch_id: str) -> bool:
        try:
            return not self._jobs.status(batch_id).state.terminal
        except NotFoundError:
            return False

    def _create(self, atlas: AtlasRecord, card: ModelCard, batch: AnyBatch, total: int) -> None:
        batch_id = step_batch_id(atlas.id, atlas.step)
        pictures = atlas.step is AtlasStepName.ACCENTUATE
        self._jobs.create_batch(
            NewBatch(
                id=batch_id,
                model=card.name,
                digest=card.digest,
                lane=batch.lane,
                total=total,
                created_at=datetime.now(UTC),
                metadata=dict(batch.metadata),
                lifetime_s=self._settings.batch_lifetime_s,
                shard_jobs=None if pictures else 1,
                owner=atlas.owner if pictures else None,
            )
        )
        self._atlases.begin(atlas, batch_id)

    def _follow(self, atlas: AtlasRecord, batch: BatchStatus) -> None:
        """Go on from a step whose batch has ended."""
        ended = AtlasStep.of(atlas.step, batch)
        if batch.counts.succeeded < (batch.total if atlas.step in NEEDED else 0):
            state = BatchState.CANCELED if batch.counts.failed == 0 else BatchState.FAILED
            self._atlases.end(atlas, state, ended, failure=self._failure(batch))
        elif atlas.step is AtlasStepName.PUBLISH:
            self._finish(atlas, ended)
        else:
            self._atlases.move(atlas, ended, ORDER[ORDER.index(atlas.step) + 1])

    def _finish(self, atlas: AtlasRecord, ended: AtlasStep) -> None:
        site = AtlasObjects(self._objects, atlas.id).card()
        if site is None:
            raise NotFoundError(f"the site of atlas {atlas.id} is gone")
        is_whole = not site.failures and all(step.done == step.total and not step.failed for step in atlas.ended)
        self._atlases.end(atlas, BatchState.SUCCEEDED if is_whole else BatchState.PARTIALLY_FAILED, ended, site=site)

    def _cancel(self, atlas: AtlasRecord, batch: BatchStatus | None) -> None:
        """End an atlas as canceled once nothing of it runs; a scan that others asked for goes on."""
        is_own = batch is not None and batch.metadata.get(METADATA) == atlas.id
        if batch is not None and is_own and not batch.state.terminal:
            with suppress(IllegalTransitionError):
                batch = self._jobs.request_cancel(batch.id)
        if batch is None or not is_own or batch.state.terminal:
            self._atlases.end(atlas, BatchState.CANCELED, AtlasStep.of(atlas.step, batch))

    def _failure(self, batch: BatchStatus) -> Failure | None:
        failures = self._jobs.failures(batch.id, limit=1) if batch.counts.failed else []
        return failures[0][1] if failures else batch.failure

    def _fail(self, atlas_id: str, error: AccentorError) -> None:
        """End an atlas whose dataset, dictionary or batch is gone."""
        logger.warning("atlas %s fails: %s", atlas_id, error.detail)
        try:
            atlas = self._atlases.get(atlas_id)
        except NotFoundError:
            return
        failure = Failure(code=error.code, detail=error.detail)
        self._atlases.end(atlas, BatchState.FAILED, AtlasStep(name=atlas.step, batch=atlas.batch), failure=failure)


def metadata_of(atlas: AtlasRecord) -> dict[str, str]:
    """Return what a step's batch says of its atlas."""
    return {METADATA: atlas.id}
