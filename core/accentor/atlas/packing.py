"""Columns of numbers as text: two bytes a value, in base64, which a page reads as one typed array."""

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Any

NONE = 0xFFFF
"""Stands for a value that there is not."""

TOP = 0xFFFE


def pack_numbers(values: Sequence[float | None]) -> dict[str, Any]:
    """Return values spread over 0..65534 between their lowest and highest, to 1/65534 of their range."""
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    span = (high - low) or 1.0
    steps = [NONE if value is None else round((value - low) / span * TOP) for value in values]
    return {"low": low, "high": high, "packed": encode(steps)}


def pack_indices(values: Sequence[int]) -> tuple[int, str]:
    """Return how many bytes an index takes, two or four, and the indices."""
    return (2, encode(values)) if max(values, default=0) <= NONE else (4, encode(values, "I"))


def encode(values: Sequence[int], code: str = "H") -> str:
    """Return unsigned integers as little-endian bytes in base64."""
    packed = array(code, values)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode("ascii")
