"""A sample of the images with the values of all features: the same whatever the order, and merged without loss."""

from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

UNUSED = torch.iinfo(torch.int64).max


def priority(identity: str) -> int:
    """Return a number that decides whether an image is in the sample: a hash of what it is called, below 2⁶³ - 1."""
    return min(int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()) >> 1, UNUSED - 1)


@dataclass
class Sample:
    """The images of the smallest priorities.

    Attributes
    ----------
    priorities, images
        [size]; `UNUSED` and -1 where there were fewer.
    values, fires
        [size, features]; whether the feature fires on the image.
    """

    priorities: Tensor
    images: Tensor
    values: Tensor
    fires: Tensor

    @classmethod
    def empty(cls, size: int, features: int, device: torch.device | str = "cpu") -> "Sample":
        """Return one without images."""
        return cls(
            torch.full((size,), UNUSED, dtype=torch.int64),
            torch.full((size,), -1, dtype=torch.int64),
            torch.full((size, features), torch.nan, device=device),
            torch.zeros(size, features, dtype=torch.bool, device=device),
        )

    def add(self, priorities: Tensor, images: Tensor, values: Tensor, fires: Tensor) -> None:
        """Take in images [n] with their priorities [n], and values and whether they fire [n, features]."""
        size = len(self.priorities)
        best = _order(torch.cat([self.priorities, priorities]), torch.cat([self.images, images]))[:size]
        new = best[best >= size] - size
        gone = torch.ones(size, dtype=torch.bool)
        gone[best[best < size]] = False
        slots = gone.nonzero().flatten()[: len(new)]
        self.priorities[slots], self.images[slots] = priorities[new], images[new]
        slots, new = slots.to(self.values.device), new.to(values.device)
        self.values[slots], self.fires[slots] = values[new], fires[new]

    def merged(self, other: "Sample") -> "Sample":
        """Return the sample of both."""
        priorities, images = (
            torch.cat([self.priorities, other.priorities]),
            torch.cat([self.images, other.images]),
        )
        best = _order(priorities, images)[: len(self.priorities)]
        values, fires = torch.cat([self.values, other.values]), torch.cat([self.fires, other.fires])
        return Sample(priorities[best], images[best], values[best], fires[best])

    def cpu(self) -> "Sample":
        """Return it on the CPU, in the order of the priorities, without unused places."""
        best = _order(self.priorities, self.images)[: int((self.priorities != UNUSED).sum())]
        return Sample(self.priorities[best], self.images[best], self.values.cpu()[best], self.fires.cpu()[best])

    def padded(self, size: int) -> "Sample":
        """Return it with unused places."""
        more = Sample.empty(size - len(self.images), self.values.shape[1])
        return Sample(
            torch.cat([self.priorities, more.priorities]),
            torch.cat([self.images, more.images]),
            torch.cat([self.values, more.values]),
            torch.cat([self.fires, more.fires]),
        )


def _order(priorities: Tensor, images: Tensor) -> Tensor:
    by_image = images.argsort(stable=True)
    return by_image[priorities[by_image].argsort(stable=True)]
