"""All that running a shard needs from outside."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from accentor.errors import AccentorError
from accentor.settings import Settings
from accentor.spec import Jobs, JobSpec, LineJobs, ModelCard, Result
from accentor.spec.atlases import AtlasBatch
from accentor.spec.scans import ScanBatch
from accentor.state import JobStore, Publish
from accentor.storage import ObjectStore
from accentor.storage.batches import jobs_of, read_batch
from accentor_worker.dictionaries import Dictionaries
from accentor_worker.plan import Images

BATCHES_KEPT = 8
"""Specifications kept from one shard to the next: a large one takes seconds to read."""


class LoadedModel(Protocol):
    """What is asked of a model: the card that says what can be accentuated in it."""

    @property
    def card(self) -> ModelCard:
        """The model's card."""


class Ending(Protocol):
    """What is asked of an accentuation: its files and its result."""

    def files(self, key: str | None = None) -> Mapping[str, bytes]:
        """Return the artefacts by name, the key written into them."""

    def to_result(self, spec: JobSpec, key: str) -> Result:
        """Return what is told of it."""


class ModelSource(Protocol):
    """Where models are got from by name."""

    def get(self, name: str) -> LoadedModel:
        """Return a model ready to use, or raise `ModelNotReadyError`."""


Accentuate = Callable[..., Iterator[tuple[int, Ending | AccentorError]]]
"""`accentor.engine.accentuate_pairs`, or what stands for it in tests."""

MakePair = Callable[..., Any]
"""`accentor.engine.Pair`: image, feature, seed."""


Computes = Callable[[Any], bool]
"""Tells whether a model's device still computes in this process, where an error may have ended that."""


class StoredBatch(NamedTuple):
    """What was submitted: its jobs, and whether they are computed though they were before; or work of another kind."""

    jobs: Jobs | LineJobs | tuple[()]
    force: bool
    work: ScanBatch | AtlasBatch | None = None


class Batches:
    """What was submitted, by batch and model; it never changes, so the last ones read are kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], StoredBatch] = OrderedDict()

    def get(self, objects: ObjectStore, batch_id: str, card: ModelCard) -> StoredBatch:
        """Return a batch; `NotFoundError` if its specification is gone, `ValidationError` if it is not valid here."""
        place = (batch_id, card.digest)
        if place not in self._kept:
            batch = read_batch(objects, batch_id)
            if isinstance(batch, ScanBatch | AtlasBatch):
                self._kept[place] = StoredBatch((), batch.force, batch)
            else:
                self._kept[place] = StoredBatch(jobs_of(objects, batch_id, batch, card), batch.force)
            if len(self._kept) > BATCHES_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]


@dataclass(frozen=True)
class Services:
    """All that running a shard needs from outside.

    Attributes
    ----------
    owner
        Names this worker's parent process; the first part of its leases' tokens.
    stop
        Set when the process is asked to end: the shard in hand is put back.
    """

    settings: Settings
    jobs: JobStore
    objects: ObjectStore
    publish: Publish
    models: ModelSource
    accentuate: Accentuate
    make_pair: MakePair
    owner: str
    stop: threading.Event = field(default_factory=threading.Event)
    computes: Computes = lambda _: True  # noqa: E731
    batches: Batches = field(default_factory=Batches)

    @cached_property
    def dictionaries(self) -> Dictionaries:
        """The dictionaries that jobs name."""
        return Dictionaries(self.objects)

    @cached_property
    def plans(self) -> "OrderedDict[str, Any]":
        """The plan of the atlas that was last worked on."""
        return OrderedDict()

    @cached_property
    def shards_there(self) -> dict[str, int]:
        """How many of the first shards of a scan, by its batch, were found to be there."""
        return {}

    @cached_property
    def images(self) -> Images:
        """The images that jobs name, the last ones decoded."""
        return Images(self.objects, self.settings.max_image_pixels)
