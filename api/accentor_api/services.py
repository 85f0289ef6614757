"""What the endpoints work with: the settings, the stores, the queue, the links."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, ParamSpec, Self, TypeVar

import anyio
from fastapi import Depends, Request

from accentor.errors import StateUnavailableError, StorageUnavailableError
from accentor.housekeeping import remove, remove_atlas
from accentor.settings import Settings
from accentor.state import (
    AccessStore,
    AtlasStore,
    JobStore,
    OnceStore,
    WebhookStore,
    celery_producer,
    connect,
    dispatch,
    shard_publisher,
)
from accentor.stepping import Stepper
from accentor.storage import ObjectStore, open_store
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore
from accentor.storage.images import StoredImages
from accentor.storage.scans import ScanStore
from accentor_api.archive import Archive
from accentor_api.backlog import Backlog
from accentor_api.callers import current_key
from accentor_api.indexer import Indexer
from accentor_api.links import Links
from accentor_api.looks import Looks

logger = logging.getLogger("accentor_api")

READERS = 8
"""Requests to the object store that the API has under way at once."""

DECODERS = 2
"""Uploaded images that are decoded at once: each takes memory for all its pixels."""

EXAMINERS = 1
"""Dictionaries that are looked through at once: each takes memory for all its numbers."""

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Services:
    """Everything that one API process holds open."""

    def __init__(self, settings: Settings, objects: ObjectStore, closing: Callable[[], bool]) -> None:
        self.settings = settings
        self.closing = closing
        self.objects = objects
        self.archive = Archive(objects)
        self.datasets = DatasetStore(objects)
        self.images = StoredImages(objects, self.datasets)
        self.scans = ScanStore(objects)
        self.indexer = Indexer(self.datasets, settings, closing)
        self.dictionaries = DictionaryStore(objects)
        self.looks = Looks(1.0 / (2.0 * settings.events_per_s))
        self.links = Links(objects, settings.signing_secret, settings.link_seconds)
        self.decoders = anyio.CapacityLimiter(DECODERS)
        self.examiners = anyio.CapacityLimiter(EXAMINERS)
        self._redis = connect(settings)
        self.jobs = JobStore(self._redis)
        self.atlases = AtlasStore(self._redis)
        self.stepper = Stepper(self.atlases, self.jobs, objects, settings)
        self.access = AccessStore(self._redis)
        self.once = OnceStore(self._redis)
        self.webhooks = WebhookStore(self._redis)
        self.backlog = Backlog(self.jobs)
        self._celery = celery_producer(settings)
        self._publish = shard_publisher(self._celery)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="accentor-objects")

    @classmethod
    def open(cls, settings: Settings, closing: Callable[[], bool]) -> Self:
        """Open them, and let the folder or bucket be created if it is missing; nobody waits for that.

        ``closing`` tells whether the server has been told to stop.
        """
        services = cls(settings, open_store(settings), closing)
        services._readers.submit(services._ensure_bucket)
        return services

    def close(self) -> None:
        """Close every connection."""
        self.indexer.close()
        self._readers.shutdown(cancel_futures=True)
        self._celery.close()
        self._redis.close()

    def dispatch(self) -> None:
        """Hand out shards while there is room in the queues; the workers do so too, later, if it fails here."""
        try:
            dispatch(self.jobs, self._publish, self.settings)
        except StateUnavailableError as error:
            logger.warning("no shard could be handed out: %s", error.detail)

    def admit(self, batch_id: str, jobs: int) -> None:
        """Count jobs that are about to be queued against the limit of the API key that submits them, if it has one."""
        key = current_key.get()
        if key is not None:
            self.access.admit(key, batch_id, jobs)

    def read_each(self, read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Read from the object store for each item, several at once, in order, and never far ahead."""
        for chunk in batched(items, READERS * 4):
            yield from self._readers.map(read, chunk)

    def write_later(self, write: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Let something be written to the object store while the caller goes on."""
        return self._readers.submit(write, *args, **kwargs)

    def remove_batch(self, batch_id: str, *, results: bool) -> None:
        """Delete an ended batch: it is gone at once, its results, which may be many, a little later."""
        digest = self.jobs.model_digest(batch_id)
        self.jobs.delete(batch_id, results=results)
        removal = self.write_later(remove, self.jobs, self.objects, batch_id, digest, results=results)
        removal.add_done_callback(_log_failure)

    def remove_atlas(self, atlas_id: str) -> None:
        """Delete an ended atlas: it is gone at once, its site, which may be large, a little later."""
        self.atlases.delete(atlas_id)
        self.write_later(remove_atlas, self.atlases, self.objects, atlas_id).add_done_callback(_log_failure)

    def _ensure_bucket(self) -> None:
        try:
            self.objects.ensure_bucket()
        except StorageUnavailableError as error:
            logger.warning("the object store is not ready: %s", error.detail)


def _log_failure(removal: "Future[None]") -> None:
    error = None if removal.cancelled() else removal.exception()
    if error is not None:
        logger.warning("what was deleted is removed by the workers, later: %s", error)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of this size, the last one shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


WithServices = Annotated[Services, Depends(_of)]
