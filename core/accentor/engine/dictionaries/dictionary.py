"""Dictionaries: named sets of features of one layer, as its channels, as directions, or as a sparse autoencoder."""

import copy
import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, overload

import torch
from pydantic import ValidationError
from torch import Tensor

from accentor.dictionaries import DUPLICATE_COSINE
from accentor.engine.dictionaries.report import Report
from accentor.errors import InvalidFeatureError, UnitOutOfRangeError, what_is_wrong
from accentor.spec import Feature, ModelCard
from accentor.spec.ranges import Selection

Code = Literal["pre", "post"]
LAYER = re.compile(r"[^\s:@#]+")
NEAREST = 5


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Dictionary(ABC):
    """A named set of features of one layer.

    Parameters
    ----------
    name
        What it is called.
    layer
        The layer whose activations its features read: PyTorch's dotted module name.
    labels
        Names of the features, by index.
    details
        Where it comes from, for a person: texts and numbers, saved with it.

    Notes
    -----
    It is not to be changed once made: `load_dictionary` may hand the same one out again.
    """

    name: str
    layer: str
    labels: tuple[str, ...] | None = None
    details: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not LAYER.fullmatch(self.layer):
            raise InvalidFeatureError(f"dictionary {self.name!r}: {self.layer!r} is no layer's name")
        if self.size < 1 or self.width < 1:
            raise InvalidFeatureError(f"dictionary {self.name!r} has {self.size} features of {self.width} units")
        if self.labels is not None and len(self.labels) != self.size:
            raise InvalidFeatureError(
                f"dictionary {self.name!r} has {len(self.labels)} labels, expected {self.size}: one for each feature"
            )

    @property
    @abstractmethod
    def kind(self) -> str:
        """What its features are: channels, directions or encoder."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of features."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of units of the layer."""

    @abstractmethod
    def encode(self, activations: Tensor) -> Tensor:
        """Return the codes [..., features] of activations [..., units]: the channel axis comes last."""

    @abstractmethod
    def report(self, cosine: float = DUPLICATE_COSINE) -> Report:
        """Report features that cannot be used, and those that repeat an earlier one (cosine above ``cosine``)."""

    @abstractmethod
    def _feature(self, unit: int, code: Code) -> Feature:
        """Return feature ``unit``, which exists, by value."""

    def feature(self, unit: int | str, code: Code = "pre") -> Feature:
        """Return one feature by value: a spec that needs no file.

        Parameters
        ----------
        unit
            Its index, or its label.
        code
            For an encoder: ``pre``, before its activation, which has a gradient wherever the image is; or ``post``.

        Raises
        ------
        UnitOutOfRangeError, InvalidFeatureError
            If there is no such feature, or it is all zero or not finite.
        """
        index = self.index(unit)
        try:
            return self._feature(index, code)
        except ValidationError as error:
            faults = "; ".join(map(what_is_wrong, error.errors()))
            said = f"feature {index} of dictionary {self.name!r} cannot be used: {faults}"
            raise InvalidFeatureError(said) from error

    def features(self, units: range | str | None = None, code: Code = "pre") -> "Features":
        """Return many features as a sequence that makes each when it is asked for.

        Parameters
        ----------
        units
            A range, or its text such as ``0:512``, ``:512`` or ``512:``; none: all.
        code
            As in `feature`.
        """
        chosen = range(self.size) if units is None else self._range(units)
        for end in (chosen[0], chosen[-1]) if chosen else ():
            self.index(end)
        return Features(self, chosen, code)

    def index(self, unit: int | str) -> int:
        """Return the index of a feature given by index or label."""
        if isinstance(unit, str):
            return self._by_label(unit)
        if not 0 <= unit < self.size:
            raise UnitOutOfRangeError(
                f"dictionary {self.name!r} has features 0 to {self.size - 1}; {unit} was asked for"
            )
        return unit

    def check(self, card: ModelCard) -> None:
        """Check that the dictionary is one of this model's layer.

        Raises
        ------
        UnknownLayerError
            With the names nearest to it.
        InvalidFeatureError
            If the layer has another width; both numbers are named.
        """
        layer = card.layer(self.layer)
        if layer.units != self.width:
            raise InvalidFeatureError(
                f"dictionary {self.name!r} is for {self.width} units, "
                f"{layer.name} of {card.name} has {layer.units} units"
            )

    def to(self, device: str | torch.device) -> Self:
        """Return this dictionary with its tensors on another device."""
        twin = copy.copy(self)
        for key, value in vars(self).items():
            if isinstance(value, Tensor):
                object.__setattr__(twin, key, value.to(device))
        return twin

    def save(self, path: str | Path) -> Path:
        """Write it to a ``.safetensors`` file that `load_dictionary` reads, whole or not at all; return the path."""
        from accentor.engine.dictionaries.files import save

        return save(self, Path(path))

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"<dictionary {self.name!r}: {self.size} features ({self.kind}) of {self.layer}, {self.width} units>"

    def _range(self, units: range | str) -> range:
        if isinstance(units, range):
            return units
        try:
            return Selection(range=units).indices(self.size, f"dictionary {self.name!r}")
        except ValidationError as error:
            raise InvalidFeatureError(
                f"{units!r} is no range of features: expected FIRST:END, such as 0:512"
            ) from error

    def _by_label(self, label: str) -> int:
        if self.labels is None:
            raise InvalidFeatureError(f"dictionary {self.name!r} has no labels: give an index, 0 to {self.size - 1}")
        found = [index for index, known in enumerate(self.labels) if known == label]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidFeatureError(
                f"dictionary {self.name!r} has {len(found)} features called {label!r}: {found[:NEAREST]}"
            )
        nearest = difflib.get_close_matches(label, self.labels, n=NEAREST, cutoff=0.0)
        raise InvalidFeatureError(
            f"dictionary {self.name!r} has no feature called {label!r}; the nearest are {', '.join(nearest)}",
            nearest=nearest,
        )


class Features(Sequence[Feature]):
    """Features of a dictionary, each made when it is asked for."""

    def __init__(self, dictionary: Dictionary, units: range, code: Code) -> None:
        self._dictionary = dictionary
        self._units = units
        self._code = code

    def __len__(self) -> int:
        return len(self._units)

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> "Features": ...
    def __getitem__(self, index: int | slice) -> "Feature | Features":
        if isinstance(index, slice):
            return Features(self._dictionary, self._units[index], self._code)
        return self._dictionary.feature(self._units[index], self._code)
