"""Couplings: values that depend on several pairs at once, added to f; in process only.

A coupled pair's result depends on its batch mates, so that all coupled pairs have to be optimised together. One that
becomes NaN or infinite is coupled to nothing from then on: the others go on without it.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.linalg import vector_norm

from accentor.engine.features.positions import by_position, full
from accentor.errors import InvalidRequestError

REACH = 4
"""Lucid's: how far apart in their order pairs are aligned."""

NO_NORM = 1e-12
"""Below it a Gram matrix is not divided by its norm: torch.nn.functional.normalize's."""


class Coupling(Protocol):
    """What couples pairs: a value [N, T] of the activations [N, T, ...] of N pairs at ``layer``."""

    @property
    def layer(self) -> str:
        """The layer whose activations it reads."""

    def __call__(self, activations: Tensor, layout: str) -> Tensor:
        """Return the value to be added to f [N, T] of activations [N, T, ...], laid out as `LayerInfo.layout` says."""


@dataclass(frozen=True)
class Diversity:
    """Make pairs differ in which channels are active together (Lucid's diversity, as in style transfer).

    −w/N · Σ_{j≠i} ⟨G_i, G_j⟩ for pair i, with G the Gram matrix of the channels over the positions, of length 1. The
    sum over the pairs is −w times Lucid's.

    Parameters
    ----------
    layer
        Where; Lucid uses layers in the middle.
    weight
        w, at least 0.
    """

    layer: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_at_least_zero("weight", self.weight)

    def __call__(self, activations: Tensor, layout: str) -> Tensor:
        """Return the value [N, T]."""
        places, _ = _sound(full(by_position(activations, layout)))
        grams = torch.einsum("ntpc,ntpd->ntcd", places, places).flatten(2)
        grams = grams / grams.norm(dim=2, keepdim=True).clamp_min(NO_NORM)
        others = grams.sum(dim=0) - grams
        likeness: Tensor = (grams * others).sum(dim=2)
        return -self.weight / len(grams) * likeness


@dataclass(frozen=True)
class Alignment:
    """Draw pairs that are near one another in their order alike, for the steps of an interpolation (Lucid's alignment).

    −w/2 · Σ_{j: 1≤|i−j|≤4} mean (A_i − A_j)² / decay^|i−j| for pair i. The sum over the pairs is −w times Lucid's.

    Parameters
    ----------
    layer
        Where.
    decay
        By how much a distance counts less for every step apart, above 0.
    weight
        w, at least 0.
    """

    layer: str
    decay: float = 2.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_at_least_zero("weight", self.weight)
        if not self.decay > 0:
            raise InvalidRequestError(f"decay is {self.decay:g}: expected a number above 0")

    def __call__(self, activations: Tensor, layout: str) -> Tensor:
        """Return the value [N, T]."""
        flat, sound = _sound(full(activations).flatten(2))
        total = flat.new_zeros(flat.shape[:2])
        for apart in range(1, min(REACH, len(flat) - 1) + 1):
            gap = (flat[apart:] - flat[:-apart]).square().mean(dim=2) / self.decay**apart
            gap = torch.where(sound[apart:] & sound[:-apart], gap, 0.0)
            none = gap.new_zeros(apart, gap.shape[1])
            total = total + torch.cat([gap, none]) + torch.cat([none, gap])
        return -0.5 * self.weight * total


def _sound(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Return activations [N, T, ...], 0 for a pair's crop whose norm is not finite, and whether it is, [N, T]."""
    norm = vector_norm(activations.detach(), dim=tuple(range(2, activations.dim())), keepdim=True)
    sound = norm.isfinite()
    return torch.where(sound, activations, 0.0), sound.flatten(1)


def _check_at_least_zero(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise InvalidRequestError(f"{name} is {value:g}: expected a number, 0 or more")
