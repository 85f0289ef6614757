"""The algebra of features: sums, differences, products and multiples, kept as weighted sums of products of atoms."""

import math
import re
from collections import defaultdict
from numbers import Real
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from accentor.spec.features.fields import ENDS_IN_A_FACTOR

if TYPE_CHECKING:
    from accentor.spec.features.union import AnyAtom, Monomial

MAX_TERMS = 64
MAX_FACTORS = 8


class FeatureBase(BaseModel):
    """What all features share: they are immutable, and form sums, differences, products and multiples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def terms_of(self) -> "tuple[Term, ...]":
        """Return this feature as weighted atoms and products of atoms."""
        raise NotImplementedError

    def factors_of(self) -> "tuple[AnyAtom, ...]":
        """Return the atoms whose product this is; for a sum all its atoms."""
        raise NotImplementedError

    @property
    def references(self) -> tuple[str, ...]:
        """The files and dictionaries that the feature names instead of giving values; a service takes it without."""
        return tuple(atom.reference for atom in self.factors_of() if atom.reference is not None)

    def __add__(self, other: "FeatureBase") -> "Sum":
        return Sum(terms=self.terms_of() + other.terms_of()) if isinstance(other, FeatureBase) else NotImplemented

    def __radd__(self, other: float) -> "FeatureBase":
        """Let ``sum(features)`` start from its 0."""
        return self if other == 0 else NotImplemented

    def __neg__(self) -> "Sum":
        return self._scaled(-1.0)

    def __sub__(self, other: "FeatureBase") -> "Sum":
        return self + -other if isinstance(other, FeatureBase) else NotImplemented

    def __mul__(self, other: "float | FeatureBase") -> "Sum | Product":
        if isinstance(other, FeatureBase):
            return _multiplied(self, other)
        if isinstance(other, Real):
            return self._scaled(float(other))
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Sum":
        if isinstance(divisor, Real):
            return self._scaled(1.0 / float(divisor))
        return NotImplemented

    def _scaled(self, factor: float) -> "Sum":
        return Sum(terms=tuple(Term(weight=t.weight * factor, feature=t.feature) for t in self.terms_of()))


class Atom(FeatureBase):
    """A feature that is no sum and no product."""

    form: ClassVar[str]
    """What follows the kind and a colon in the string form: a regular expression whose groups are named as fields."""

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the feature whose string form ends in this text; none if it is of another form."""
        match = re.fullmatch(cls.form, text, re.DOTALL | re.ASCII)
        if match is None:
            return None
        return cls.model_validate({name: value for name, value in match.groupdict().items() if value is not None})

    def terms_of(self) -> "tuple[Term, ...]":
        """Return this feature as one atom of weight 1."""
        return (Term(weight=1.0, feature=self),)

    def factors_of(self) -> "tuple[AnyAtom, ...]":
        """Return this feature alone."""
        return (self,)  # type: ignore[return-value]

    @property
    def reference(self) -> str | None:
        """The file or dictionary that this atom names; none if it is given by value."""
        return getattr(self, "source", None)


class Product(FeatureBase):
    """Product of features, crop by crop."""

    kind: Literal["product"] = "product"
    factors: "Annotated[tuple[AnyAtom, ...], Field(min_length=2, max_length=MAX_FACTORS)]"

    @field_validator("factors")
    @classmethod
    def _check_text(cls, factors: "tuple[AnyAtom, ...]") -> "tuple[AnyAtom, ...]":
        for factor in factors[:-1]:
            if ENDS_IN_A_FACTOR.search(str(factor)):
                raise ValueError(f"{str(factor)!r} reads as a sum in a product: name it otherwise, or put it last")
        return factors

    def terms_of(self) -> "tuple[Term, ...]":
        """Return this product with weight 1."""
        return (Term(weight=1.0, feature=self),)

    def factors_of(self) -> "tuple[AnyAtom, ...]":
        """Return the factors."""
        return self.factors

    def __str__(self) -> str:
        return " * ".join(str(factor) for factor in self.factors)


class Term(BaseModel):
    """A feature with its weight in a sum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[float, Field(allow_inf_nan=False)]
    feature: "Monomial"


class Sum(FeatureBase):
    """Weighted sum of features; a single term of weight -1 suppresses."""

    kind: Literal["sum"] = "sum"
    terms: Annotated[tuple[Term, ...], Field(min_length=1, max_length=MAX_TERMS)]

    @field_validator("terms")
    @classmethod
    def _check_weights(cls, terms: tuple[Term, ...]) -> tuple[Term, ...]:
        if not any(term.weight for term in terms):
            raise ValueError("all weights of the sum are zero")
        weights: defaultdict[Monomial, float] = defaultdict(float)
        for term in terms:
            weights[term.feature] += term.weight
        if not any(weights.values()):
            raise ValueError("the terms of the sum cancel out")
        return terms

    def terms_of(self) -> tuple[Term, ...]:
        """Return the weighted atoms and products."""
        return self.terms

    def factors_of(self) -> "tuple[AnyAtom, ...]":
        """Return all atoms of the terms."""
        return tuple(atom for term in self.terms for atom in term.feature.factors_of())

    def __str__(self) -> str:
        text = ""
        for term in self.terms:
            size = abs(term.weight)
            negative = math.copysign(1.0, term.weight) < 0
            sign = (" - " if negative else " + ") if text else ("-" if negative else "")
            bare = size == 1.0 and (negative or len(self.terms) > 1)
            text += sign + ("" if bare else f"{size!r}*") + str(term.feature)
        return text


def _multiplied(left: FeatureBase, right: FeatureBase) -> Sum | Product:
    """Multiply out: the product of two sums is the sum of the products."""
    terms = tuple(
        Term(weight=a.weight * b.weight, feature=Product(factors=a.feature.factors_of() + b.feature.factors_of()))
        for a in left.terms_of()
        for b in right.terms_of()
    )
    if len(terms) == 1 and terms[0].weight == 1.0 and isinstance(terms[0].feature, Product):
        return terms[0].feature
    return Sum(terms=terms)
