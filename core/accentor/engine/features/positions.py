"""Positions of a layer: its activations with the positions on one axis, and which of these a feature counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accentor.spec import LayerInfo, Window
from accentor.spec.features import Place


def by_position(activations: Tensor, layout: str) -> Tensor:
    """Return [..., P, C] of the activations at a layer, without a copy where their memory allows it.

    Parameters
    ----------
    activations
        [..., C, H, W], [..., H, W, C], [..., tokens, C] or [..., C].
    layout
        Which of these: CHW, HWC, NC or C; P is H · W, tokens or 1.
    """
    match layout:
        case "CHW":
            return activations.flatten(-2).transpose(-1, -2)
        case "HWC":
            return activations.flatten(-3, -2)
        case "NC":
            return activations
        case _:
            return activations.unsqueeze(-2)


def full(values: Tensor) -> Tensor:
    """Return the values in float32 at least: sums over positions and channels are not for half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def positions_of(place: Place | None, layer: LayerInfo) -> list[int]:
    """Return the indices of the positions that a place names; class tokens come first, and none names all others."""
    leading = layer.class_tokens
    if place == "cls":
        return [0]
    _, columns = layer.grid_shape or (1, 1)
    match place:
        case None:
            return list(range(leading, _count(layer)))
        case Window():
            return [leading + y * columns + x for y in range(*place.rows) for x in range(*place.columns)]
        case (y, x):
            return [leading + y * columns + x]


@dataclass(frozen=True)
class Mean:
    """The mean over each term's positions: all but the ``skip`` class tokens, or by weights [n, P]."""

    skip: int
    weight: Tensor | None

    def of(self, values: Tensor) -> Tensor:
        """Return the mean [n, T] of values [n, T, P]."""
        if self.weight is None:
            return full(values[:, :, self.skip :]).mean(dim=2)
        return (full(values) * self.weight[:, None]).sum(dim=2)

    def of_vectors(self, values: Tensor) -> Tensor:
        """Return the mean [n, T, C] of values [n, T, P, C]."""
        if self.weight is None:
            wide = torch.promote_types(values.dtype, torch.float32)
            return values[:, :, self.skip :].mean(dim=2, dtype=wide)
        return torch.einsum("ntpc,np->ntc", full(values), self.weight)


def mean_over(places: Sequence[Place | None], layer: LayerInfo | None, device: torch.device) -> Mean:
    """Return the mean over the places of n terms; no layer stands for the output, which has one position."""
    if layer is None or all(place is None for place in places):
        return Mean(0 if layer is None else layer.class_tokens, None)
    weight = torch.zeros(len(places), _count(layer))
    for row, place in enumerate(places):
        chosen = positions_of(place, layer)
        weight[row, chosen] = 1.0 / len(chosen)
    return Mean(0, weight.to(device))


def _count(layer: LayerInfo) -> int:
    if layer.layout == "NC":
        return layer.shape[0]
    rows, columns = layer.grid_shape or (1, 1)
    return rows * columns
