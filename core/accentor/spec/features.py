"""Features: what is to be accentuated, as data and as text.

Every feature has a string form, and ``parse_feature(str(feature)) == feature`` wherever it has one::

    logit:207                          the model's output 207 before the softmax
    logit:golden retriever             the same by label, where the model knows its labels
    channel:layer3.1.conv2:12          mean of channel 12 over all positions
    neuron:layer3.1.conv2:12@7,5       channel 12 at row 7, column 5;  without @ at the centre
    direction:layer4:file.safetensors#3    mean of <activation, row 3 of the file> over all positions
    -logit:207                         suppress
    logit:207 - 0.5*logit:208          sums, differences, scalings
"""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from accentor.errors import InvalidFeatureError

KINDS = ("logit", "channel", "neuron", "direction")
FORMS = "logit:UNIT, channel:LAYER:UNIT, neuron:LAYER:UNIT@ROW,COLUMN, direction:LAYER:FILE#ROW"
MAX_TERMS = 64
MAX_VECTOR = 65_536

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_ATOM_AHEAD = rf"(?=(?:{_NUMBER}\s*\*\s*)?(?:{'|'.join(KINDS)}):)"
_SEPARATOR = re.compile(rf"\s+([+-])\s+{_ATOM_AHEAD}")
_SCALED = re.compile(rf"(?:({_NUMBER})\s*\*\s*)?(.+)", re.DOTALL)
_POSITION = re.compile(r"(\d+)(?:@(\d+),(\d+))?")

LayerName = Annotated[str, Field(pattern=r"^[^\s:@#]+$", max_length=256, description="PyTorch's dotted module name")]
Unit = Annotated[int, Field(ge=0, le=2**31 - 1)]


class FeatureBase(BaseModel):
    """What all features share: they are immutable, and form sums, differences and multiples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def terms_of(self) -> "tuple[Term, ...]":
        """Return this feature as weighted atoms."""
        raise NotImplementedError

    def __add__(self, other: "FeatureBase") -> "Sum":
        return Sum(terms=self.terms_of() + other.terms_of())

    def __neg__(self) -> "Sum":
        return self * -1.0

    def __sub__(self, other: "FeatureBase") -> "Sum":
        return self + -other

    def __mul__(self, factor: float) -> "Sum":
        return Sum(terms=tuple(Term(weight=t.weight * factor, feature=t.feature) for t in self.terms_of()))

    __rmul__ = __mul__


class Atom(FeatureBase):
    """A feature that is no sum."""

    def terms_of(self) -> "tuple[Term, ...]":
        """Return this feature as one atom of weight 1."""
        return (Term(weight=1.0, feature=self),)


class Logit(Atom):
    """The model's output ``unit`` before the softmax, by index or by label."""

    kind: Literal["logit"] = "logit"
    unit: Unit | Annotated[str, Field(min_length=1, max_length=200)]

    @field_validator("unit")
    @classmethod
    def _check_label(cls, unit: int | str) -> int | str:
        if isinstance(unit, str) and (unit != unit.strip() or ":" in unit or unit.isdigit() or not unit.isprintable()):
            raise ValueError(f"{unit!r} is no label: give an index, or a label without ':' and outer spaces")
        return unit

    def __str__(self) -> str:
        return f"logit:{self.unit}"


class Channel(Atom):
    """Mean over all positions of channel ``unit`` at ``layer``."""

    kind: Literal["channel"] = "channel"
    layer: LayerName
    unit: Unit

    def __str__(self) -> str:
        return f"channel:{self.layer}:{self.unit}"


class Neuron(Atom):
    """Channel ``unit`` at ``layer`` at one position (row, column); the centre (H // 2, W // 2) when none is given."""

    kind: Literal["neuron"] = "neuron"
    layer: LayerName
    unit: Unit
    position: tuple[Unit, Unit] | None = None

    def __str__(self) -> str:
        place = "" if self.position is None else f"@{self.position[0]},{self.position[1]}"
        return f"neuron:{self.layer}:{self.unit}{place}"


class Direction(Atom):
    """Mean over all positions of the dot product of the activations at ``layer`` with a vector.

    The vector is given by value, or as ``source``: ``FILE.safetensors#ROW`` or ``FILE.npy#ROW``, read where the
    feature is used. A service accepts it by value only, for its identity is its content.
    """

    kind: Literal["direction"] = "direction"
    layer: LayerName
    vector: Annotated[tuple[float, ...], Field(min_length=1, max_length=MAX_VECTOR)] | None = None
    source: Annotated[str, Field(pattern=r"^.+#\d+$", max_length=4096)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.vector is None) == (self.source is None):
            raise ValueError("a direction needs exactly one of vector and source")
        if self.vector is not None and not (all(map(math.isfinite, self.vector)) and any(self.vector)):
            raise ValueError("a direction's vector must be finite and not all zero")
        if self.source is not None and (_SEPARATOR.search(self.source) or self.source != self.source.strip()):
            raise ValueError(f"{self.source!r} reads as a sum of features: rename the file")
        return self

    def __str__(self) -> str:
        return f"direction:{self.layer}:{self.source or f'<{len(self.vector or ())} values>'}"


AnyAtom = Annotated[Logit | Channel | Neuron | Direction, Field(discriminator="kind")]


class Term(BaseModel):
    """A feature with its weight in a sum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    feature: AnyAtom


class Sum(FeatureBase):
    """Weighted sum of features; a single term of weight -1 suppresses."""

    kind: Literal["sum"] = "sum"
    terms: Annotated[tuple[Term, ...], Field(min_length=1, max_length=MAX_TERMS)]

    @field_validator("terms")
    @classmethod
    def _check_weights(cls, terms: tuple[Term, ...]) -> tuple[Term, ...]:
        if not any(term.weight for term in terms):
            raise ValueError("all weights of the sum are zero")
        return terms

    def terms_of(self) -> tuple[Term, ...]:
        """Return the weighted atoms."""
        return self.terms

    def __str__(self) -> str:
        text = ""
        for term in self.terms:
            size = abs(term.weight)
            negative = math.copysign(1.0, term.weight) < 0
            sign = (" - " if negative else " + ") if text else ("-" if negative else "")
            bare = size == 1.0 and (negative or len(self.terms) > 1)
            text += sign + ("" if bare else f"{size!r}*") + str(term.feature)
        return text


def parse_feature(text: str) -> "Logit | Channel | Neuron | Direction | Sum":
    """Read a feature from its string form.

    Raises
    ------
    InvalidFeatureError
        With the text, and the forms that are understood.
    """
    body = text.strip()
    negative = body.startswith("-")
    pieces = _SEPARATOR.split(body[1:].lstrip() if negative else body)
    signs = [-1.0 if negative else 1.0, *(-1.0 if sign == "-" else 1.0 for sign in pieces[1::2])]
    terms = [_parse_term(piece, sign, text) for sign, piece in zip(signs, pieces[0::2], strict=True)]
    if len(terms) == 1 and terms[0].weight == 1.0 and "*" not in pieces[0].partition(":")[0]:
        return terms[0].feature
    try:
        return Sum(terms=tuple(terms))
    except ValueError as error:
        raise InvalidFeatureError(f"{text!r} is no feature: {_first_message(error)}") from error


def _parse_term(piece: str, sign: float, text: str) -> Term:
    match = _SCALED.fullmatch(piece.strip())
    if match is None:
        raise InvalidFeatureError(f"{text!r} is no feature: a term is empty; expected {FORMS}")
    factor = 1.0 if match[1] is None else float(match[1])
    try:
        return Term(weight=sign * factor, feature=_parse_atom(match[2].strip(), text))
    except InvalidFeatureError:
        raise
    except ValueError as error:
        raise InvalidFeatureError(f"{text!r} is no feature: {_first_message(error)}") from error


def _parse_atom(atom: str, text: str) -> Logit | Channel | Neuron | Direction:
    kind, _, rest = atom.partition(":")
    layer, _, unit = rest.partition(":")
    match kind:
        case "logit" if rest:
            return Logit(unit=int(rest) if rest.isascii() and rest.isdigit() else rest)
        case "channel" if unit.isascii() and unit.isdigit():
            return Channel(layer=layer, unit=int(unit))
        case "neuron" if place := _POSITION.fullmatch(unit):
            position = None if place[2] is None else (int(place[2]), int(place[3]))
            return Neuron(layer=layer, unit=int(place[1]), position=position)
        case "direction" if unit:
            return Direction(layer=layer, source=unit)
    raise InvalidFeatureError(f"{text!r} is no feature: expected {FORMS}, or a sum of these", kinds=list(KINDS))


def _first_message(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first["loc"] else str(first["msg"])


def _from_text(value: Any) -> Any:
    return parse_feature(value) if isinstance(value, str) else value


Feature = Annotated[
    Annotated[Logit | Channel | Neuron | Direction | Sum, Field(discriminator="kind")],
    BeforeValidator(_from_text, json_schema_input_type=Logit | Channel | Neuron | Direction | Sum | str),
]
