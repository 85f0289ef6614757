"""The model card: what can be accentuated in a model, known without loading it."""

import difflib
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.errors import InvalidFeatureError, UnitOutOfRangeError, UnknownLayerError
from accentor.spec.features import Blur, Entry, Feature, Logit, OneAtom, replace_atoms
from accentor.spec.fitting import check_fits
from accentor.spec.identity import Sha256
from accentor.spec.recipe import Recipe

NEAREST = 5


class LayerInfo(BaseModel):
    """One layer of a model: a module that gives one tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="PyTorch's dotted module name; with .input behind it, what an activation receives")
    type: str = Field(description="class of the module")
    shape: tuple[int, ...] = Field(description="activations of one image: [C, H, W], [N, C] or [C]")
    layout: Literal["CHW", "HWC", "NC", "C"] = Field("C", description="what the axes are; by default from their number")
    grid_shape: tuple[int, int] | None = Field(None, description="rows and columns of the map or of the tokens")
    class_tokens: int = Field(0, ge=0, description="leading tokens that are no position")
    channels_last: bool = Field(
        default=False, description="whether the module itself gives [H, W, C], where the engine gives [C, H, W]"
    )
    stride: tuple[float, float] | None = Field(None, description="pixels of the input per row and per column")

    @model_validator(mode="before")
    @classmethod
    def _infer(cls, fields: Any) -> Any:
        """Take three axes for a map, two for tokens in a square, with a class token if only then they make one."""
        if not isinstance(fields, dict) or not fields.get("shape"):
            return fields
        shape = fields["shape"]
        layout = fields.get("layout") or {3: "CHW", 2: "NC"}.get(len(shape), "C")
        grid: tuple[int, int] | None = None
        leading = 0
        if layout in ("CHW", "HWC"):
            grid = tuple(shape[1:]) if layout == "CHW" else tuple(shape[:2])
        elif layout == "NC":
            leading = next((first for first in (0, 1) if math.isqrt(shape[0] - first) ** 2 == shape[0] - first), 0)
            side = math.isqrt(shape[0] - leading)
            grid = (side, side) if side > 0 and side**2 == shape[0] - leading else None
        return {"grid_shape": grid, "class_tokens": leading, **fields, "layout": layout}

    @property
    def units(self) -> int:
        """Channels of the layer: the width of a direction there."""
        return self.shape[0] if self.layout == "CHW" else self.shape[-1]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the layer's positions; none for vectors and tokens."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else None

    def position_of(self, y: float, x: float, *, of: tuple[float, float] | None = None) -> tuple[int, int]:
        """Return the row and column of the position that a point of an image falls on.

        Parameters
        ----------
        y, x
            The point, in pixels from the upper left corner: the first pixel spans 0 to 1.
        of
            Height and width of the image that the point is in, (1, 1) for fractions; none: the network's input.

        Raises
        ------
        InvalidFeatureError
            If the layer has no rows and columns.
        UnitOutOfRangeError
            If the point is outside the image.
        """
        height, width = self._extent(of)
        if not (0 <= y < height and 0 <= x < width):
            raise UnitOutOfRangeError(f"the image is {height:g} high and {width:g} wide: {y:g}, {x:g} is outside it")
        rows, columns = self.grid_shape or (1, 1)
        return min(int(y * rows / height), rows - 1), min(int(x * columns / width), columns - 1)

    def pixel_of(self, row: int, column: int, *, of: tuple[float, float] | None = None) -> tuple[float, float]:
        """Return the point (y, x) of an image at the centre of a position: the inverse of `position_of`.

        Raises
        ------
        InvalidFeatureError
            If the layer has no rows and columns.
        UnitOutOfRangeError
            If it has not so many.
        """
        height, width = self._extent(of)
        rows, columns = self.grid_shape or (1, 1)
        if not (0 <= row < rows and 0 <= column < columns):
            raise UnitOutOfRangeError(
                f"{self.name} has {rows} rows and {columns} columns, counted from 0; "
                f"position {row},{column} was asked for"
            )
        return (row + 0.5) * height / rows, (column + 0.5) * width / columns

    def _extent(self, of: tuple[float, float] | None) -> tuple[float, float]:
        if self.grid_shape is None:
            raise InvalidFeatureError(f"{self.name} has no rows and columns (its shape is {list(self.shape)})")
        if of is not None:
            return of
        if self.stride is None:
            raise InvalidFeatureError(f"the stride of {self.name} is not known: say how large the image is")
        return self.grid_shape[0] * self.stride[0], self.grid_shape[1] * self.stride[1]


class ModelCard(BaseModel):
    """Everything about a model that validation and identity need; a worker announces it, an API reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the name it is submitted under")
    source: str = Field(description="where it is from, as given to load_model")
    digest: Sha256 = Field(description="sha256 over architecture, preprocessing and weights")
    input_size: Annotated[int, Field(ge=1)] = Field(description="side of the square the network takes, in pixels")
    channels: Annotated[int, Field(ge=1)] = Field(3, description="of the images that the network takes")
    labels: tuple[str, ...] | None = Field(None, description="names of the logits, by index")
    outputs: int | None = Field(None, description="number of logits; none where the model gives no vector")
    regularization_layer: str = Field(description="the default ℓ, an early layer")
    layers: tuple[LayerInfo, ...]

    def __repr__(self) -> str:
        return f"<model card {self}>"

    def __str__(self) -> str:
        outputs = "no logits" if self.outputs is None else f"{self.outputs} logits"
        return f"{self.name!r}: {self.input_size} px, {len(self.layers)} layers, {outputs}"

    def canvas_size(self, recipe: Recipe) -> int:
        """Return the longer side of the canvas in pixels: the recipe's, or 16/7 of the input (512 for 224)."""
        return recipe.size or round(self.input_size * 16 / 7)

    def layer(self, name: str) -> LayerInfo:
        """Return the layer of this name.

        Raises
        ------
        UnknownLayerError
            With the names nearest to it.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        nearest = difflib.get_close_matches(name, names, n=NEAREST, cutoff=0.0)
        raise UnknownLayerError(
            f"{self.name} has no layer {name!r}; the nearest names are {', '.join(nearest)}", nearest=nearest
        )

    def regularization_layers(self, recipe: Recipe) -> tuple[str, ...]:
        """Return ℓ, the layers in which the recipe measures the distance to the seed."""
        return recipe.regularization_layers or (self.regularization_layer,)

    def check_recipe(self, recipe: Recipe) -> None:
        """Check that the recipe's layers, and its opacity feature, are this model's.

        Raises
        ------
        UnknownLayerError, UnitOutOfRangeError, InvalidFeatureError
            With what was given and what there is.
        """
        for name in self.regularization_layers(recipe):
            self.layer(name)
        if recipe.opacity_feature is not None:
            self.resolve(recipe.opacity_feature)

    def resolve(self, feature: Feature) -> Feature:
        """Check that the model has this feature, and return it with labels turned into indices.

        Raises
        ------
        UnknownLayerError, UnitOutOfRangeError, InvalidFeatureError
            With what was given and what there is.
        """
        return replace_atoms(feature, self._resolve_atom)

    def _resolve_atom(self, atom: OneAtom) -> OneAtom:
        match atom:
            case Logit():
                return Logit(unit=self._logit(atom.unit))
            case Entry() | Blur():
                return atom
        check_fits(atom, self.layer(atom.layer), self.name)
        return atom

    def _logit(self, unit: int | str) -> int:
        if self.outputs is None:
            raise InvalidFeatureError(f"{self.name} gives no logits: name a channel or a direction of a layer")
        if isinstance(unit, int):
            if unit >= self.outputs:
                raise UnitOutOfRangeError(f"{self.name} has logits 0 to {self.outputs - 1}; {unit} was asked for")
            return unit
        if self.labels is None:
            raise InvalidFeatureError(
                f"{self.name} knows no labels: give the logit's index, 0 to {self.outputs - 1}, not {unit!r}"
            )
        wanted = unit.casefold()
        found = [index for index, label in enumerate(self.labels) if label.casefold() == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidFeatureError(f"{self.name} has {len(found)} logits called {unit!r}: give one of {found}")
        nearest = difflib.get_close_matches(wanted, [label.casefold() for label in self.labels], n=NEAREST, cutoff=0.0)
        raise InvalidFeatureError(
            f"{self.name} has no logit called {unit!r}; the nearest labels are {', '.join(nearest)}", nearest=nearest
        )
