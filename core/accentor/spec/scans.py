"""Scans of datasets at a service: what is asked for, how it is queued, and the card of what was found."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.spec.batches import MAX_TOP_K
from accentor.spec.datasets import DatasetCard, DatasetReference
from accentor.spec.dictionaries import DictionaryCard, DictionaryReference
from accentor.spec.features import LayerName
from accentor.spec.identity import Sha256, canonical_json, sha256_hex
from accentor.spec.jobs import Metadata, ModelName
from accentor.spec.models import ModelCard
from accentor.spec.status import Failure

ID_DIGITS = 16
MAX_TOP_FEATURES = 100
SHARD_IMAGES = (256, 8_192)
"""The fewest and the most images of a shard."""
SHARDS = 256
"""Shards that a large dataset is cut into: what is kept of each grows with the number of features."""

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


class ScanBatch(ScanSettings):
    """A scan as it is queued: a batch whose jobs are shards of the dataset."""

    form: Literal["scan"] = "scan"
    scan: ScanId
    dataset: DatasetReference
    images: Annotated[int, Field(ge=1)]
    shard: Annotated[int, Field(ge=1, description="images of a job")]
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
        return -(-self.images // self.shard)

    def range(self, job: int) -> "range":
        """Return the indices of the images of a job."""
        return range(job * self.shard, min((job + 1) * self.shard, self.images))


def scan_batch(
    settings: ScanSettings,
    dataset: DatasetCard,
    model: ModelCard,
    layer: str,
    dictionary: DictionaryCard | None = None,
    metadata: dict[str, str] | None = None,
) -> ScanBatch:
    """Return the scan of all channels of a layer, or of a dictionary of it, as it is queued."""
    reference = None if dictionary is None else dictionary.reference
    features = model.layer(layer).units if dictionary is None else dictionary.features
    known = ScanSettings.model_validate(settings.model_dump(include=set(ScanSettings.model_fields)))
    return ScanBatch(
        **known.model_dump(),
        scan=scan_id(known, dataset=dataset.digest, model=model.digest, layer=layer, dictionary=reference),
        dataset=dataset.reference,
        images=dataset.images,
        shard=shard_images(dataset.images, features),
        model=model.name,
        layer=layer,
        dictionary=reference,
        metadata=metadata or {},
    )


class ScanCard(ScanSettings):
    """What is told of a finished scan; its tables lie beside it."""

    id: ScanId
    dataset: DatasetReference
    model: ModelName
    model_digest: Sha256
    layer: LayerName
    dictionary: DictionaryReference | None = None
    features: int
    seen: int = Field(description="images that were read")
    skipped: int = Field(description="images that could not be read, or have changed")
    created_at: datetime


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


def scan_id(settings: ScanSettings, *, dataset: str, model: str, layer: str, dictionary: str | None) -> str:
    """Return the id of a scan: the same of the same images, weights, features and settings."""
    fields = set(ScanSettings.model_fields)
    known: dict[str, Any] = settings.model_dump(mode="json", include=fields)
    said = {**known, "dataset": dataset, "model": model, "layer": layer, "dictionary": dictionary}
    return sha256_hex(canonical_json(said))[:ID_DIGITS]


def shard_images(images: int, features: int) -> int:
    """Return how many images a shard has: a power of two, more for many images and for many features."""
    fewest, most = SHARD_IMAGES
    wanted = max(images // SHARDS, features // 4, fewest)
    return min(most, 1 << (wanted - 1).bit_length())
