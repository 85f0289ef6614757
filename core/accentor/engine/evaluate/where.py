"""Where: how well a map ranks the pixels of an object above the rest of the image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from accentor.engine.evaluate.statistics import ranks
from accentor.errors import InvalidRequestError

TIE = 1e-6
"""Maps within this share of their range below the maximum are at the maximum: what is left is a blur's rounding."""


@dataclass(frozen=True)
class Where:
    """How well a map points at an object: ``auroc`` and ``pointing``, both 0..1."""

    auroc: float
    pointing: float


def where(opacity: Tensor, mask: Tensor) -> Where:
    """Compare a map [H, W] with the mask [H, W] of an object: see `auroc` and `pointing_game`."""
    return Where(auroc(opacity, mask), pointing_game(opacity, mask))


def auroc(scores: Tensor, mask: Tensor) -> float:
    """Return the probability that a pixel of the object scores higher than one beside it; ties count half.

    (R − n₁(n₁ + 1)/2) / (n₁ n₀), with R the sum of the object's ranks (Mann and Whitney, 1947): exact, 0..1.

    Parameters
    ----------
    scores
        A map of any shape.
    mask
        Boolean, of the same shape; both values must occur.

    Raises
    ------
    InvalidRequestError
        If the shapes differ, the mask is all one value, or the map is not finite.
    """
    inside = _check(scores, mask)
    positive = int(inside.sum())
    negative = inside.numel() - positive
    total = ranks(scores.flatten())[inside].sum().item()
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def pointing_game(scores: Tensor, mask: Tensor) -> float:
    """Return whether the map's maximum lies on the object (Zhang et al., arXiv 1608.00507).

    Where several pixels share the maximum it is the part of them on the object: the chance of a hit, 0..1.

    Parameters
    ----------
    scores
        A map of any shape.
    mask
        Boolean, of the same shape; both values must occur.

    Raises
    ------
    InvalidRequestError
        If the shapes differ, the mask is all one value, or the map is not finite.
    """
    inside = _check(scores, mask)
    flat = scores.flatten().double()
    top, bottom = flat.max(), flat.min()
    highest = flat >= top - TIE * (top - bottom)
    return (inside & highest).sum().item() / highest.sum().item()


def _check(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mask as flat booleans."""
    if scores.shape != mask.shape or mask.dtype != torch.bool:
        raise InvalidRequestError(
            f"the map has shape {list(scores.shape)}, the mask {list(mask.shape)} and {mask.dtype}: expected one shape,"
            " and a boolean mask"
        )
    if not bool(mask.any()) or bool(mask.all()):
        raise InvalidRequestError("the mask is all one value: expected an object and something beside it")
    if not bool(scores.isfinite().all()):
        raise InvalidRequestError("the map holds values that are not finite (NaN or infinity)")
    return mask.flatten()
