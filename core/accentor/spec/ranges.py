"""Ranges of indices as text, ``0:512``: the end is not included, either side may be left out."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from accentor.errors import InvalidRequestError, UnitOutOfRangeError

IndexRange = Annotated[
    str,
    Field(pattern=r"^[0-9]{0,9}:[0-9]{0,9}$", description="`START:STOP`, STOP not included; either may be left out"),
]


Indices = range


class Selection(BaseModel):
    """A part of numbered features: all of them, or those of a range, or every ``stride``-th of these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    range: IndexRange | None = None
    stride: Annotated[int, Field(ge=1, le=10**9, description="take every so-manieth of the range")] = 1

    def indices(self, count: int, owner: str) -> Indices:
        """Return the selected indices of ``count`` features of ``owner``.

        Raises
        ------
        UnitOutOfRangeError
            If the range reaches beyond what there is.
        InvalidRequestError
            If nothing is in the range.
        """
        first, _, last = (self.range or ":").partition(":")
        start, stop = int(first or 0), int(last or count)
        if stop > count:
            raise UnitOutOfRangeError(f"{owner} has units 0 to {count - 1}; the range {self.range} was asked for")
        if start >= stop:
            raise InvalidRequestError(f"the range {self.range} of {owner} is empty: expected START < STOP <= {count}")
        return Indices(start, stop, self.stride)
