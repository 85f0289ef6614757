"""Removing what nobody needs any more: batches whose lifetime is over or that were deleted, and abandoned uploads.

A result is kept by its content and may be another batch's too. It goes only if no batch of the same model that is left
uses the same image: that keeps some results longer than needed, and never removes one that somebody still has. A shard
of a scan goes if no other scan that is left has it.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress

from pydantic import ValidationError

from accentor.errors import IllegalTransitionError, NotFoundError, RequestError
from accentor.spec import Jobs, KeyMaker, ModelCard
from accentor.spec.scans import ScanBatch
from accentor.state import AtlasStore, JobStore
from accentor.storage import ObjectStore
from accentor.storage.batches import AnyBatch, jobs_of, read_batch, read_card
from accentor.storage.keys import atlas_prefix, batch_prefix, is_upload_key, result_key, result_prefix

PAGE = 200

logger = logging.getLogger(__name__)


def tidy(jobs: JobStore, objects: ObjectStore) -> int:
    """Remove expired and deleted batches and abandoned uploads; return how many there were."""
    count = 0
    for batch_id, digest, results in jobs.expired():
        try:
            jobs.delete(batch_id, results=True)
        except NotFoundError:
            logger.info("batch %s was deleted: its objects go", batch_id)
        except IllegalTransitionError:
            continue
        remove(jobs, objects, batch_id, digest, results=results)
        count += 1
    for name in jobs.abandoned_uploads():
        logger.info("the upload of %s was abandoned: its objects go", name)
        remove_objects(objects, name if is_upload_key(name) else batch_prefix(name))
        jobs.end_upload(name)
        count += 1
    return count


def tidy_atlases(atlases: AtlasStore, objects: ObjectStore) -> int:
    """Remove the objects of deleted atlases; return how many there were."""
    deleted = atlases.deleted()
    for atlas_id in deleted:
        remove_atlas(atlases, objects, atlas_id)
    return len(deleted)


def remove_atlas(atlases: AtlasStore, objects: ObjectStore, atlas_id: str) -> None:
    """Remove the objects of an atlas that nobody sees any more, its first page first."""
    objects.delete(atlas_prefix(atlas_id, "site/index.html"))
    remove_objects(objects, atlas_prefix(atlas_id))
    atlases.forget(atlas_id)


def remove(jobs: JobStore, objects: ObjectStore, batch_id: str, digest: str, *, results: bool) -> None:
    """Remove a batch that nobody sees any more; what is cut short is done by the next call."""
    if results:
        with suppress(RequestError, ValidationError):
            remove_results(jobs, objects, batch_id, digest)
    remove_objects(objects, batch_prefix(batch_id))
    jobs.forget(batch_id)


def remove_results(jobs: JobStore, objects: ObjectStore, batch_id: str, digest: str) -> int:
    """Remove the results of a batch that no other batch may need; return how many there were."""
    card, batch = read_card(objects, digest), read_batch(objects, batch_id)
    free = needs_of(objects, batch_id, batch, card)
    for other in _others(jobs, batch_id):
        if jobs.model_digest(other) == digest and free:
            with suppress(RequestError, ValidationError):
                free -= needs_of(objects, other, read_batch(objects, other), card)
    count = 0
    for key in _keys(objects, batch_id, batch, card, free) if free else ():
        objects.delete(result_key(key))
        remove_objects(objects, f"{result_prefix(key)}/")
        count += 1
    return count


def needs_of(objects: ObjectStore, batch_id: str, batch: AnyBatch, card: ModelCard) -> set[bytes]:
    """Return the sha256 of every image that the jobs of a batch need, or the keys of a scan's shards, as bytes."""
    if isinstance(batch, ScanBatch):
        return {bytes.fromhex(shard.key) for shard in batch.shards}
    jobs = jobs_of(objects, batch_id, batch, card)
    if isinstance(jobs, Jobs):
        return {bytes.fromhex(image) for image in jobs.images}
    return {bytes.fromhex(json.loads(line)["image"]) for line in jobs.lines()}


def _keys(objects: ObjectStore, batch_id: str, batch: AnyBatch, card: ModelCard, free: set[bytes]) -> Iterator[str]:
    """Yield the keys of a batch's results that need nothing but what is free."""
    if isinstance(batch, ScanBatch):
        yield from (shard.key for shard in batch.shards if bytes.fromhex(shard.key) in free)
        return
    keys = KeyMaker(card)
    yield from (keys.key(job) for job in jobs_of(objects, batch_id, batch, card) if bytes.fromhex(job.image) in free)


def remove_objects(objects: ObjectStore, prefix: str) -> None:
    """Remove every object below a prefix."""
    for key in list(objects.keys(prefix)):
        objects.delete(key)


def _others(jobs: JobStore, batch_id: str) -> Iterator[str]:
    cursor = None
    while page := jobs.recent(PAGE, cursor):
        yield from (status.id for status in page if status.id != batch_id)
        cursor = page[-1].id
