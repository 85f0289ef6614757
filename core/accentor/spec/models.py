"""The model card: what can be accentuated in a model, known without loading it."""

import difflib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from accentor.errors import InvalidFeatureError, UnitOutOfRangeError, UnknownLayerError
from accentor.spec.features import Channel, Direction, Feature, Logit, Neuron, Sum, Term
from accentor.spec.identity import Sha256
from accentor.spec.recipe import Recipe

NEAREST = 5


class LayerInfo(BaseModel):
    """One layer of a model: a module that gives one tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="PyTorch's dotted module name")
    type: str = Field(description="class of the module")
    shape: tuple[int, ...] = Field(description="activations of one image: [C, H, W], [N, C] or [C]")

    @property
    def units(self) -> int:
        """Channels of the layer: the width of a direction there."""
        return self.shape[-1] if len(self.shape) == 2 else self.shape[0]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the layer's positions; none for vectors and tokens."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else None


class ModelCard(BaseModel):
    """Everything about a model that validation and identity need; a worker announces it, an API reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the name it is submitted under")
    source: str = Field(description="where it is from, as given to load_model")
    digest: Sha256 = Field(description="sha256 over architecture, preprocessing and weights")
    input_size: Annotated[int, Field(ge=1)] = Field(description="side of the square the network takes, in pixels")
    labels: tuple[str, ...] | None = Field(None, description="names of the logits, by index")
    outputs: int | None = Field(None, description="number of logits; none where the model gives no vector")
    regularization_layer: str = Field(description="the default ℓ, an early layer")
    layers: tuple[LayerInfo, ...]

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

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise `UnknownLayerError` if the recipe's regularisation layer is not one of this model's."""
        self.layer(recipe.regularization_layer or self.regularization_layer)

    def resolve(self, feature: Feature) -> Feature:
        """Check that the model has this feature, and return it with labels turned into indices.

        Raises
        ------
        UnknownLayerError, UnitOutOfRangeError, InvalidFeatureError
            With what was given and what there is.
        """
        if isinstance(feature, Sum):
            return Sum(terms=tuple(Term(weight=t.weight, feature=self._resolve_atom(t.feature)) for t in feature.terms))
        return self._resolve_atom(feature)

    def _resolve_atom(self, atom: Logit | Channel | Neuron | Direction) -> Logit | Channel | Neuron | Direction:
        match atom:
            case Logit():
                return Logit(unit=self._logit(atom.unit))
            case Channel():
                self._check_unit(atom.unit, self.layer(atom.layer))
            case Neuron():
                layer = self.layer(atom.layer)
                self._check_unit(atom.unit, layer)
                self._check_position(atom, layer)
            case Direction():
                self._check_direction(atom, self.layer(atom.layer))
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

    def _check_unit(self, unit: int, layer: LayerInfo) -> None:
        if unit >= layer.units:
            raise UnitOutOfRangeError(
                f"{layer.name} of {self.name} has units 0 to {layer.units - 1}; {unit} was asked for"
            )

    def _check_position(self, feature: Neuron, layer: LayerInfo) -> None:
        if layer.grid is None:
            raise InvalidFeatureError(
                f"{layer.name} of {self.name} has no rows and columns (its shape is {list(layer.shape)}): "
                f"name channel:{layer.name}:{feature.unit}"
            )
        if feature.position is not None:
            (row, column), (rows, columns) = feature.position, layer.grid
            if row >= rows or column >= columns:
                raise UnitOutOfRangeError(
                    f"{layer.name} of {self.name} has {rows} rows and {columns} columns, counted from 0; "
                    f"position {row},{column} was asked for"
                )

    def _check_direction(self, feature: Direction, layer: LayerInfo) -> None:
        if feature.vector is not None and len(feature.vector) != layer.units:
            raise InvalidFeatureError(
                f"the direction has {len(feature.vector)} values, {layer.name} of {self.name} has {layer.units} units"
            )
