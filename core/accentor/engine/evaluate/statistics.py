"""Ranks and similarities of vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

CONSTANT = 1e-12
"""A vector whose deviation from its mean is below this share of its length is constant up to rounding."""


@dataclass(frozen=True)
class Similarity:
    """How alike vectors are, each -1..1; a constant vector is like nothing: 0."""

    cosine: float
    pearson: float
    spearman: float


def ranks(values: Tensor) -> Tensor:
    """Return the ranks of a vector [n], 1..n in float64; equal values share the mean of theirs."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    middle: Tensor = last - (counts.double() - 1) / 2
    return middle[place]


def cosine_matrix(left: Tensor, right: Tensor) -> Tensor:
    """Return the cosine of every row of left [A, n] with every row of right [B, n]: [A, B] in float64."""
    return _unit_rows(left.double()) @ _unit_rows(right.double()).mT


def pearson_matrix(left: Tensor, right: Tensor) -> Tensor:
    """Return Pearson's correlation of every row of left [A, n] with every row of right [B, n]: [A, B] in float64."""
    return cosine_matrix(_centred(left.double()), _centred(right.double()))


def spearman_matrix(left: Tensor, right: Tensor) -> Tensor:
    """Return Spearman's rank correlation of every row of left [A, n] with every row of right [B, n]: [A, B]."""
    return pearson_matrix(*(torch.stack([ranks(row) for row in rows]) for rows in (left, right)))


def _centred(rows: Tensor) -> Tensor:
    """Return rows with mean 0; one that is constant up to rounding becomes 0."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    noise = CONSTANT * vector_norm(rows, dim=1, keepdim=True)
    return torch.where(vector_norm(centred, dim=1, keepdim=True) > noise, centred, 0.0)


def _unit_rows(rows: Tensor) -> Tensor:
    lengths: Tensor = vector_norm(rows, dim=1, keepdim=True)
    return rows / lengths.clamp_min(torch.finfo(rows.dtype).tiny)
