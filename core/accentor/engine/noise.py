"""Noise of the crops: drawn at the model's input size, distributed as if drawn at the crop's size and then resized."""

from functools import lru_cache

import torch
from torch import Tensor

from accentor.engine.resampling import LineMap, resize_taps, taps_needed

POOL = 2**20
"""Random numbers drawn once for a pair; every crop's noise is a stretch of them that begins at random."""

BAND = 3
"""Entries a row of the Cholesky factor: resized noise is correlated with the two pixels before at most."""


class NoisePool:
    """The noise of one pair: stretches of a pool of N(0, σ²) + U(-r, r), of its own seed and nothing else.

    Parameters
    ----------
    generator
        On the device that the noise is for.
    std, half_range
        σ and r, in 0..1.
    count
        Numbers that a crop needs.
    """

    def __init__(self, generator: torch.Generator, std: float, half_range: float, count: int) -> None:
        device = generator.device
        size = max(POOL, 2 * count)
        pool = torch.randn(size, generator=generator, device=device).mul_(std)
        if half_range > 0:
            pool += torch.rand(size, generator=generator, device=device).sub_(0.5).mul_(2 * half_range)
        self._stretches = pool.unfold(0, count, 1)

    @property
    def starts(self) -> int:
        """How many places there are to begin at."""
        return len(self._stretches)

    def at(self, starts: Tensor) -> Tensor:
        """Return the stretches [T, count] that begin at these places [T]."""
        return self._stretches[starts]


class ResizedNoise:
    """Linear maps that turn white noise at S pixels into noise of a crop's side, resized to S pixels.

    For a crop of n ≤ S pixels that is the resize itself, of the first n numbers. For a larger one it is the Cholesky
    factor of the resized noise's covariance R Rᵀ, which is banded: the same first two moments, from S numbers.

    Parameters
    ----------
    longest
        The longest side that a crop can have, in pixels.
    out
        S.
    device
        Where the maps are used.
    """

    def __init__(self, longest: int, out: int, device: torch.device) -> None:
        index, weight = noise_taps(longest, out)
        self._index, self._weight = index.to(device), weight.to(device)

    def along(self, sides: Tensor) -> LineMap:
        """Return the maps [B, S, S] for crops of these sides [B]."""
        return LineMap(self._index[sides - 1], self._weight[sides - 1], self._index.shape[1])


@lru_cache(maxsize=4)
def noise_taps(longest: int, out: int) -> tuple[Tensor, Tensor]:
    """Return indices and weights [longest, S, 3] of the maps for the sides 1 to ``longest``; see `ResizedNoise`."""
    sides = torch.arange(1, longest + 1)
    index, weight = resize_taps(torch.zeros_like(sides), sides.clamp_max(out), out, BAND)
    if longest > out:
        before = (torch.arange(out)[:, None] + torch.arange(1 - BAND, 1)).clamp_min(0)
        index[out:] = before
        weight[out:] = _banded_cholesky(_covariance_band(sides[out:], out))
    return index, weight


def _covariance_band(sides: Tensor, out: int) -> Tensor:
    """Return R Rᵀ of each side's resize R as its band [M, S, 3]: with the second and first pixel before, and itself."""
    index, weight = resize_taps(torch.zeros_like(sides), sides, out, taps_needed(int(sides.max()), out))
    weight = weight.double()
    lags = []
    for lag in range(BAND - 1, -1, -1):
        here, there = slice(lag, out), slice(0, out - lag)
        same = index[:, here, :, None] == index[:, there, None, :]
        overlap = (weight[:, here, :, None] * weight[:, there, None, :] * same).sum(dim=(2, 3))
        lags.append(torch.nn.functional.pad(overlap, (lag, 0)))
    return torch.stack(lags, dim=-1)


def _banded_cholesky(band: Tensor) -> Tensor:
    """Return the Cholesky factor of a banded covariance, both as [M, S, 3] with the diagonal last."""
    factor = torch.zeros_like(band)
    for i in range(band.shape[1]):
        second = band[:, i, 0] / factor[:, i - 2, 2] if i > 1 else band.new_zeros(len(band))
        first = (
            (band[:, i, 1] - second * factor[:, i - 1, 1]) / factor[:, i - 1, 2] if i > 0 else torch.zeros_like(second)
        )
        rest = (band[:, i, 2] - first.square() - second.square()).clamp_min(torch.finfo(torch.float32).tiny)
        factor[:, i] = torch.stack([second, first, rest.sqrt()], dim=-1)
    return factor.float()
