"""Whether a feature fits a layer: its units, its places, its vectors and maps."""

from typing import TYPE_CHECKING

from accentor.errors import InvalidFeatureError, UnitOutOfRangeError
from accentor.spec.features import (
    Channel,
    Cosine,
    CosinePower,
    Direction,
    Encoder,
    Likeness,
    Neuron,
    Place,
    Position,
    Spatial,
    Window,
)

if TYPE_CHECKING:
    from accentor.spec.models import LayerInfo


def check_fits(
    atom: Channel | Neuron | Direction | Cosine | CosinePower | Encoder | Spatial | Likeness,
    layer: "LayerInfo",
    model: str,
) -> None:
    """Check a feature against its layer; ``model`` is the model's name, for the message.

    Raises
    ------
    UnitOutOfRangeError
        If a unit, a position or a window is outside the layer.
    InvalidFeatureError
        If a vector or a map is of another size, or the layer has no such places.
    """
    where = f"{layer.name} of {model}"
    match atom:
        case Channel() | Neuron():
            _check_unit(atom.unit, layer, where)
            if isinstance(atom, Neuron) and atom.position is None:
                _grid(layer, where, f"name channel:{layer.name}:{atom.unit}")
            place = atom.at if isinstance(atom, Channel) else atom.position
            _check_place(place, layer, where, f"name channel:{layer.name}:{atom.unit}")
        case Spatial():
            _check_map(atom, layer, where)
        case Likeness():
            _check_place(atom.at, layer, where, "leave the place out")
        case _:
            if atom.vector is not None and len(atom.vector) != layer.units:
                raise InvalidFeatureError(
                    f"the {atom.kind} has {len(atom.vector)} values, {where} has {layer.units} units"
                )
            _check_place(atom.at, layer, where, "leave the place out")


def _check_unit(unit: int, layer: "LayerInfo", where: str) -> None:
    if unit >= layer.units:
        raise UnitOutOfRangeError(f"{where} has units 0 to {layer.units - 1}; {unit} was asked for")


def _check_place(place: Place | None, layer: "LayerInfo", where: str, advice: str) -> None:
    if place is None:
        return
    if place == "cls":
        if not layer.class_tokens:
            raise InvalidFeatureError(f"{where} has no class token (its shape is {list(layer.shape)}): {advice}")
        return
    rows, columns = _grid(layer, where, advice)
    if isinstance(place, Window):
        asked = f"the window {place}"
        last = (place.rows[1] - 1, place.columns[1] - 1)
    else:
        asked, last = f"position {place[0]},{place[1]}", place
    if last[0] >= rows or last[1] >= columns:
        raise UnitOutOfRangeError(
            f"{where} has {rows} rows and {columns} columns, counted from 0; {asked} was asked for"
        )


def _check_map(atom: Spatial, layer: "LayerInfo", where: str) -> None:
    rows, columns = _grid(layer, where, "a target map needs them")
    if atom.target is None:
        return
    units, height, width = atom.target.shape
    if units != layer.units:
        raise InvalidFeatureError(f"the map has {units} channels, {where} has {layer.units} units")
    if atom.offset is None and (height, width) != (rows, columns):
        raise InvalidFeatureError(
            f"the map has {height} rows and {width} columns, {where} has {rows} and {columns}: "
            "give its offset, the row and column of its first corner"
        )
    top, left = atom.offset or (0, 0)
    if top + height > rows or left + width > columns:
        raise UnitOutOfRangeError(
            f"the map covers rows {top}:{top + height} and columns {left}:{left + width}, "
            f"{where} has {rows} rows and {columns} columns"
        )


def _grid(layer: "LayerInfo", where: str, advice: str) -> Position:
    if layer.grid_shape is None:
        raise InvalidFeatureError(f"{where} has no rows and columns (its shape is {list(layer.shape)}): {advice}")
    return layer.grid_shape
