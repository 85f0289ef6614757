"""All that running a shard needs from outside."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from accentor.errors import AccentorError
from accentor.settings import Settings
from accentor.spec import JobSpec, ModelCard, Result
from accentor.state import JobStore, Publish
from accentor.storage import ObjectStore


class LoadedModel(Protocol):
    """What is asked of a model: the card that says what can be accentuated in it."""

    @property
    def card(self) -> ModelCard:
        """The model's card."""


class Ending(Protocol):
    """What is asked of an accentuation: its files and its result."""

    def files(self) -> Mapping[str, bytes]:
        """Return the artefacts by name."""

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
