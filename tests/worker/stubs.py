"""Stubs in place of engine and broker, and what the API does when a batch comes in."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from accentor.errors import AccentorError, ModelNotReadyError
from accentor.spec import (
    ENGINE_VERSION,
    BatchSpec,
    Channel,
    JobSpec,
    Lane,
    LayerInfo,
    Logit,
    ModelCard,
    Recipe,
    Result,
    canonical_json,
    sha256_hex,
)
from accentor.state import NewBatch, Shard, dispatch
from accentor.storage import ObjectStore
from accentor.storage.keys import batch_spec_key, image_key
from accentor_worker.services import Services

MODEL = "toy"
UNITS = 64
ARTEFACTS = {"accentuated.png": b"accentuated", "frames.webp": b"frames"}
CARD = ModelCard(
    name=MODEL,
    source="stub",
    digest="d" * 64,
    input_size=32,
    labels=None,
    outputs=UNITS,
    regularization_layer="conv",
    layers=(LayerInfo(name="conv", type="Conv2d", shape=(UNITS, 8, 8)),),
)
RECIPE = Recipe(steps=3, crops=2, size=64)


class StubModel:
    card = CARD


class StubModels:
    """Has one model, unless told that it cannot be loaded."""

    broken = False

    def get(self, name: str) -> StubModel:
        if self.broken:
            raise ModelNotReadyError(f"this worker cannot load {name}")
        return StubModel()


@dataclass(frozen=True)
class StubPair:
    image: Image.Image
    feature: Any
    seed: int

    @property
    def unit(self) -> int:
        return int(self.feature.unit)


@dataclass(frozen=True)
class StubReport:
    indices: tuple[int, ...]
    step: int
    steps: int
    values: tuple[float, ...] | None

    def images(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class StubAccentuation:
    pair: StubPair

    def files(self, key: str | None = None) -> dict[str, bytes]:
        return ARTEFACTS

    def to_result(self, spec: JobSpec, key: str) -> Result:
        return Result(
            key=key,
            spec=spec,
            before=0.0,
            after=float(self.pair.unit),
            trajectory=(),
            width=64,
            height=64,
            model_digest=CARD.digest,
            engine_version=ENGINE_VERSION,
            device="stub",
            seconds=0.01,
            artefacts=tuple(ARTEFACTS),
            created_at=datetime.now(UTC),
        )


Event = Callable[[int, int], None]


@dataclass
class StubEngine:
    """Runs nothing: one pair after the other, a few steps each; tests say what goes wrong.

    ``raises``: by unit, what ends the whole call. ``yields``: by unit, the pair's own error. ``during``: called with
    unit and step before each report.
    """

    raises: dict[int, Exception] = field(default_factory=dict)
    yields: dict[int, AccentorError] = field(default_factory=dict)
    during: Event = lambda unit, step: None  # noqa: E731
    calls: list[tuple[int, ...]] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)

    def __call__(
        self,
        model: StubModel,
        pairs: Sequence[StubPair],
        recipe: Recipe,
        *,
        micro_batch: int | None,
        on_step: Callable[[StubReport], None],
    ) -> Iterator[tuple[int, StubAccentuation | AccentorError]]:
        assert model.card is CARD
        self.calls.append(tuple(pair.unit for pair in pairs))
        for position, pair in enumerate(pairs):
            for step in range(1, recipe.steps + 1):
                self.during(pair.unit, step)
                on_step(StubReport((position,), step, recipe.steps, (float(step),)))
            if pair.unit in self.raises:
                raise self.raises[pair.unit]
            self.computed.append(pair.unit)
            yield position, self.yields.get(pair.unit) or StubAccentuation(pair)


class Outbox:
    """Stands where the broker is."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, shard: Shard) -> None:
        self.ids.append(shard.id)


def png(shade: int = 0) -> bytes:
    """Return a small picture as a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 100, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(objects: ObjectStore, data: bytes) -> str:
    """Store an image as the API does, and return its sha256."""
    sha = sha256_hex(data)
    objects.put(image_key(sha), data)
    return sha


def submit(services: Services, spec: BatchSpec, batch: str = "b", *, digest: str = CARD.digest) -> str:
    """Create a batch as the API does, and hand out its shards."""
    services.objects.put(batch_spec_key(batch), canonical_json(spec.model_dump(mode="json")))
    total = len(spec.expand(CARD))
    services.jobs.create_batch(NewBatch(batch, MODEL, digest, spec.lane, total, datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    return batch


def logits(services: Services, count: int, *, lane: Lane = "bulk") -> BatchSpec:
    """Return a batch of the first ``count`` logits in one image."""
    features = tuple(Logit(unit=unit) for unit in range(count))
    image = upload(services.objects, png())
    return BatchSpec(model=MODEL, features=features, images=(image,), recipe=RECIPE, lane=lane)


def channel(unit: int) -> Channel:
    return Channel(layer="conv", unit=unit)
