"""The recipe: all settings of one optimisation."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from accentor.errors import InvalidRecipeError, what_is_wrong
from accentor.spec.features import Feature, LayerName

MAX_STEPS = 10_000
MAX_CROPS = 256
MAX_SIZE = 2_048
MIN_SIZE = 16
MAX_STRENGTHS = 16
MAX_STRENGTH = 10.0
MAX_REGULARIZATION_LAYERS = 8
MAX_BORDER = 1.5


def is_zero(value: object) -> bool:
    """Tell whether a setting is left out of the JSON, so that a recipe without it keeps its identity."""
    return value == 0


class Recipe(BaseModel):
    """All settings of one optimisation. The defaults are those of the preset ``natural``.

    Symbols are those of Hamblin et al., *Feature Accentuation* (arXiv 2402.10039).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameterization: Literal["pixel", "fourier", "phase"] = Field(
        "fourier", description="What the optimiser moves: pixels, Fourier coefficients, or Fourier phases."
    )
    start: Literal["seed", "noise"] = Field(
        "seed", description="Where the optimisation starts; from `noise` it is plain feature visualisation."
    )
    decay: float = Field(
        1.1, ge=0.0, le=4.0, description="Exponent d of the spectrum's scale 1/|f|^d; used by `fourier` alone."
    )
    border: float = Field(
        0.0,
        ge=0.0,
        le=MAX_BORDER,
        exclude_if=is_zero,
        description="Room around the image, as a share of its longer side, in the Fourier forms: there its frequencies"
        " wrap around instead of at its edges.",
    )
    steps: int = Field(75, ge=1, le=MAX_STEPS, description="Steps of Adam.")
    learning_rate: float = Field(0.032, gt=0.0, le=10.0, description="Adam's learning rate.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="How the learning rate falls over the steps, towards 0."
    )
    crops: int = Field(4, ge=1, le=MAX_CROPS, description="T, random crops per step.")
    augmentation: Literal["uniform", "centered", "jitter"] = Field(
        "uniform",
        description="Crops anywhere; crops about the centre (MACO); or the whole image padded, shifted, scaled, rotated"
        " (Lucid).",
    )
    crop_size: tuple[float, float] = Field(
        (0.35, 0.99), description="Range of a crop's side, as a fraction of the image's side, drawn uniformly."
    )
    noise_std: float = Field(
        0.0, ge=0.0, le=1.0, description="Standard deviation of the Gaussian noise per pixel of a crop, in 0..1."
    )
    noise_range: float = Field(
        0.0, ge=0.0, le=1.0, description="Half-width of the uniform noise per pixel of a crop, in 0..1."
    )
    noise_at: Literal["crop", "input"] = Field(
        "crop", description="Whether the noise is added before a crop is resized to the model's input, or after."
    )
    noise_color: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        exclude_if=is_zero,
        description="Standard deviation of the one colour by which all pixels of a crop are shifted, in 0..1.",
    )
    size: int | None = Field(
        None,
        ge=MIN_SIZE,
        le=MAX_SIZE,
        description="Longer side of the canvas in pixels, the aspect is kept; none: 16/7 of the model's input size.",
    )
    regularization: float = Field(
        0.445, ge=0.0, le=1_000.0, description="α: pull of the seed relative to the pull of the feature at the start."
    )
    regularizer: Literal["l2", "l1", "cosine", "pearson", "orthogonal"] = Field(
        "l2",
        description="How far two activations of ℓ are apart: norms over channels, 1 - similarity, or the L2 norm of"
        " what is orthogonal to the feature's own direction.",
    )
    regularization_layer: (
        LayerName | Annotated[tuple[LayerName, ...], Field(min_length=1, max_length=MAX_REGULARIZATION_LAYERS)] | None
    ) = Field(
        None,
        description="ℓ, where the distance to the seed is measured; of several, the mean; none: the model's own.",
    )
    ball: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="Radius of an L2 ball around the seed onto which the image is projected after each step, as the"
        " root mean square change per value of a pixel; none: no ball.",
    )
    stop_at: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Value of the feature on the clean image at which a pair stops before its last step.",
    )
    strengths: tuple[float, ...] = Field(
        (),
        max_length=MAX_STRENGTHS,
        description="Shares of the steps after which an image is kept, for a slider: 0.5 half-way, 1 the end, 2 twice"
        " the steps; negative ones suppress the feature.",
    )
    redirected_relu: bool = Field(
        default=False,
        description="Let the gradient pass ReLUs that are off, for features that are dead on the seed (Lucid).",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the network's passes; `auto`: bfloat16 where the processor computes in it."
    )
    snapshots: int = Field(5, ge=0, le=64, description="Frames kept on the way, evenly spaced, the last step included.")
    opacity_percentile: float = Field(
        95.0, gt=0.0, le=100.0, description="Percentile at which the accumulated gradient is clipped."
    )
    opacity_blur: float = Field(
        4.0, ge=0.0, le=64.0, description="Standard deviation in pixels of the opacity map's Gaussian blur."
    )

    opacity_every: int = Field(
        8,
        ge=1,
        le=MAX_STEPS,
        description="Steps between two whose gradient the opacity map accumulates; 1: every step.",
    )
    opacity_feature: Feature | None = Field(
        None, description="Feature whose gradient the opacity map accumulates; none: the accentuated one."
    )

    @field_validator("strengths")
    @classmethod
    def _check_strengths(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        for strength in strengths:
            if not 0.0 <= abs(strength) <= MAX_STRENGTH:
                raise ValueError(f"strength {strength:g}: expected -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}")
        if len(set(strengths)) != len(strengths):
            raise ValueError(f"strengths are {strengths}: expected each once")
        return tuple(sorted(strengths))

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        low, high = self.crop_size
        if not 0.0 < low <= high <= 1.0:
            raise ValueError(f"crop_size is {self.crop_size}: expected 0 < low <= high <= 1")
        if self.start == "noise" and self.regularization > 0:
            raise ValueError(
                f"regularization is {self.regularization:g}: from noise there is no seed to stay near, give 0"
            )
        if self.start == "noise" and self.ball is not None:
            raise ValueError(f"ball is {self.ball:g}: from noise there is no seed to stay near, give none")
        if self.ball is not None and self.parameterization == "phase":
            raise ValueError(
                f"ball is {self.ball:g}: phases cannot take on every image, give parameterization pixel or fourier"
            )
        if self.border > 0 and self.parameterization == "pixel":
            raise ValueError(
                f"border is {self.border:g}: pixels do not wrap around, give parameterization fourier or phase"
            )
        if self.strengths and self.stop_at is not None:
            raise ValueError("give either strengths or stop_at: each says on its own when an image is kept")
        if self.schedule != "constant" and any(abs(strength) > 1 for strength in self.strengths):
            raise ValueError(
                f"strengths are {self.strengths} and the schedule is {self.schedule}: beyond 1 its learning rate is 0"
            )
        return self

    @property
    def regularization_layers(self) -> tuple[str, ...]:
        """The named regularisation layers; empty for the model's own."""
        if self.regularization_layer is None:
            return ()
        named = self.regularization_layer
        return (named,) if isinstance(named, str) else named


PRESETS: Mapping[str, Recipe] = {
    "natural": Recipe(),
    "fast": Recipe(steps=20, learning_rate=0.075, decay=1.25, crop_size=(0.42, 0.99), regularization=0.32, snapshots=4),
    "paper": Recipe(
        parameterization="phase",
        decay=1.0,
        steps=100,
        learning_rate=0.05,
        crops=16,
        crop_size=(0.05, 0.99),
        noise_std=0.02,
        noise_range=0.01,
        regularization=1.0,
        opacity_percentile=80.0,
        opacity_blur=2.0,
        opacity_every=1,
    ),
}


def resolve_recipe(value: "str | Mapping[str, Any] | Recipe") -> Recipe:
    """Return the recipe meant by a preset's name, by the settings that differ from ``natural``, or by itself.

    Raises
    ------
    InvalidRecipeError
        With the presets there are, or each setting that is unknown or out of its range.
    """
    if isinstance(value, Recipe):
        return value
    if isinstance(value, str):
        if value not in PRESETS:
            raise InvalidRecipeError(f"no preset is called {value!r}: there are {', '.join(PRESETS)}")
        return PRESETS[value]
    if not isinstance(value, Mapping):
        raise InvalidRecipeError(f"a recipe is a preset's name or settings, not {type(value).__name__}")
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'} = {fault['input']!r}: {what_is_wrong(fault)}"
            for fault in error.errors()
        )
        raise InvalidRecipeError(f"the recipe is not valid: {faults}") from error


AnyRecipe = Annotated[Recipe, BeforeValidator(resolve_recipe, json_schema_input_type=Recipe | str)]
