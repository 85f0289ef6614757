"""What is wrong with the features of a dictionary: those that can never respond, and those that are there twice."""

from dataclasses import dataclass

import torch
from torch import Tensor

from accentor.dictionaries import DUPLICATE_COSINE

BLOCK_ROWS = 1024
"""Rows compared with all earlier rows at once: 64 MiB of cosines for 16,384 features."""


@dataclass(frozen=True)
class Report:
    """The state of a dictionary's features.

    ``zero`` and ``not_finite`` are features that cannot be used: their vector is all zero, or holds NaN or infinity.
    ``duplicates`` holds (feature, earlier feature), each feature at most once, with the first that it repeats.
    """

    size: int
    zero: tuple[int, ...] = ()
    not_finite: tuple[int, ...] = ()
    duplicates: tuple[tuple[int, int], ...] = ()

    @property
    def dead(self) -> tuple[int, ...]:
        """All features that cannot be used, in order."""
        return tuple(sorted(self.zero + self.not_finite))

    def __str__(self) -> str:
        return (
            f"{self.size} features: {len(self.zero)} all zero, {len(self.not_finite)} not finite, "
            f"{len(self.duplicates)} that repeat an earlier one"
        )


def report_on(vectors: Tensor, numbers: Tensor, cosine: float = DUPLICATE_COSINE) -> Report:
    """Report dead and duplicate rows.

    Parameters
    ----------
    vectors
        [features, units].
    numbers
        [features]: what else a feature has (bias, threshold), summed; it must be finite.
    cosine
        Rows whose cosine is above this are duplicates.
    """
    finite = vectors.isfinite().all(dim=1) & numbers.isfinite()
    zero = finite & ~vectors.any(dim=1)
    return Report(
        size=len(vectors),
        zero=_indices(zero),
        not_finite=_indices(~finite),
        duplicates=_duplicates(vectors, finite & ~zero, cosine),
    )


def _indices(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero().flatten().tolist())


def _duplicates(vectors: Tensor, usable: Tensor, cosine: float) -> tuple[tuple[int, int], ...]:
    rows = usable.nonzero().flatten()
    unit = vectors[rows] / vectors[rows].abs().amax(dim=1, keepdim=True)
    unit = unit / unit.norm(dim=1, keepdim=True)
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), BLOCK_ROWS):
        block = unit[start : start + BLOCK_ROWS]
        alike = (block @ unit[: start + len(block)].T > cosine).tril_(start - 1)
        later = alike.any(dim=1).nonzero().flatten()
        earlier = alike[later].to(torch.uint8).argmax(dim=1)
        found += zip(rows[start + later].tolist(), rows[earlier].tolist(), strict=True)
    return tuple(found)
