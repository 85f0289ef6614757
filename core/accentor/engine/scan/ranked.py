"""The k largest values of every feature, with what belongs to each: streamed, and merged."""

from dataclasses import dataclass

import torch
from torch import Tensor

IMAGE, POSITION, HEIGHT, WIDTH, FIRES = range(5)
EMPTY = -1
NOTES = 5


@dataclass
class Ranked:
    """The k largest values of every feature; of equal ones the image that comes first.

    Attributes
    ----------
    values
        [features, k], descending; -inf where there were fewer.
    notes
        [features, k, 5]: image, position, height and width of the image, 1 where the feature fires on it and 0 where
        not; -1 where there were fewer.
    """

    values: Tensor
    notes: Tensor

    @classmethod
    def empty(cls, features: int, k: int, device: torch.device | str = "cpu") -> "Ranked":
        """Return one that has seen nothing."""
        return cls(
            torch.full((features, k), -torch.inf, device=device),
            torch.full((features, k, NOTES), EMPTY, dtype=torch.int64, device=device),
        )

    @property
    def least(self) -> Tensor:
        """What a value must be above to be kept [features]."""
        return self.values[:, -1]

    def add(self, values: Tensor, notes: Tensor) -> None:
        """Take in values [features, n] with their notes [features, n, 5]; those that are not finite are left out.

        Only features of which a value is above the least that is kept are sorted again.
        """
        values = values.where(values.isfinite(), -torch.inf)
        rows = (values.amax(dim=1) > self.least).nonzero().flatten()
        if not len(rows):
            return
        both = torch.cat([self.values[rows], values[rows]], dim=1)
        kept = torch.cat([self.notes[rows], notes[rows]], dim=1)
        self.values[rows], self.notes[rows] = _largest(both, kept, self.values.shape[1])

    def merged(self, other: "Ranked") -> "Ranked":
        """Return the k largest of both."""
        values = torch.cat([self.values, other.values], dim=1)
        notes = torch.cat([self.notes, other.notes], dim=1)
        return Ranked(*_largest(values, notes, self.values.shape[1]))

    def moved(self, start: int) -> "Ranked":
        """Return it with the numbers of the images higher by ``start``."""
        notes = self.notes.clone()
        notes[..., IMAGE] += start * (notes[..., IMAGE] != EMPTY)
        return Ranked(self.values, notes)

    def cpu(self) -> "Ranked":
        """Return it on the CPU."""
        return Ranked(self.values.cpu(), self.notes.cpu())


def _largest(values: Tensor, notes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    by_image = notes[..., IMAGE].argsort(dim=1, stable=True)
    order = values.gather(1, by_image).argsort(dim=1, descending=True, stable=True)[:, :k]
    chosen = by_image.gather(1, order)
    kept = values.gather(1, chosen)
    there = kept > -torch.inf
    return kept, notes.gather(1, chosen[..., None].expand(-1, -1, NOTES)).where(there[..., None], EMPTY)
