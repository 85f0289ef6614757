"""What a scan asks of the codes of a batch: mean and maximum over an image's positions, and where that is."""

from functools import cached_property

import torch
from torch import Tensor

from accentor.engine.dictionaries import Dictionary, EncoderDictionary

FEW = 0.4
"""Share of values whose places are worth looking for one by one."""


class DenseCodes:
    """Codes [B, P, features] as they are."""

    def __init__(self, codes: Tensor) -> None:
        self._codes = codes

    @cached_property
    def largest(self) -> Tensor:
        """Maximum over the positions [B, features]."""
        return self._codes.amax(dim=1)

    @cached_property
    def mean(self) -> Tensor:
        """Mean over the positions [B, features]."""
        return self._codes.mean(dim=1)

    def places(self, wanted: Tensor) -> Tensor:
        """Return the position of the maximum [B, features]; any where it is not wanted."""
        images, features = wanted.nonzero(as_tuple=True)
        if len(images) > FEW * wanted.numel():
            return self._codes.max(dim=1).indices
        found = torch.zeros_like(wanted, dtype=torch.int64)
        found[images, features] = self._codes[images, :, features].argmax(dim=1)
        return found


class TopCodes:
    """The k codes [B, P, k] that a TopK encoder leaves on at a position, and whose they are; all others are 0."""

    def __init__(self, values: Tensor, features: Tensor, size: int) -> None:
        self._positions = values.shape[1]
        self._values, self._features = values.flatten(1), features.flatten(1)
        self._none = values.new_zeros(len(values), size)

    @cached_property
    def largest(self) -> Tensor:
        """Maximum over the positions [B, features]."""
        return self._none.scatter_reduce(1, self._features, self._values, "amax")

    @cached_property
    def mean(self) -> Tensor:
        """Mean over the positions [B, features], summed in float64: the order of a GPU's additions is not known."""
        total = self._none.double().scatter_add(1, self._features, self._values.double())
        return (total / self._positions).to(self._values.dtype)

    def places(self, wanted: Tensor) -> Tensor:
        """Return the position of the maximum [B, features], the first of several; 0 where nothing is on."""
        k = self._values.shape[1] // self._positions
        position = torch.arange(self._positions, device=wanted.device).repeat_interleave(k)
        is_largest = self._values == self.largest.gather(1, self._features)
        first = torch.full(wanted.shape, self._positions, device=wanted.device)
        first = first.scatter_reduce(1, self._features, position.where(is_largest, self._positions), "amin")
        return first % self._positions


Codes = DenseCodes | TopCodes


def codes_of(dictionary: Dictionary, activations: Tensor) -> tuple[Codes, Codes]:
    """Return the codes of activations [B, P, units] before and after the activation: the same if there is none."""
    if not isinstance(dictionary, EncoderDictionary):
        codes = DenseCodes(dictionary.encode(activations))
        return codes, codes
    pre = dictionary.pre_codes(activations)
    if dictionary.k is None:
        return DenseCodes(pre), DenseCodes(dictionary.codes_of(pre))
    return DenseCodes(pre), TopCodes(*dictionary.top_codes(pre), dictionary.size)
