"""From pre-codes to codes: the activations that sparse autoencoders have."""

from typing import Literal

from torch import Tensor

Activation = Literal["identity", "relu", "topk", "jumprelu"]
ACTIVATIONS: tuple[Activation, ...] = ("identity", "relu", "topk", "jumprelu")


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
        largest = pre.topk(k, dim=-1, sorted=False)
        return pre.new_zeros(pre.shape).scatter(-1, largest.indices, largest.values.relu())
    return pre
