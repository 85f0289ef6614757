"""Percentile ranges of attribution maps over a set of images of any size, so that their pictures share one scale."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from accentor.errors import InvalidRequestError, NotFiniteError

ACCURACY = 1e-3
"""Largest relative error of a percentile."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Sizes told apart; what is below counts as zero."""


class Quantiles:
    """Percentiles of a stream of numbers ≥ 0, in half a megabyte whatever its length.

    Counts by size in bins whose edges grow by γ = (1 + a)/(1 − a): a bin's midpoint 2γⁱ/(γ + 1) is within a = 0.1 % of
    all that fell into it (DDSketch: Masson, Rim, Lee, 2019).
    """

    _gamma = (1 + ACCURACY) / (1 - ACCURACY)
    _bins = math.ceil(math.log(LARGEST / SMALLEST) / math.log(_gamma)) + 1

    def __init__(self) -> None:
        self._counts = torch.zeros(self._bins + 1, dtype=torch.long)

    def add(self, values: Tensor) -> None:
        """Count the values, of any shape; `NotFiniteError` if one is NaN or infinite."""
        flat = values.detach().flatten().double().cpu()
        if not flat.isfinite().all():
            raise NotFiniteError("an attribution map holds NaN or infinite values")
        bins = (flat.clamp(SMALLEST, LARGEST) / SMALLEST).log().div(math.log(self._gamma)).ceil().long() + 1
        self._counts += torch.bincount(bins.where(flat >= SMALLEST, 0), minlength=self._bins + 1)

    def at(self, percentile: float) -> float:
        """Return the smallest value that at least this percentage of all is not above, to 0.1 %."""
        total = int(self._counts.sum())
        rank = max(1, math.ceil(percentile / 100 * total))
        found = int(torch.searchsorted(self._counts.cumsum(0), rank))
        return 0.0 if found == 0 else SMALLEST * 2 * self._gamma ** (found - 1) / (self._gamma + 1)


@dataclass(frozen=True)
class MapRange:
    """What counts as no and as full strength in a map's two parts: (low, high) each, at these percentiles.

    ``images`` is how many they were measured on.
    """

    positive: tuple[float, float]
    negative: tuple[float, float]
    percentiles: tuple[float, float]
    images: int

    def strengths(self, parts: Tensor) -> Tensor:
        """Return parts [2, ...], positive and negative, as strengths in 0..1: (x − low) / (high − low), clipped."""
        bounds = parts.new_tensor([self.positive, self.negative]).view(2, 2, *[1] * (parts.dim() - 1))
        low, high = bounds[:, 0], bounds[:, 1]
        return ((parts - low) / (high - low).clamp_min(SMALLEST)).clamp(0.0, 1.0)


def measure_range(several: Iterable[Tensor], percentiles: tuple[float, float]) -> MapRange:
    """Return the range of maps [2, h, w], read one after the other, none kept.

    Raises
    ------
    InvalidRequestError
        If the percentiles are not 0 ≤ low < high ≤ 100.
    NotFiniteError
        If a map holds NaN or infinity.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise InvalidRequestError(f"the percentiles are {low:g} and {high:g}: expected 0 ≤ low < high ≤ 100")
    positive, negative = Quantiles(), Quantiles()
    count = 0
    for parts in several:
        positive.add(parts[0])
        negative.add(parts[1])
        count += 1
    return MapRange(
        positive=(positive.at(low), positive.at(high)),
        negative=(negative.at(low), negative.at(high)),
        percentiles=percentiles,
        images=count,
    )
