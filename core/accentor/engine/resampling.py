"""Sparse linear maps of lines: cutting and resizing without dense matrices and without a loop over crops.

A bilinear, antialiased resize needs two to five neighbouring pixels for each pixel of its result. ``embedding_bag`` is
the weighted sum of rows that this is, on every device; its adjoint is another one, over the same entries sorted by
where they came from, and so repeats bit for bit.
"""

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class LineMap:
    """G sparse matrices A [R, L] with K entries a row: A[g, r, index[g, r, k]] += weight[g, r, k].

    ``line_map(values)`` is A @ values, from [G, L, D] to [G, R, D], differentiable in the values.

    Parameters
    ----------
    index, weight
        [G, R, K]; the index in 0..L - 1.
    length
        L.
    """

    def __init__(self, index: Tensor, weight: Tensor, length: int) -> None:
        self.groups, self.rows, self.taps = index.shape
        self.length = length
        self._index = (index + length * torch.arange(self.groups, device=index.device)[:, None, None]).flatten()
        self._weight = weight.flatten()

    def __call__(self, values: Tensor) -> Tensor:
        """Return A @ values [G, R, D] of the values [G, L, D]."""
        mapped: Tensor = _Apply.apply(values, self)
        return mapped

    def forward(self, values: Tensor) -> Tensor:
        """Return A @ values, outside autograd."""
        index, weight = self._index.view(-1, self.taps), self._weight.view(-1, self.taps).to(values.dtype)
        flat = values.reshape(-1, values.shape[-1]).contiguous()
        summed = embedding_bag(index, flat, per_sample_weights=weight, mode="sum")
        return summed.view(self.groups, self.rows, -1)

    def adjoint(self, values: Tensor) -> Tensor:
        """Return Aᵀ @ values [G, L, D] of the values [G, R, D], outside autograd."""
        source, offsets, weight = self._transposed
        flat = values.reshape(-1, values.shape[-1]).contiguous()
        summed = embedding_bag(source, flat, offsets, per_sample_weights=weight.to(values.dtype), mode="sum")
        return summed.view(self.groups, self.length, -1)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """The entries sorted by column: the row of each, where each column begins, and the weights."""
        order = self._index.argsort(stable=True)
        columns = torch.arange(self.groups * self.length, device=order.device)
        return order // self.taps, torch.searchsorted(self._index[order], columns), self._weight[order]


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, line_map: LineMap) -> Tensor:
        context.line_map = line_map
        return line_map.forward(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.line_map.adjoint(gradients[0]), None


def resize_taps(start: Tensor, stop: Tensor, out: int, taps: int) -> tuple[Tensor, Tensor]:
    """Return which pixels of a line make each of S pixels of its part start..stop, resized, and their weights.

    As ``torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=True)``: a triangle of
    half-width h = max(scale, 1) around scale · (i + 0.5), with scale = (n - 1)/(S - 1), normalised to sum 1.

    Parameters
    ----------
    start, stop
        Whole pixels, [...], half open.
    out
        S.
    taps
        K, from `taps_needed` of the longest part.

    Returns
    -------
    tuple of Tensor
        Indices into the line and weights, both [..., S, K]; a tap beyond the part has weight 0.
    """
    count = (stop - start)[..., None, None]
    scale = (count - 1) / max(out - 1, 1)
    half = scale.clamp_min(1.0)
    centre = scale * (torch.arange(out, device=start.device)[:, None] + 0.5)
    pixel = (centre - half + 0.5).floor().long() + torch.arange(taps, device=start.device)
    weight = (1 - (pixel + 0.5 - centre).abs() / half).clamp_min(0.0)
    weight = torch.where((pixel >= 0) & (pixel < count), weight, 0.0)
    index = torch.minimum(pixel.clamp_min(0), count - 1) + start[..., None, None]
    return index, weight / weight.sum(dim=-1, keepdim=True)


def taps_needed(longest: int, out: int) -> int:
    """Return K: how many pixels a line of this length, resized to S pixels, can need for one of them."""
    return math.ceil(2 * max((longest - 1) / max(out - 1, 1), 1.0))
