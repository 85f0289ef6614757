"""Positions of a layer: maps and tokens as one grid, and sums over them."""

import math

from torch import Tensor

from accentor.engine.features import by_position
from accentor.errors import InvalidRequestError
from accentor.spec import LayerInfo


def has_grid(layer: LayerInfo) -> bool:
    """Tell whether the layer has rows and columns, and more than one position."""
    return layer.grid_shape is not None and math.prod(layer.grid_shape) > 1


def check_grid(layer: LayerInfo) -> tuple[int, int]:
    """Return the layer's rows and columns; `InvalidRequestError` if it has one position only, or they form no grid."""
    if layer.grid_shape is None or not has_grid(layer):
        raise InvalidRequestError(
            f"{layer.name} has shape {list(layer.shape)}: expected a layer with rows and columns of positions"
        )
    return layer.grid_shape


def on_grid(values: Tensor, layer: LayerInfo) -> Tensor:
    """Return activations [B, ...] of a layer with a grid as [B, C, h, w], without its class tokens."""
    places = by_position(values, layer.layout)[:, layer.class_tokens :]
    return places.transpose(1, 2).unflatten(2, check_grid(layer))  # type: ignore[no-any-return,no-untyped-call]


def per_channel(values: Tensor, layer: LayerInfo) -> Tensor:
    """Return the sum [B, units] over all positions, class tokens too, of activations [B, ...]."""
    return by_position(values, layer.layout).sum(dim=1)


def positions(layer: LayerInfo) -> int:
    """Return how many positions the layer has, class tokens too."""
    return math.prod(layer.shape) // layer.units
