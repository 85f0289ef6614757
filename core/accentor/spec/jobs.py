"""Jobs and batches: what is submitted, and how job i of a batch is found without listing the others."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, overload

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.errors import InvalidRequestError
from accentor.spec.features import Channel, Feature, LayerName
from accentor.spec.identity import ENGINE_VERSION, Sha256, canonical_json, sha256_hex
from accentor.spec.models import LayerInfo, ModelCard
from accentor.spec.recipe import PRESETS, AnyRecipe, Recipe

MAX_SEED = 2**32 - 1
"""PyTorch's CPU generator reads no more than the lower 32 bits of a seed: larger ones would repeat smaller ones."""

MAX_SEEDS = 64
MAX_LISTED_FEATURES = 100_000
MAX_LISTED_IMAGES = 100_000
MAX_EXPLICIT_JOBS = 50_000
MAX_METADATA = 16

MODEL_NAME = r"^[A-Za-z0-9._:/-]+$"
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=MODEL_NAME)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="of the crops and the noise")]
CustomId = Annotated[str, Field(min_length=1, max_length=200)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=MAX_METADATA)
]
Lane = Literal["interactive", "bulk"]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobSpec(_Spec):
    """One job: a feature of a model accentuated in an image.

    ``image`` is the sha256 of the image's bytes, as uploaded. ``custom_id`` and ``metadata`` come back with the
    result and are no part of the job's identity.
    """

    model: ModelName
    feature: Feature
    image: Sha256
    seed: Seed = 0
    recipe: AnyRecipe = PRESETS["natural"]
    custom_id: CustomId | None = None
    metadata: Metadata = {}

    def key(self, card: ModelCard) -> str:
        """Return the content key: the sha256 under which the result of this job lives.

        Labels count as the indices they name, and the defaults of the model as if they were written out.
        """
        return sha256_hex(canonical_json(self._identity(card)))

    def _identity(self, card: ModelCard) -> dict[str, Any]:
        recipe = self.recipe.model_copy(
            update={
                "size": card.canvas_size(self.recipe),
                "regularization_layer": self.recipe.regularization_layer or card.regularization_layer,
            }
        )
        return {
            "engine": ENGINE_VERSION,
            "model": card.digest,
            "feature": card.resolve(self.feature).model_dump(mode="json"),
            "image": self.image,
            "recipe": recipe.model_dump(mode="json"),
            "seed": self.seed,
        }


class LayerFeatures(_Spec):
    """All channels of a layer."""

    layer: LayerName


class BatchJob(_Spec):
    """One job of an explicit batch; what it leaves out is the batch's."""

    feature: Feature
    image: Sha256
    seed: Seed = 0
    recipe: AnyRecipe | None = None
    custom_id: CustomId | None = None


class BatchSpec(_Spec):
    """Many jobs of one model in one request: features × images × random seeds, or a list of jobs.

    Order of a product: the features outermost, then the images, the random seeds innermost. ``zip`` pairs the i-th
    feature with the i-th image.
    """

    model: ModelName
    features: (
        Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_LISTED_FEATURES)] | LayerFeatures | None
    ) = None
    images: Annotated[tuple[Sha256, ...], Field(min_length=1, max_length=MAX_LISTED_IMAGES)] | None = None
    pairing: Literal["product", "zip"] = "product"
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS, description="random seeds per pair: 0, 1, …")] = 1
    jobs: Annotated[tuple[BatchJob, ...], Field(min_length=1, max_length=MAX_EXPLICIT_JOBS)] | None = None
    recipe: AnyRecipe = PRESETS["natural"]
    lane: Lane = "bulk"
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.jobs is not None:
            if self.features is not None or self.images is not None:
                raise ValueError("give either features and images, or jobs, not both")
            if self.pairing != "product" or self.seeds != 1:
                raise ValueError("pairing and seeds go with features and images; each of jobs has a seed of its own")
            ids = Counter(job.custom_id for job in self.jobs if job.custom_id is not None)
            if twice := sorted(name for name, count in ids.items() if count > 1):
                raise ValueError(f"custom_id must be unique in a batch; given more than once: {twice[:5]}")
        elif self.features is None or self.images is None:
            raise ValueError("give features and images, or jobs")
        return self

    def expand(self, card: ModelCard) -> "Jobs":
        """Return the jobs as a sequence that decodes its items when they are asked for.

        Raises
        ------
        InvalidRequestError
            If a zip's features and images are not equally many.
        UnknownLayerError
            If ``features`` names a layer that the model does not have.
        """
        return Jobs(self, card)


class Jobs(Sequence[JobSpec]):
    """The jobs of a batch in order; nothing is listed, job i is decoded from i."""

    def __init__(self, spec: BatchSpec, card: ModelCard) -> None:
        self._spec = spec
        self._explicit = spec.jobs or ()
        self._images = spec.images or ()
        self._features: Sequence[Feature] = ()
        if isinstance(spec.features, LayerFeatures):
            self._features = _Channels(card.layer(spec.features.layer))
        elif spec.features is not None:
            self._features = spec.features
        if spec.pairing == "zip" and len(self._features) != len(self._images):
            raise InvalidRequestError(
                f"a zip needs as many features as images: {len(self._features)} features, {len(self._images)} images"
            )

    def __len__(self) -> int:
        if self._explicit:
            return len(self._explicit)
        pairs = len(self._features) * (1 if self._spec.pairing == "zip" else len(self._images))
        return pairs * self._spec.seeds

    @overload
    def __getitem__(self, index: int) -> JobSpec: ...
    @overload
    def __getitem__(self, index: slice) -> list[JobSpec]: ...
    def __getitem__(self, index: int | slice) -> JobSpec | list[JobSpec]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"the batch has jobs 0 to {len(self) - 1}; {index} was asked for")
        return self._spec_of(self._explicit[index] if self._explicit else self._decode(index))

    @property
    def features(self) -> Sequence[Feature]:
        """The features to check before anything is queued; a whole layer's exist by construction."""
        if self._explicit:
            return [job.feature for job in self._explicit]
        return () if isinstance(self._features, _Channels) else self._features

    @property
    def recipes(self) -> frozenset[Recipe]:
        """The distinct recipes of the jobs."""
        return frozenset({self._spec.recipe} | {job.recipe for job in self._explicit if job.recipe is not None})

    @property
    def images(self) -> frozenset[str]:
        """The distinct images that the jobs need."""
        return frozenset(self._images) | {job.image for job in self._explicit}

    def _decode(self, index: int) -> BatchJob:
        pair, seed = divmod(index, self._spec.seeds)
        row, column = (pair, pair) if self._spec.pairing == "zip" else divmod(pair, len(self._images))
        return BatchJob(feature=self._features[row], image=self._images[column], seed=seed)

    def _spec_of(self, job: BatchJob) -> JobSpec:
        return JobSpec(
            model=self._spec.model,
            feature=job.feature,
            image=job.image,
            seed=job.seed,
            recipe=job.recipe or self._spec.recipe,
            custom_id=job.custom_id,
            metadata=self._spec.metadata,
        )


class _Channels(Sequence[Feature]):
    def __init__(self, layer: LayerInfo) -> None:
        self._layer = layer

    def __len__(self) -> int:
        return self._layer.units

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | Sequence[Feature]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Channel(layer=self._layer.name, unit=range(len(self))[index])
