"""Making datasets beside the requests, one after the other."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from accentor.errors import AccentorError, ServiceError
from accentor.settings import Settings
from accentor.spec.datasets import DatasetSpec, DatasetStatus
from accentor.storage.datasets import DatasetStore

TELL_S = 2.0
"""Seconds between two signs of life of a dataset that is being made."""

logger = logging.getLogger("accentor_api")


class Indexer:
    """Makes one dataset at a time; how far it is lies in the object store, for all APIs to tell."""

    def __init__(self, datasets: DatasetStore, settings: Settings, closing: Callable[[], bool]) -> None:
        self._datasets = datasets
        self._max_pixels = settings.max_image_pixels
        self._closing = closing
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="accentor-indexer")
        self._is_closed = False

    def start(self, spec: DatasetSpec) -> DatasetStatus:
        """Begin to make a dataset; `IllegalTransitionError` if it is being made already."""
        status = self._datasets.begin(spec.name)
        self._pool.submit(self._make, spec)
        return status

    def close(self) -> None:
        """Stop what is under way; it is told as failed."""
        self._is_closed = True
        self._pool.shutdown(cancel_futures=True)

    def _make(self, spec: DatasetSpec) -> None:
        done, told = 0, time.monotonic()

        def on_progress(count: int) -> None:
            nonlocal done, told
            done = count
            if self._is_closed or self._closing():
                raise ServiceError(f"the service was stopped after {count} members: create the dataset again")
            if time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                self._datasets.tell(spec.name, "indexing", count)

        try:
            try:
                self._datasets.create(spec, max_pixels=self._max_pixels, on_progress=on_progress)
                self._datasets.tell(spec.name, "ready", done)
            except AccentorError as error:
                self._datasets.tell(spec.name, "failed", done, error)
            except Exception as error:
                logger.exception("the dataset %s could not be made", spec.name)
                self._datasets.tell(spec.name, "failed", done, error, datetime.now(UTC))
        except ServiceError as error:
            logger.warning("it cannot be told how the dataset %s stands: %s", spec.name, error.detail)
