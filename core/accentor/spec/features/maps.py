"""Target maps by value: float32 numbers of a known shape, written compactly."""

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.spec.features.fields import as_list, check_direction

MAX_MAP_VALUES = 2**20
"""4 MiB of numbers, 5.6 MB of text."""

Side = Annotated[int, Field(ge=1)]


class TargetMap(BaseModel):
    """Numbers [C, H, W] by value: little-endian float32 in C order, as base64.

    Python takes nested lists, arrays and tensors for it as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Side, Side, Side]
    data: Annotated[str, Field(max_length=4 * math.ceil(4 * MAX_MAP_VALUES / 3), description="base64 of the numbers")]

    @model_validator(mode="before")
    @classmethod
    def _from_values(cls, values: Any) -> Any:
        values = as_list(values)
        return _packed(values) if isinstance(values, list | tuple) else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        count = math.prod(self.shape)
        if count > MAX_MAP_VALUES:
            raise ValueError(f"the map has {count} values, at most {MAX_MAP_VALUES} are taken")
        try:
            raw = base64.b64decode(self.data, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the map's data are not base64: {error}") from error
        if len(raw) != 4 * count:
            raise ValueError(f"the map's data are {len(raw)} bytes, its shape {list(self.shape)} takes {4 * count}")
        if base64.b64encode(raw).decode() != self.data:
            raise ValueError("the map's data are not written as base64 writes them")
        numbers = self.values()
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("the values must be finite")
        check_direction(numbers)
        return self

    def values(self) -> "array[float]":
        """Return the numbers in C order."""
        numbers = array("f", base64.b64decode(self.data))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers


def _packed(values: Any) -> dict[str, Any]:
    """Return the fields of the map of nested lists [C][H][W]."""
    try:
        shape = (len(values), len(values[0]), len(values[0][0]))
        numbers = array("f", _flat(values, shape))
    except (TypeError, IndexError) as error:
        raise ValueError(f"the map is no [C, H, W] of numbers: {error}") from error
    if sys.byteorder == "big":
        numbers.byteswap()
    return {"shape": shape, "data": base64.b64encode(numbers.tobytes()).decode()}


def _flat(values: Any, shape: tuple[int, int, int]) -> Iterator[float]:
    for plane in values:
        for row in plane:
            if (len(plane), len(row)) != shape[1:]:
                raise TypeError(f"its rows are of different lengths, {list(shape[1:])} and {[len(plane), len(row)]}")
            yield from row
