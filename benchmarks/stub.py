"""A stub in place of the engine and of the results' store: workers whose bookkeeping alone takes time.

``STUB_JOB_S`` is the seconds that a job keeps a core busy; ``STUB_LEDGER`` the folder in which each process lists the
content keys of the results that it would have stored.
"""

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from PIL import Image

from accentor.settings import Settings
from accentor.spec import ENGINE_VERSION, JobSpec, LayerInfo, ModelCard, Recipe, Result
from accentor.state import JobStore, Publish, connect
from accentor.storage import ObjectStore
from accentor.storage.base import DEFAULT_CONTENT_TYPE
from accentor.storage.file import FileStore
from accentor_worker.services import Services

MODEL = "stub"
UNITS = 16_384
MICRO_BATCH = 16
CARD = ModelCard(
    name=MODEL,
    source="stub",
    digest="5" * 64,
    input_size=32,
    labels=None,
    outputs=UNITS,
    regularization_layer="conv",
    layers=(LayerInfo(name="conv", type="Conv2d", shape=(UNITS, 8, 8)),),
)
RESULTS = "results/"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class StubModel:
    """A model that is nothing but its card."""

    card = CARD


class StubModels:
    """Has the one model."""

    def get(self, _name: str) -> StubModel:
        """Return it."""
        return StubModel()


@dataclass(frozen=True, slots=True)
class StubPair:
    """What the engine would be given."""

    image: Image.Image
    feature: Any
    seed: int


@dataclass(frozen=True, slots=True)
class StubReport:
    """A step of a micro-batch that was never made."""

    indices: tuple[int, ...]
    step: int
    steps: int
    values: tuple[float, ...] | None = None

    def images(self) -> list[Any]:
        """Return no previews."""
        return []


class StubEnding:
    """An accentuation of one file that nobody made."""

    def files(self, _key: str | None = None) -> Mapping[str, bytes]:
        """Return its file."""
        return {"accentuated.png": b"stub"}

    def to_result(self, spec: JobSpec, key: str) -> Result:
        """Return what the engine would tell."""
        return Result.model_construct(
            key=key,
            spec=spec,
            before=0.0,
            after=1.0,
            trajectory=(),
            width=32,
            height=32,
            model_digest=CARD.digest,
            engine_version=ENGINE_VERSION,
            device="stub",
            seconds=0.0,
            artefacts=("accentuated.png",),
            created_at=CREATED,
        )


def accentuate(
    _model: StubModel,
    pairs: Sequence[StubPair],
    recipe: Recipe,
    *,
    micro_batch: int | None,
    on_step: Callable[[StubReport], None],
) -> Iterator[tuple[int, StubEnding]]:
    """Run micro-batches of no work; each is told of once."""
    job_s = float(os.environ.get("STUB_JOB_S", "0"))
    size = micro_batch or MICRO_BATCH
    for first in range(0, len(pairs), size):
        some = range(first, min(first + size, len(pairs)))
        end = time.monotonic() + job_s * len(some)
        while time.monotonic() < end:
            pass
        on_step(StubReport(tuple(some), recipe.steps, recipe.steps))
        for position in some:
            yield position, StubEnding()


class StubResults(FileStore):
    """A folder without results: it lists the keys of those that were stored."""

    def __init__(self, root: Path, ledger: IO[bytes]) -> None:
        super().__init__(root)
        self._ledger = ledger

    def put(self, key: str, data: bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> None:
        """List the key of a result.json, and drop whatever lies with it."""
        if not key.startswith(RESULTS):
            super().put(key, data, content_type=content_type)
        elif key.endswith("/result.json"):
            self._ledger.write(bytes.fromhex(key.split("/")[2]))

    def size(self, key: str) -> int | None:
        """Have no results."""
        return None if key.startswith(RESULTS) else super().size(key)


def open_ledger(folder: Path) -> IO[bytes]:
    """Open a ledger of this process's own; each write goes to the file at once."""
    return (folder / f"ledger-{os.getpid()}").open("ab", buffering=0)


def stub_services(settings: Settings, objects: ObjectStore, publish: Publish, owner: str) -> Services:
    """Return all that running shards needs, with stubs where the engine and the results are."""
    return Services(
        settings=settings,
        jobs=JobStore(connect(settings)),
        objects=objects,
        publish=publish,
        models=StubModels(),
        accentuate=accentuate,  # type: ignore[arg-type]
        make_pair=StubPair,
        owner=owner,
    )


def picture(number: int) -> bytes:
    """Return a small picture, each number another one, as a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, number // 65536)).save(buffer, "PNG")
    return buffer.getvalue()
