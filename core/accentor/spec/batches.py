"""Batches: many jobs of one model in one request, as a product or as a list."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from accentor.errors import DuplicateIdError
from accentor.spec.catalog import EMPTY_CATALOG, Catalog
from accentor.spec.datasets import DatasetReference
from accentor.spec.dictionaries import DictionaryReference
from accentor.spec.features import Feature, LayerName
from accentor.spec.identity import Sha256
from accentor.spec.jobs import CustomId, Lane, Metadata, ModelName, Seed
from accentor.spec.models import ModelCard
from accentor.spec.naming import check_pattern
from accentor.spec.ranges import Selection
from accentor.spec.recipe import PRESETS, AnyRecipe

if TYPE_CHECKING:
    from accentor.spec.expansion import Jobs

MAX_SEEDS = 64
MAX_LISTED_FEATURES = 100_000
MAX_LISTED_IMAGES = 100_000
MAX_EXPLICIT_JOBS = 50_000
MAX_TOP_K = 1_000
MAX_DEADLINE_S = 366 * 86_400
BLOCK_JOBS = 4_096
"""Lines of a batch of JSON Lines that are stored together."""

Deadline = Annotated[
    int,
    Field(
        ge=1, le=MAX_DEADLINE_S, description="seconds after which jobs that have not begun fail with code `deadline`"
    ),
]
Force = Annotated[bool, Field(description="compute again what was computed before; the results are replaced")]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LayerFeatures(Selection):
    """The channels of a layer: all, or those of a range."""

    layer: LayerName


class DictionaryFeatures(Selection):
    """The features of a dictionary: all, or those of a range."""

    dictionary: DictionaryReference


class DatasetImages(_Spec):
    """The images of a dataset."""

    dataset: DatasetReference


class TopK(_Spec):
    """Each feature with the images of the dataset that excite it most, as a scan has found them."""

    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)]
    scan: (
        Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", description="id of the scan; none: the first usual one")] | None
    ) = None


class BatchJob(_Spec):
    """One job of an explicit batch; what it leaves out is the batch's."""

    feature: Feature
    image: Sha256
    seed: Seed = 0
    recipe: AnyRecipe | None = None
    custom_id: CustomId | None = None


class BatchLine(_Spec):
    """One line of a batch of JSON Lines; what it leaves out is the batch's. A ``model`` must be the batch's own."""

    feature: Feature
    image: Sha256
    seed: Seed | None = None
    recipe: AnyRecipe | None = None
    custom_id: CustomId | None = None
    model: ModelName | None = None


class BatchHeader(_Spec):
    """What holds for all lines of a batch of JSON Lines: its first line, as ``{"batch": {…}}``.

    Without a model, that of the first job counts.
    """

    model: ModelName | None = None
    recipe: AnyRecipe = PRESETS["natural"]
    seed: Seed = 0
    lane: Lane = "bulk"
    metadata: Metadata = {}
    force: Force = False
    deadline_s: Deadline | None = None


class LinesBatch(_Spec):
    """A batch that came as JSON Lines, as it is stored: the jobs lie in blocks beside it."""

    form: Literal["lines"] = "lines"
    model: ModelName
    total: Annotated[int, Field(ge=1)]
    block_jobs: Annotated[int, Field(ge=1)] = BLOCK_JOBS
    recipe: AnyRecipe = PRESETS["natural"]
    seed: Seed = 0
    lane: Lane = "bulk"
    metadata: Metadata = {}
    force: Force = False
    deadline_s: Deadline | None = None


def _source_tag(value: Any) -> str:
    if isinstance(value, Mapping):
        return "of-a-dictionary" if "dictionary" in value else "of-a-layer"
    if isinstance(value, DictionaryFeatures):
        return "of-a-dictionary"
    return "of-a-layer" if isinstance(value, LayerFeatures) else "listed"


def _images_tag(value: Any) -> str:
    return "of-a-dataset" if isinstance(value, Mapping | DatasetImages) else "listed"


FeatureSource = Annotated[
    Annotated[Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_LISTED_FEATURES)], Tag("listed")]
    | Annotated[LayerFeatures, Tag("of-a-layer")]
    | Annotated[DictionaryFeatures, Tag("of-a-dictionary")],
    Discriminator(_source_tag),
]
ImageSource = Annotated[
    Annotated[Annotated[tuple[Sha256, ...], Field(min_length=1, max_length=MAX_LISTED_IMAGES)], Tag("listed")]
    | Annotated[DatasetImages, Tag("of-a-dataset")],
    Discriminator(_images_tag),
]
Pairing = Literal["product", "zip"] | TopK


class BatchSpec(_Spec):
    """Many jobs of one model in one request: features × images × random seeds, or a list of jobs.

    Order of a product: the features outermost, then the images, the random seeds innermost. ``zip`` pairs the i-th
    feature with the i-th image. ``custom_id`` is a pattern for the jobs of a product, with the placeholders
    ``{feature}``, ``{image}``, ``{seed}`` and ``{index}``; ``{image:.8}`` takes the first eight characters.
    """

    model: ModelName
    features: FeatureSource | None = None
    images: ImageSource | None = None
    pairing: Pairing = "product"
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS, description="random seeds per pair: 0, 1, …")] = 1
    jobs: Annotated[tuple[BatchJob, ...], Field(min_length=1, max_length=MAX_EXPLICIT_JOBS)] | None = None
    recipe: AnyRecipe = PRESETS["natural"]
    lane: Lane = "bulk"
    metadata: Metadata = {}
    custom_id: Annotated[CustomId, Field(description="pattern, such as `{feature}-{image:.8}-{seed}`")] | None = None
    force: Force = False
    deadline_s: Deadline | None = None

    @field_validator("custom_id")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else check_pattern(pattern)

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.jobs is not None:
            if self.features is not None or self.images is not None:
                raise ValueError("give either features and images, or jobs, not both")
            if self.pairing != "product" or self.seeds != 1:
                raise ValueError("pairing and seeds go with features and images; each of jobs has a seed of its own")
            if self.custom_id is not None:
                raise ValueError("a pattern for custom_id goes with features and images; each of jobs has its own")
            ids = Counter(job.custom_id for job in self.jobs if job.custom_id is not None)
            if twice := sorted(name for name, count in ids.items() if count > 1):
                raise DuplicateIdError(f"custom_id must be unique in a batch; given more than once: {twice[:5]}")
        elif self.features is None or self.images is None:
            raise ValueError("give features and images, or jobs")
        return self

    def expand(self, card: ModelCard, catalog: Catalog = EMPTY_CATALOG) -> "Jobs":
        """Return the jobs as a sequence that decodes its items when they are asked for; `Jobs` says what it raises."""
        from accentor.spec.expansion import Jobs

        return Jobs(self, card, catalog)
