"""The recipe: all settings of one optimisation."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from accentor.errors import InvalidRecipeError

MAX_STEPS = 10_000
MAX_CROPS = 256
MAX_SIZE = 2_048
MIN_SIZE = 16


class Recipe(BaseModel):
    """All settings of one optimisation. The defaults are those of the preset ``natural``.

    Symbols are those of Hamblin et al., *Feature Accentuation* (arXiv 2402.10039).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameterization: Literal["pixel", "fourier", "phase"] = Field(
        "fourier", description="What the optimiser moves: pixels, Fourier coefficients, or Fourier phases."
    )
    decay: float = Field(
        1.0, ge=0.0, le=4.0, description="Exponent d of the spectrum's scale 1/|f|^d; used by `fourier` alone."
    )
    steps: int = Field(40, ge=1, le=MAX_STEPS, description="Steps of Adam.")
    learning_rate: float = Field(0.05, gt=0.0, le=10.0, description="Adam's learning rate.")
    crops: int = Field(16, ge=1, le=MAX_CROPS, description="T, random crops per step.")
    crop_size: tuple[float, float] = Field(
        (0.05, 0.99), description="Range of a crop's side, as a fraction of the image's side, drawn uniformly."
    )
    noise_std: float = Field(
        0.02, ge=0.0, le=1.0, description="Standard deviation of the Gaussian noise per pixel of a crop, in 0..1."
    )
    noise_range: float = Field(
        0.01, ge=0.0, le=1.0, description="Half-width of the uniform noise per pixel of a crop, in 0..1."
    )
    size: int | None = Field(
        None,
        ge=MIN_SIZE,
        le=MAX_SIZE,
        description="Longer side of the canvas in pixels, the aspect is kept; none: 16/7 of the model's input size.",
    )
    regularization: float = Field(
        0.3, ge=0.0, le=1_000.0, description="α: pull of the seed relative to the pull of the feature at the start."
    )
    regularization_layer: str | None = Field(
        None, max_length=256, description="ℓ, where the distance to the seed is measured; none: the model's own."
    )
    snapshots: int = Field(5, ge=0, le=64, description="Frames kept on the way, evenly spaced, the last step included.")
    opacity_percentile: float = Field(
        80.0, gt=0.0, le=100.0, description="Percentile at which the accumulated gradient is clipped."
    )
    opacity_blur: float = Field(
        2.0, ge=0.0, le=64.0, description="Standard deviation in pixels of the opacity map's Gaussian blur."
    )

    @model_validator(mode="after")
    def _check_crop_size(self) -> Self:
        low, high = self.crop_size
        if not 0.0 < low <= high <= 1.0:
            raise ValueError(f"crop_size is {self.crop_size}: expected 0 < low <= high <= 1")
        return self


PRESETS: Mapping[str, Recipe] = {
    "natural": Recipe(),
    "fast": Recipe(steps=25, crops=8, snapshots=4),
    "paper": Recipe(parameterization="phase", steps=100, regularization=1.0),
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
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'} = {fault['input']!r}: {fault['msg']}"
            for fault in error.errors()
        )
        raise InvalidRecipeError(f"the recipe is not valid: {faults}") from error


AnyRecipe = Annotated[Recipe, BeforeValidator(resolve_recipe, json_schema_input_type=Recipe | str)]
