"""The regulariser R: how far an image has gone from its seed, seen by an early layer; and its weight λ."""

import torch
from torch import Tensor

NORM_FLOOR = 1e-6
"""Differences below this share of the seed's own activations are rounding (float32) and pull nowhere."""

SMALLEST = 1e-18
"""Keeps the root's gradient finite where the seed's activations are all zero."""


def latent_distance(activations: Tensor, seed_activations: Tensor, count: int) -> Tensor:
    """Return R [N, T]: the mean over positions of the L2 norm over channels of h(τx) − h(τx₀).

    The norm is smoothed below rounding, so that its gradient at the seed is 0 and not a random direction.

    Parameters
    ----------
    activations, seed_activations
        [N · T, C, H, W], [N · T, tokens, C] or [N · T, C] at the regularisation layer.
    count
        N.
    """
    here, there = (_channels_last(a) for a in (activations, seed_activations))
    floor = NORM_FLOOR**2 * there.square().sum(dim=-1).mean(dim=-1, keepdim=True).clamp_min(SMALLEST)
    distance = ((here - there).square().sum(dim=-1) + floor).sqrt() - floor.sqrt()
    return distance.mean(dim=-1).view(count, -1)


def balance(alpha: float, feature_pull: Tensor, seed_pull: Tensor) -> Tensor:
    """Return λ [N] = α · Σ|∂f/∂θ| / Σ|∂R/∂θ|; 0 where the regulariser does not pull at all."""
    return torch.where(
        seed_pull > 0, alpha * feature_pull / seed_pull.clamp_min(torch.finfo(seed_pull.dtype).tiny), 0.0
    )


def _channels_last(activations: Tensor) -> Tensor:
    """Return activations as [B, positions, C]."""
    if activations.dim() == 4:
        return activations.flatten(2).transpose(1, 2)
    return activations if activations.dim() == 3 else activations[:, None]
