"""Atlases at a service: what is asked for, the steps it takes, and what is told of one."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.spec.datasets import DatasetReference
from accentor.spec.dictionaries import REFERENCE_FORM
from accentor.spec.features import LayerName
from accentor.spec.jobs import Metadata, ModelName, Seed
from accentor.spec.recipe import PRESETS, AnyRecipe, Recipe
from accentor.spec.states import BatchState
from accentor.spec.status import BatchStatus, Failure

MAX_TOP_K = 64
MAX_IMAGES = 10_000
MAX_TITLE = 200
MAX_FEATURES = 262_144
STRENGTHS = (-1.0, 0.0, 0.5, 1.0)
LEAST_SNAPSHOTS = 4
SCAN_CODE: Literal["pre"] = "pre"
"""An atlas tells the values of features before an activation: so an image on which one is off has a rank too."""

DictionaryReference = Annotated[str, Field(pattern=f"^{REFERENCE_FORM}$", max_length=120)]


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
    def shown_title(self) -> str:
        """The title, or what is said in its stead."""
        what = self.layer or str(self.dictionary).partition("@")[0]
        return self.title or f"{what} of {self.model} over {self.dataset.partition('@')[0]}"


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


def again_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of a picture that is only held against one with another random seed."""
    return Recipe.model_validate(recipe.model_dump() | {"strengths": (0.0, 1.0)})
