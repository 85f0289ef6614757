"""Which share of the images a value exceeds, for many values of many features."""

import torch
from torch import Tensor


class Ranks:
    """The sampled values of every feature in order, [features, images]; those that are not finite come last."""

    def __init__(self, values: Tensor) -> None:
        finite = values.isfinite()
        self._sorted = values.where(finite, torch.inf).T.contiguous().sort(dim=1).values
        self._counts: list[int] = finite.sum(dim=0).tolist()

    def percentile(self, feature: int, value: float) -> float:
        """Return which share of the images, in percent, have a lower value; 0 without images."""
        count = self._counts[feature]
        if not count:
            return 0.0
        below = int(torch.searchsorted(self._sorted[feature, :count].contiguous(), value))
        return 100.0 * below / count
