"""Histograms with fixed bins, equal for all features and scans, so that counts may be added."""

import torch
from torch import Tensor

PER_OCTAVE = 8
"""Bins between a value and twice that value: the bounds of a bin differ by 9 %."""
OCTAVES = 16
"""Values of 2⁻¹⁶ to 2¹⁶ have bins of their own, below zero as well; smaller ones share one, larger ones one a side."""


def edges(device: torch.device | str = "cpu") -> Tensor:
    """Return the bounds between bins, ascending: bin i holds edges[i - 1] ≤ v < edges[i]."""
    exponents = torch.arange(-OCTAVES * PER_OCTAVE, OCTAVES * PER_OCTAVE + 1, dtype=torch.float64) / PER_OCTAVE
    positive = torch.exp2(exponents)
    return torch.cat([-positive.flip(0), positive]).float().to(device)


BINS = 2 * (2 * OCTAVES * PER_OCTAVE + 1) + 1


def add_counts(counts: Tensor, values: Tensor, bounds: Tensor) -> None:
    """Count values [images, features] into ``counts`` [features, bins]; values that are not finite are left out."""
    bins = torch.bucketize(values, bounds, right=True)
    places = bins + torch.arange(values.shape[1], device=values.device) * BINS
    counts.view(-1).scatter_add_(0, places.flatten(), values.isfinite().flatten().to(counts.dtype))


def quantiles(counts: Tensor, low: Tensor, high: Tensor, shares: Tensor) -> Tensor:
    """Return the values below which these shares of the counts lie, linear within a bin and clamped to what was seen.

    [features, shares].

    Parameters
    ----------
    counts
        [features, bins].
    low, high
        Smallest and largest value of each feature.
    shares
        [shares], in 0..1.
    """
    bounds = edges().double()
    lower = torch.cat([torch.tensor([-torch.inf], dtype=torch.float64), bounds])
    upper = torch.cat([bounds, torch.tensor([torch.inf], dtype=torch.float64)])
    until = counts.double().cumsum(dim=1)
    wanted = until[:, -1:] * shares.double()
    found = torch.searchsorted(until, wanted).clamp(max=BINS - 1)
    inside = counts.double().gather(1, found)
    passed = (wanted - (until.gather(1, found) - inside)) / inside.clamp(min=1)
    first = lower[found].clamp(min=low.double()[:, None], max=high.double()[:, None])
    last = upper[found].clamp(min=low.double()[:, None], max=high.double()[:, None])
    return (first + (last - first) * passed.clamp(0, 1)).float()
