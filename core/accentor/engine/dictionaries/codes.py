"""From pre-codes to codes: the activations that sparse autoencoders have."""

from math import isqrt
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["identity", "relu", "topk", "jumprelu"]
ACTIVATIONS: tuple[Activation, ...] = ("identity", "relu", "topk", "jumprelu")
WORTH_GROUPING = 8
"""Features a group from which on groups are faster than one search of all."""


def activate(pre: Tensor, activation: Activation, threshold: Tensor | None = None, k: int | None = None) -> Tensor:
    """Return the codes of pre-codes.

    identity: z = p; relu: z = max(p, 0); jumprelu: z = p where p > θ, else 0, with θ ≥ 0;
    topk: z = max(p, 0) for the k largest p of a position, else 0.

    Parameters
    ----------
    pre
        p [..., features].
    activation
        One of `ACTIVATIONS`.
    threshold
        θ [features], for jumprelu.
    k
        Features that stay on at a position, for topk.

    Returns
    -------
    Tensor
        z [..., features].
    """
    if activation == "relu":
        return pre.relu()
    if activation == "jumprelu" and threshold is not None:
        return pre * (pre > threshold)
    if activation == "topk" and k is not None:
        values, features = largest(pre, k)
        return pre.new_zeros(pre.shape).scatter(-1, features, values.relu())
    return pre


def largest(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest pre-codes of a position and their features, each [..., k] in no order.

    They lie in those groups of features whose own maxima are the k largest, so that most groups are looked at once.

    Parameters
    ----------
    pre
        p [..., features].
    k
        1 to features.
    """
    size = pre.shape[-1]
    groups = max(k, isqrt(k * size))
    each = size // groups
    if each < WORTH_GROUPING:
        found = pre.topk(k, dim=-1, sorted=False)
        return found.values, found.indices
    grouped = pre[..., : each * groups].reshape(*pre.shape[:-1], each, groups)
    best = grouped.amax(dim=-2).topk(k, dim=-1, sorted=False).indices
    rows = torch.arange(each, device=pre.device)[:, None] * groups
    rest = torch.arange(each * groups, size, device=pre.device).expand(*pre.shape[:-1], -1)
    features = torch.cat([(rows + best[..., None, :]).flatten(-2), rest], dim=-1)
    found = pre.gather(-1, features).topk(k, dim=-1, sorted=False)
    return found.values, features.gather(-1, found.indices)
