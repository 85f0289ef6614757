"""Fields that several kinds of features share: names, vectors, places of a layer."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_VECTOR = 65_536
MAX_SOURCE = 4_096

KINDS = (
    "logit",
    "channel",
    "neuron",
    "direction",
    "cosine",
    "cosine_power",
    "spatial",
    "encoder",
    "dictionary",
    "likeness",
    "blur",
)
"""The kinds that have a string form of their own."""

NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_KIND_AHEAD = rf"(?:{'|'.join(KINDS)}):"
PLUS_OR_MINUS = re.compile(rf"\s+([+-])\s+(?=(?:{NUMBER}\s*\*\s*)?{_KIND_AHEAD})")
ENDS_IN_A_FACTOR = re.compile(rf"\s[+-]\s+{NUMBER}$")
"""A text that, followed by ``* logit:1``, reads as a sum's next term with its weight."""

TIMES = re.compile(rf"\s+\*\s+(?={_KIND_AHEAD})")

WINDOW_FORM = r"\d+:\d+,\d+:\d+"
POSITION_FORM = r"\d+,\d+|cls"
"""A place as text, after an ``@``: ROW,COLUMN, the class token, or ROW:ROW,COLUMN:COLUMN (the second left out)."""

LayerName = Annotated[str, Field(pattern=r"^[^\s:@#]+$", max_length=256, description="PyTorch's dotted module name")]
Unit = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Window(BaseModel):
    """A rectangle of positions: from the first row and column up to, and without, the second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[Unit, Unit]
    columns: tuple[Unit, Unit]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, (first, end) in (("rows", self.rows), ("columns", self.columns)):
            if first >= end:
                raise ValueError(f"the window's {name} are {first}:{end}: expected the first below the second")
        return self

    def __str__(self) -> str:
        return f"{self.rows[0]}:{self.rows[1]},{self.columns[0]}:{self.columns[1]}"


def _read_place(value: Any) -> Any:
    """Return the fields of a place from its text; other things as they are."""
    if not isinstance(value, str) or value == "cls" or not re.fullmatch(f"{WINDOW_FORM}|{POSITION_FORM}", value):
        return value
    numbers = re.split("[,:]", value)
    return numbers if len(numbers) == 2 else {"rows": numbers[:2], "columns": numbers[2:]}


Position = tuple[Unit, Unit]
FromText = BeforeValidator(_read_place)
Place = Annotated[Position | Window | Literal["cls"], FromText]
"""Where at a layer: one position (row, column), a window of positions, or the class token."""


def place_text(place: Position | Window | Literal["cls"] | None) -> str:
    """Return a place as it is written behind a feature: ``@7,5``, ``@2:5,1:4``, ``@cls``, or nothing."""
    if place is None:
        return ""
    return f"@{place[0]},{place[1]}" if isinstance(place, tuple) else f"@{place}"


def number_text(number: float) -> str:
    """Return the shortest text that reads as the same number."""
    return str(int(number)) if number.is_integer() and number < 2**31 else repr(number)


def as_list(values: Any) -> Any:
    """Return a tensor's or an array's values as nested lists; other things as they are."""
    return values.tolist() if callable(getattr(values, "tolist", None)) else values


def _check_finite(values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(math.isfinite(value) for value in values):
        raise ValueError("the values must be finite")
    return values


def check_direction(values: Sequence[float]) -> None:
    """Raise ValueError for values that point nowhere."""
    if not any(values):
        raise ValueError("the values must not be all zero")


def _check_nonzero(values: tuple[float, ...]) -> tuple[float, ...]:
    check_direction(values)
    return values


Values = Annotated[
    tuple[float, ...],
    BeforeValidator(as_list),
    Field(min_length=1, max_length=MAX_VECTOR),
    AfterValidator(_check_finite),
]
"""One number per channel, finite; a tensor or an array is taken as well."""

Vector = Annotated[Values, AfterValidator(_check_nonzero)]
"""Values that are not all zero."""


def _check_source(source: str) -> str:
    if source != source.strip() or PLUS_OR_MINUS.search(source) or TIMES.search(source):
        raise ValueError(f"{source!r} reads as several features, or has outer spaces: rename the file")
    return source


Source = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE), AfterValidator(_check_source)]
"""The name of a file or of a dictionary."""

Row = Annotated[Source, Field(pattern=r"^.+#\d+$", description="FILE#ROW, read where it is used")]


def is_none(value: object) -> bool:
    """Tell whether a field is left out of the JSON, so that a feature without it keeps its identity."""
    return value is None
