"""Atlases at a service: what is asked for, the steps it takes, and what is told of one."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.spec.datasets import DatasetReference
from accentor.spec.dictionaries import MAX_FEATURES, DictionaryReference
from accentor.spec.features import LayerName
from accentor.spec.jobs import MAX_SEED, Metadata, ModelName, Seed
from accentor.spec.recipe import PRESETS, AnyRecipe, Recipe
from accentor.spec.scans import ScanId, ScanSettings
from accentor.spec.states import BatchState
from accentor.spec.status import BatchStatus, Failure

MAX_TOP_K = 64
MAX_IMAGES = 10_000
MAX_TITLE = 200
RANGE_IMAGES = 4
"""Images over its range that a feature is shown in at most."""

IMAGE_FEATURES = 4
"""Features accentuated for an image's own page."""

MAX_ERRORS = 1_000
DEFAULT_ERRORS = 48
"""Misclassified images that are shown."""

FEATURES_PER_PART = 16
IMAGES_PER_PART = 256
STRENGTHS = (-1.0, 0.0, 0.5, 1.0)
LEAST_SNAPSHOTS = 4
SCAN_CODE: Literal["pre"] = "pre"
"""An atlas tells the values of features before an activation: so an image on which one is off has a rank too."""


class AtlasStepName(StrEnum):
    """The steps of an atlas, in their order."""

    SCAN = "scan"
    SELECT = "select"
    ACCENTUATE = "accentuate"
    EVALUATE = "evaluate"
    PUBLISH = "publish"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AtlasSpec(_Frozen):
    """What an atlas is of: all channels of a layer, or a dictionary, over a dataset; and what it shows."""

    model: ModelName
    layer: LayerName | None = None
    dictionary: DictionaryReference | None = None
    dataset: DatasetReference
    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE)] | None = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, description="top images shown for each feature")] = 6
    images: Annotated[
        int, Field(ge=0, le=MAX_IMAGES, description="images whose own top features are all accentuated")
    ] = 16
    errors: Annotated[
        int,
        Field(ge=0, le=MAX_ERRORS, description="misclassified images whose predicted and true class are accentuated"),
    ] = DEFAULT_ERRORS
    limit: (
        Annotated[int, Field(ge=1, le=MAX_FEATURES, description="only the first so many features that can be used")]
        | None
    ) = None
    recipe: AnyRecipe = PRESETS["natural"]
    seed: Seed = 0
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.layer is None) == (self.dictionary is None):
            raise ValueError("expected either layer or dictionary")
        if self.recipe.stop_at is not None:
            raise ValueError("an atlas shows each picture at several strengths: give a recipe without stop_at")
        return self

    @property
    def scan(self) -> ScanSettings:
        """How the dataset is scanned: alike for most atlases, so that they share a scan."""
        return ScanSettings(top_k=max(self.top_k, ScanSettings().top_k), code=SCAN_CODE)

    def most_pictures(self, features: int) -> int:
        """Return how many pictures there may be at most, of a dictionary of so many features."""
        shown = min(features, self.limit or features)
        return shown * (self.top_k + RANGE_IMAGES + 1) + self.images * IMAGE_FEATURES + 2 * self.errors

    @property
    def shown_title(self) -> str:
        """The title, or what is said in its stead."""
        what = self.layer or str(self.dictionary).partition("@")[0]
        return self.title or f"{what} of {self.model} over {self.dataset.partition('@')[0]}"


class AtlasSelection(_Frozen):
    """How much an atlas shows, as it was selected from the scan."""

    features: int
    images: int
    pictures: int = Field(description="jobs of the batch that makes them")
    broken: tuple[int, ...] = Field((), description="features that are zero or not finite")

    @property
    def feature_parts(self) -> int:
        """Groups of features that are evaluated together."""
        return -(-self.features // FEATURES_PER_PART)

    @property
    def parts(self) -> int:
        """All groups, those of images behind those of features."""
        return self.feature_parts - (-self.images // IMAGES_PER_PART)

    def features_of(self, part: int) -> range:
        """Return the places of a group's features among those that are shown."""
        return range(part * FEATURES_PER_PART, min((part + 1) * FEATURES_PER_PART, self.features))

    def images_of(self, part: int) -> range:
        """Return the places of a group's images among those that could be read."""
        first = (part - self.feature_parts) * IMAGES_PER_PART
        return range(first, min(first + IMAGES_PER_PART, self.images))


class AtlasBatch(_Frozen):
    """A step of an atlas as it is queued: a batch whose jobs are parts of it. Pictures are a batch like any other."""

    form: Literal["atlas"] = "atlas"
    atlas: str
    step: Literal[AtlasStepName.SELECT, AtlasStepName.EVALUATE, AtlasStepName.PUBLISH]
    total: Annotated[int, Field(ge=1)] = 1
    scan: ScanId
    spec: AtlasSpec
    lane: Literal["bulk"] = "bulk"
    metadata: Metadata = {}
    force: bool = False
    deadline_s: int | None = None

    @property
    def model(self) -> str:
        """The model that it is for."""
        return self.spec.model


class AtlasStep(_Frozen):
    """One step as it stands; each is a batch."""

    name: AtlasStepName
    state: BatchState | None = Field(None, description="of its batch; none: it has not begun")
    batch: str | None = None
    total: int = Field(0, description="of the step's parts: shards of the dataset, pictures, groups of features")
    done: int = Field(0, description="parts that have ended, however")
    failed: int = 0
    cached: int = Field(0, description="parts that were there before")
    eta_s: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @classmethod
    def of(cls, name: AtlasStepName, batch: BatchStatus | None) -> Self:
        """Return a step as its batch stands."""
        if batch is None:
            return cls(name=name)
        return cls(
            name=name,
            state=batch.state,
            batch=batch.id,
            total=batch.total,
            done=batch.total - batch.counts.queued - batch.counts.running,
            failed=batch.counts.failed,
            cached=batch.counts.cached,
            eta_s=batch.eta_s,
            started_at=batch.started_at,
            finished_at=batch.finished_at,
        )


class AtlasSite(_Frozen):
    """A published atlas: a static site in the store."""

    url: str | None = Field(None, description="of its first page: whoever knows it may look; it stays the same")
    prefix: str = Field(description="what the keys of its files in the store begin with: a bucket can serve them")
    features: int
    images: int
    pictures: int
    failures: int = Field(0, description="pictures that could not be made")
    gaps: tuple[str, ...] = Field((), description="what is missing, for a person")
    files: int
    bytes: int
    made_at: datetime


class AtlasStatus(_Frozen):
    """An atlas as it stands; with pictures missing that could not be made it ends as `partially_failed`."""

    id: str
    state: BatchState
    title: str
    spec: AtlasSpec = Field(description="with the versions of its dataset and its dictionary")
    steps: tuple[AtlasStep, ...]
    step: AtlasStepName = Field(description="the step that it is at, or that it ended with")
    failure: Failure | None = Field(None, description="why there is no site")
    site: AtlasSite | None = Field(None, description="once it is published")
    created_at: datetime
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None


def sweeping(recipe: Recipe) -> Recipe:
    """Return the recipe with strengths for the slider, the seed among them, and snapshots to see how it ended."""
    strengths = recipe.strengths or STRENGTHS
    changes = {"strengths": tuple(sorted({0.0, *strengths})), "snapshots": max(recipe.snapshots, LEAST_SNAPSHOTS)}
    return Recipe.model_validate(recipe.model_dump() | changes)


def told_strength(strengths: Iterable[float]) -> float | None:
    """Return the strength of the pictures that a feature is told by: 1 if it is there, else the largest above 0."""
    above = [strength for strength in strengths if strength > 0]
    return 1.0 if 1.0 in above else max(above, default=None)


def again_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of a picture that is only held against one with another random seed."""
    return Recipe.model_validate(recipe.model_dump() | {"strengths": (0.0, told_strength(recipe.strengths) or 1.0)})


def again_seed(seed: int) -> int:
    """Return the other random seed."""
    return (seed + 1) % (MAX_SEED + 1)


def step_batch_id(atlas_id: str, step: AtlasStepName) -> str:
    """Return the id of a step's own batch: whoever makes it, it is made once."""
    return f"{atlas_id}{list(AtlasStepName).index(step) + 1}"
