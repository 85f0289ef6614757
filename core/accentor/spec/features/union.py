"""The union of all kinds, and features as text."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from accentor.errors import InvalidFeatureError, what_is_wrong
from accentor.spec.features.algebra import Product, Sum, Term
from accentor.spec.features.atoms import (
    Blur,
    Channel,
    Cosine,
    CosinePower,
    Direction,
    Encoder,
    Entry,
    Likeness,
    Logit,
    Neuron,
    Spatial,
)
from accentor.spec.features.fields import KINDS, NUMBER, PLUS_OR_MINUS, TIMES

FORMS = (
    "logit:UNIT, channel:LAYER:UNIT, neuron:LAYER:UNIT@ROW,COLUMN, direction:LAYER:FILE#ROW, cosine:LAYER:FILE#ROW, "
    "cosine_power:LAYER:FILE#ROW^POWER, spatial:LAYER:FILE, encoder:LAYER:DICTIONARY#UNIT, dictionary:NAME#UNIT, "
    "likeness:LAYER, blur:input"
)

OneAtom = Logit | Channel | Neuron | Direction | Cosine | CosinePower | Spatial | Encoder | Entry | Likeness | Blur
AnyAtom = Annotated[OneAtom, Field(discriminator="kind")]
Monomial = Annotated[OneAtom | Product, Field(discriminator="kind")]
AnyFeature = OneAtom | Product | Sum

ATOMS: Mapping[str, type[OneAtom]] = {atom.model_fields["kind"].default: atom for atom in get_args(OneAtom)}

for _model in (Product, Term, Sum):
    _model.model_rebuild(_types_namespace={"AnyAtom": AnyAtom, "Monomial": Monomial, "Term": Term})

_SCALED = re.compile(rf"(?:({NUMBER})\s*\*\s*)?(.+)", re.DOTALL)
MAX_QUOTED = 200


def parse_feature(text: str) -> AnyFeature:
    """Read a feature from its string form.

    Raises
    ------
    InvalidFeatureError
        With the text, and the forms that are understood.
    """
    body = text.strip()
    negative = body.startswith("-")
    pieces = PLUS_OR_MINUS.split(body[1:].lstrip() if negative else body)
    signs = [-1.0 if negative else 1.0, *(-1.0 if sign == "-" else 1.0 for sign in pieces[1::2])]
    try:
        terms = [_parse_term(piece, sign, text) for sign, piece in zip(signs, pieces[0::2], strict=True)]
        if len(terms) == 1 and terms[0].weight == 1.0 and "*" not in pieces[0].partition(":")[0]:
            return terms[0].feature
        return Sum(terms=tuple(terms))
    except InvalidFeatureError:
        raise
    except ValueError as error:
        raise InvalidFeatureError(f"{_short(text)} is no feature: {_first_message(error)}") from error


def _parse_term(piece: str, sign: float, text: str) -> Term:
    match = _SCALED.fullmatch(piece.strip())
    if match is None:
        raise InvalidFeatureError(f"{_short(text)} is no feature: a term is empty; expected {FORMS}")
    factor = 1.0 if match[1] is None else float(match[1])
    atoms = tuple(_parse_atom(atom.strip(), text) for atom in TIMES.split(match[2]))
    return Term(weight=sign * factor, feature=atoms[0] if len(atoms) == 1 else Product(factors=atoms))


def _parse_atom(atom: str, text: str) -> OneAtom:
    kind, _, rest = atom.partition(":")
    found = ATOMS[kind].read(rest) if kind in ATOMS else None
    if found is not None:
        return found
    raise InvalidFeatureError(
        f"{_short(text)} is no feature: expected {FORMS}, or a sum or product of these", kinds=list(KINDS)
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")


def _first_message(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), what_is_wrong(first)]))


def replace_atoms(feature: AnyFeature, change: Callable[[OneAtom], OneAtom]) -> AnyFeature:
    """Return the feature with each of its atoms changed."""
    if isinstance(feature, Sum):
        terms = ((term.weight, _replaced(term.feature, change)) for term in feature.terms)
        return Sum(terms=tuple(Term(weight=weight, feature=changed) for weight, changed in terms))
    return _replaced(feature, change)


def _replaced(feature: OneAtom | Product, change: Callable[[OneAtom], OneAtom]) -> OneAtom | Product:
    if isinstance(feature, Product):
        return Product(factors=tuple(change(factor) for factor in feature.factors))
    return change(feature)


def _from_text(value: Any) -> Any:
    return parse_feature(value) if isinstance(value, str) else value


Feature = Annotated[
    Annotated[AnyFeature, Field(discriminator="kind")],
    BeforeValidator(_from_text, json_schema_input_type=AnyFeature | str),
]
