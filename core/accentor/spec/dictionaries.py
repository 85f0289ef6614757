"""Feature dictionaries as a service keeps them: what is asked for, and the card of what there is."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.errors import InvalidFeatureError, UnitOutOfRangeError
from accentor.spec.features import LayerName
from accentor.spec.identity import Sha256
from accentor.spec.jobs import ModelName
from accentor.spec.models import ModelCard

MAX_FEATURES = 262_144
"""Features of a dictionary that a service, or an atlas, takes."""

MAX_LABEL = 200
"""Characters."""

MAX_LISTED = 100
"""Features that cannot be used, or repeat another, that a card lists; all are counted."""

MAX_STATISTICS = 32
VERSION_DIGITS = 16
"""Hexadecimal digits of the digest that a version is called by."""

NAME_FORM = r"[A-Za-z0-9][A-Za-z0-9._-]*"
REFERENCE_FORM = rf"{NAME_FORM}(?:@[0-9a-f]{{{VERSION_DIGITS}}})?"

DictionaryName = Annotated[str, Field(pattern=f"^{NAME_FORM}$", max_length=100)]
DictionaryReference = Annotated[str, Field(pattern=f"^{REFERENCE_FORM}$", max_length=120)]
Version = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{VERSION_DIGITS}}}$", description="of the content's digest")]
Kind = Literal["channels", "directions", "encoder"]
Activation = Literal["identity", "relu", "jumprelu", "topk"]
Label = Annotated[str, Field(max_length=MAX_LABEL)]
Statistic = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)] | None, ...], Field(max_length=MAX_FEATURES)]


class DictionarySpec(BaseModel):
    """What a dictionary is made from: the channels of a layer, a file that was uploaded, or an object in the store.

    A file is ``.npy`` or ``.safetensors``, with one matrix of directions [features, units], with an encoder (W_enc,
    b_enc, …), or as `Dictionary.save` wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: DictionaryName
    model: ModelName
    layer: LayerName | None = Field(None, description="where the file does not say it")
    channels: bool = Field(default=False, description="all channels of the layer; no file")
    file: Sha256 | None = Field(None, description="sha256 of an uploaded file")
    object: str | None = Field(None, max_length=512, description="key of an object in the service's store")
    activation: Activation | None = Field(None, description="of an encoder, where the file does not say it")
    k: int | None = Field(None, ge=1, description="how many units of a topk encoder are on")
    threshold: float | None = Field(None, ge=0.0, allow_inf_nan=False, description="of a jumprelu encoder")
    labels: Annotated[tuple[Label, ...], Field(max_length=MAX_FEATURES)] | None = Field(
        None, description="names of the features, by index"
    )
    statistics: Annotated[dict[Annotated[str, Field(max_length=64)], Statistic], Field(max_length=MAX_STATISTICS)] = (
        Field({}, description="numbers of each feature, by name and index")
    )
    description: str = Field("", max_length=2_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [self.channels, self.file is not None, self.object is not None]
        if sum(given) != 1:
            raise ValueError(f"expected one of channels, file and object; {sum(given)} were given")
        if self.channels and self.layer is None:
            raise ValueError("channels are those of a layer: name it")
        if self.channels and (self.activation or self.k or self.threshold is not None):
            raise ValueError("channels have no activation, k and threshold of their own")
        return self


class DictionaryCard(BaseModel):
    """Everything about one version of a dictionary but its numbers; it never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: DictionaryName
    version: Version
    digest: Sha256 = Field(description="over the file, the layer and all that its features' values depend on")
    model: ModelName
    model_digest: Sha256
    layer: LayerName
    kind: Kind
    features: Annotated[int, Field(ge=1)] = Field(description="number of features")
    units: Annotated[int, Field(ge=1)] = Field(description="width of the layer")
    dtype: str | None = Field(None, description="of the vectors in the file")
    activation: Activation | None = None
    k: int | None = None
    options: dict[str, str | int | float] = Field(
        {}, description="what the file does not say: activation, k, threshold"
    )
    file: Sha256 | None = Field(None, description="of the file; none: channels")
    suffix: Literal[".npy", ".safetensors"] | None = None
    bytes: int = Field(0, ge=0, description="of the file")
    labeled: bool = Field(default=False, description="whether the features have labels")
    statistics: tuple[str, ...] = Field((), description="names of the numbers that each feature has")
    zero: int = Field(0, description="features that are all zero: they cannot be used")
    not_finite: int = Field(0, description="features that hold NaN or infinity: they cannot be used")
    duplicates: int | None = Field(0, description="features that repeat an earlier one; none: too many to compare")
    dead_features: tuple[int, ...] = Field((), description="the first of those that cannot be used")
    duplicate_features: tuple[tuple[int, int], ...] = Field(
        (), description="the first pairs: a feature, an earlier one"
    )
    description: str = ""
    created_at: datetime

    @property
    def reference(self) -> str:
        """What this version, and no other, is named by: ``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    def check_unit(self, unit: int) -> None:
        """Check that there is such a feature, and that it can be used as far as the card lists it.

        Raises
        ------
        UnitOutOfRangeError, InvalidFeatureError
            With what was asked for and what there is.
        """
        if unit >= self.features:
            raise UnitOutOfRangeError(
                f"dictionary {self.name!r} has features 0 to {self.features - 1}; {unit} was asked for"
            )
        if unit in self.dead_features:
            raise dead_feature(self.name, unit)

    def check_model(self, card: ModelCard) -> None:
        """Check that this is a dictionary for the model, as wide as the layer.

        Raises
        ------
        UnknownLayerError
            With the names nearest to it.
        InvalidFeatureError
            If it is for another model or another width; both are named.
        """
        if self.model != card.name and self.model_digest != card.digest:
            raise InvalidFeatureError(f"dictionary {self.name!r} is for the model {self.model}, not for {card.name}")
        layer = card.layer(self.layer)
        if layer.units != self.units:
            raise InvalidFeatureError(
                f"dictionary {self.name!r} is for {self.units} units, "
                f"{layer.name} of {card.name} has {layer.units} units"
            )


class DictionaryFeature(BaseModel):
    """One feature of a dictionary in a list."""

    index: int
    feature: str = Field(description="what a job names it by")
    label: str | None = None
    state: Literal["ok", "zero", "not-finite", "duplicate"] = "ok"
    duplicate_of: int | None = None
    norm: float | None = Field(None, description="length of its vector")
    statistics: dict[str, float | None] = {}


def dead_feature(name: str, unit: int) -> InvalidFeatureError:
    """Return the error that a feature without a direction is refused with."""
    return InvalidFeatureError(f"feature {unit} of dictionary {name!r} cannot be used: it is all zero or not finite")
