"""Scans of datasets at a service: what is asked for, how it is queued, and the card of what was found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.spec.batches import MAX_TOP_K
from accentor.spec.datasets import DatasetCard, DatasetReference, Named
from accentor.spec.dictionaries import DictionaryCard, DictionaryReference
from accentor.spec.features import LayerName
from accentor.spec.identity import Sha256, canonical_json, sha256_hex
from accentor.spec.jobs import Metadata, ModelName
from accentor.spec.models import ModelCard
from accentor.spec.status import Failure

ID_DIGITS = 16
MAX_TOP_FEATURES = 100
SCAN_VERSION = 3
"""Raised by one whenever a scan measures or keeps something else: what another version kept is never taken for ours."""

SHARD_IMAGES = (256, 2_048)
"""Images of a shard on average, the fewest and the most: what is kept of each grows with the number of features."""
LEAST_SHARE, MOST_TIMES = 8, 4
"""A shard has at least an eighth of the average, and at most four times as many images."""

T = TypeVar("T")

ID_FORM = rf"[0-9a-f]{{{ID_DIGITS}}}"
ScanId = Annotated[str, Field(pattern=f"^{ID_FORM}$", description="of what is scanned, and how")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScanSettings(_Frozen):
    """How a dataset is scanned."""

    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, description="images kept for every feature")] = 16
    top_features: Annotated[int, Field(ge=1, le=MAX_TOP_FEATURES, description="features kept for every image")] = 16
    reduce: Literal["mean", "max"] = Field("mean", description="a feature's value on an image, over positions")
    code: Literal["pre", "post"] = Field("post", description="of an encoder, before or after its activation")

    @property
    def is_usual(self) -> bool:
        """Whether values are measured as they are if nothing is said: those scans are taken unless one is named."""
        usual = ScanSettings()
        return (self.reduce, self.code) == (usual.reduce, usual.code)


class ScanSpec(ScanSettings):
    """What is scanned: all channels of a layer, or a dictionary."""

    model: ModelName
    layer: LayerName | None = None
    dictionary: DictionaryReference | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.layer is None) == (self.dictionary is None):
            raise ValueError("expected either layer or dictionary")
        return self


class ScanShard(_Frozen):
    """Some of a dataset's images, one after the other."""

    key: Sha256 = Field(description="of the content: the images with their names and labels, and how they are scanned")
    images: Annotated[int, Field(ge=1)]


class ScanBatch(ScanSettings):
    """A scan as it is queued: a batch whose jobs are shards of the dataset."""

    form: Literal["scan"] = "scan"
    id: str = Field(description="of the batch")
    scan: ScanId
    dataset: DatasetReference
    shards: Annotated[tuple[ScanShard, ...], Field(min_length=1)]
    model: ModelName
    layer: LayerName
    dictionary: DictionaryReference | None = None
    lane: Literal["bulk"] = "bulk"
    metadata: Metadata = {}
    force: bool = False
    deadline_s: int | None = None

    @property
    def total(self) -> int:
        """Number of jobs."""
        return len(self.shards)

    def range(self, job: int) -> "range":
        """Return the indices of the images of a job."""
        start = sum(shard.images for shard in self.shards[:job])
        return range(start, start + self.shards[job].images)


@dataclass(frozen=True)
class WantedScan:
    """What is to be scanned, and how: all channels of a layer, or a dictionary, over a dataset."""

    settings: ScanSettings
    dataset: DatasetCard
    model: ModelCard
    layer: str | None
    dictionary: DictionaryCard | None = None

    @property
    def id(self) -> str:
        """Of the scan: the same of the same images, weights, features and settings."""
        known = {**self._measured, "dataset": self.dataset.digest, "version": SCAN_VERSION}
        return sha256_hex(canonical_json(known))[:ID_DIGITS]

    def batch(self, batch_id: str, images: Iterable[Named], metadata: dict[str, str] | None = None) -> ScanBatch:
        """Return the scan as it is queued; the images of the dataset are gone through once."""
        parts = cut(images, self._average, lambda image: image[0])
        return ScanBatch(
            **self._settings,
            id=batch_id,
            scan=self.id,
            dataset=self.dataset.reference,
            shards=tuple(ScanShard(key=self._key(part), images=len(part)) for part in parts),
            model=self.model.name,
            layer=self._measured["layer"],
            dictionary=self._measured["dictionary"],
            metadata=metadata or {},
        )

    @property
    def _settings(self) -> dict[str, Any]:
        given = self.settings.model_dump(mode="json", include=set(ScanSettings.model_fields))
        is_encoder = self.dictionary is not None and self.dictionary.kind == "encoder"
        return given if is_encoder else given | {"code": ScanSettings().code}

    @property
    def _measured(self) -> dict[str, Any]:
        return {
            **self._settings,
            "model": self.model.digest,
            "layer": self.dictionary.layer if self.dictionary else self.layer,
            "dictionary": self.dictionary.reference if self.dictionary else None,
        }

    @property
    def _average(self) -> int:
        features = self.dictionary.features if self.dictionary else self.model.layer(str(self.layer)).units
        fewest, most = SHARD_IMAGES
        return min(most, max(fewest, features // 4))

    def _key(self, part: list[Named]) -> str:
        return sha256_hex(canonical_json([SCAN_VERSION, self._measured, part]))


def cut(images: Iterable[T], average: int, name: Callable[[T], str]) -> Iterator[list[T]]:
    """Yield the images in shards that end where an image's name says so, wherever in the list it is.

    So most shards of a list are those of the same list with other images put in or taken out. The ends of those that
    would be too long, one in fifty, move along until a name ends one again.
    """
    part: list[T] = []
    for image in images:
        part.append(image)
        ends = len(part) >= average // LEAST_SHARE and _number(name(image)) % average == 0
        if ends or len(part) >= MOST_TIMES * average:
            yield part
            part = []
    if part:
        yield part


def _number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


class ScanCard(ScanSettings):
    """What is told of a finished scan; its tables lie beside it."""

    id: ScanId
    dataset: DatasetReference
    model: ModelName
    model_digest: Sha256
    layer: LayerName
    dictionary: DictionaryReference | None = None
    features: int
    shards: int = Field(1, description="parts that the dataset was cut into")
    seen: int = Field(description="images that were read")
    skipped: int = Field(description="images that could not be read, or have changed")
    created_at: datetime


def shown_scan(cards: Sequence[ScanCard]) -> ScanCard | None:
    """Return the scan that a dictionary's features are shown with: the first usual one, without any the first."""
    return next((card for card in cards if card.is_usual), cards[0] if cards else None)


class ScanStatus(_Frozen):
    """A scan as it stands."""

    id: ScanId
    dataset: DatasetReference
    state: Literal["queued", "running", "ready", "failed", "canceled"]
    batch: str | None = Field(None, description="that runs it: its jobs are shards of the dataset")
    shards: int = 0
    done: int = 0
    failure: Failure | None = Field(None, description="why the first shard that failed did")
    card: ScanCard | None = None
    tables: dict[str, str] = Field({}, description="links to its Parquet tables, once it is ready")
