"""One job: what is submitted, and the content key that its result lives under."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from accentor.spec.features import Feature
from accentor.spec.identity import ENGINE_VERSION, Sha256, canonical_json, sha256_hex
from accentor.spec.models import ModelCard
from accentor.spec.recipe import PRESETS, AnyRecipe, Recipe

MAX_SEED = 2**32 - 1
"""PyTorch's CPU generator reads no more than the lower 32 bits of a seed: larger ones would repeat smaller ones."""

MAX_METADATA = 16
MAX_CUSTOM_ID = 200
"""Characters."""

PARTS_KEPT = 1_024
"""Recipes and features whose part of a content key is kept."""

MODEL_NAME = r"^[A-Za-z0-9._:/-]+$"
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=MODEL_NAME)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="of the crops and the noise")]
CustomId = Annotated[str, Field(min_length=1, max_length=MAX_CUSTOM_ID)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=MAX_METADATA)
]
Lane = Literal["interactive", "bulk"]


class JobSpec(BaseModel):
    """One job: a feature of a model accentuated in an image.

    ``image`` is the sha256 of the image's bytes, as uploaded. ``custom_id`` and ``metadata`` come back with the
    result and are no part of the job's identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        return KeyMaker(card).key(self)


class KeyMaker:
    """Content keys of many jobs of one model; parts that come again, as the same objects, are made once."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._parts: dict[int, tuple[Any, bytes]] = {}

    def key(self, job: JobSpec) -> str:
        """Return the job's content key."""
        feature = self._part(job.feature, self._feature)
        recipe = self._part(job.recipe, self._recipe)
        return sha256_hex(
            b'{"engine":%d,"feature":%b,"image":"%b","model":"%b","recipe":%b,"seed":%d}'
            % (ENGINE_VERSION, feature, job.image.encode(), self._card.digest.encode(), recipe, job.seed)
        )

    def _part(self, value: Any, make: Any) -> bytes:
        """Return the canonical JSON of a part; by identity, since 0.0 and -0.0 are equal and not written alike."""
        kept = self._parts.get(id(value))
        if kept is None:
            if len(self._parts) >= PARTS_KEPT:
                self._parts.clear()
            kept = self._parts[id(value)] = (value, canonical_json(make(value)))
        return kept[1]

    def _feature(self, feature: Feature) -> Any:
        return self._card.resolve(feature).model_dump(mode="json")

    def _recipe(self, recipe: Recipe) -> Any:
        opacity = recipe.opacity_feature
        changes = {
            "size": self._card.canvas_size(recipe),
            "regularization_layer": self._card.regularization_layers(recipe),
            "opacity_feature": opacity if opacity is None else self._card.resolve(opacity),
        }
        return recipe.model_copy(update=changes).model_dump(mode="json")
