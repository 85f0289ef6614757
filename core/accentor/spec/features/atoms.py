"""The kinds of features that are neither sums nor products: what of a layer's activations counts.

a is the activation at one position of the layer [C]; the mean is over all positions, or those of ``at``. The class
token is no position: it counts where it is named.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from accentor.spec.features.algebra import Atom
from accentor.spec.features.fields import (
    POSITION_FORM,
    WINDOW_FORM,
    FromText,
    LayerName,
    Place,
    Position,
    Row,
    Source,
    Unit,
    Values,
    Vector,
    Window,
    is_none,
    number_text,
    place_text,
)
from accentor.spec.features.maps import TargetMap

MAX_POWER = 16.0

MAP_FILE = r".+\.(?:npy|safetensors(?::[^:@#^]+)?)(?:#\d+)?"
"""A file with a target map: FILE.npy or FILE.safetensors:NAME, of several maps FILE#ROW."""

_LAYER = r"(?P<layer>[^:]*):"
_UNIT = r"(?P<unit>\d+)"
_ROW = r"(?P<source>.+#\d+)"
_POWER = r"\^(?P<power>[\d.]+(?:[eE][+-]?\d+)?)"
_AT = rf"(?:@(?P<at>{WINDOW_FORM}|{POSITION_FORM}))?"

Power = Annotated[float, Field(gt=0.0, le=MAX_POWER)]


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

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the logit of an index or a label."""
        return cls.model_validate({"unit": int(text) if text.isascii() and text.isdigit() else text}) if text else None

    def __str__(self) -> str:
        return f"logit:{self.unit}"


class Channel(Atom):
    """Mean over all positions, or those of a window, of channel ``unit`` at ``layer``."""

    form: ClassVar[str] = rf"{_LAYER}{_UNIT}(?:@(?P<at>{WINDOW_FORM}))?"

    kind: Literal["channel"] = "channel"
    layer: LayerName
    unit: Unit
    at: Annotated[Window, FromText] | None = Field(None, exclude_if=is_none)

    def __str__(self) -> str:
        return f"channel:{self.layer}:{self.unit}{place_text(self.at)}"


class Neuron(Atom):
    """Channel ``unit`` at ``layer`` at one position (row, column), or at the class token.

    Without a position it is the centre (H // 2, W // 2).
    """

    form: ClassVar[str] = rf"{_LAYER}{_UNIT}(?:@(?P<position>{POSITION_FORM}))?"

    kind: Literal["neuron"] = "neuron"
    layer: LayerName
    unit: Unit
    position: Annotated[Position | Literal["cls"], FromText] | None = None

    def __str__(self) -> str:
        return f"neuron:{self.layer}:{self.unit}{place_text(self.position)}"


class Vectored(Atom):
    """A feature of the activations and a vector, by value or as a row of a file: ``FILE.npy#ROW``."""

    kind: str
    layer: LayerName
    vector: Vector | None = None
    source: Row | None = None
    at: Place | None = Field(None, exclude_if=is_none)

    @model_validator(mode="after")
    def _check_vector(self) -> Self:
        if (self.vector is None) == (self.source is None):
            raise ValueError(f"{self.kind} needs exactly one of vector and source")
        return self

    def _text(self, suffix: str = "") -> str:
        body = self.source or f"<{len(self.vector or ())} values>"
        return f"{self.kind}:{self.layer}:{body}{suffix}{place_text(self.at)}"

    def __str__(self) -> str:
        return self._text()


class Direction(Vectored):
    """Mean of ⟨a, v⟩.

    The vector is given by value, or as ``source``: ``FILE.safetensors#ROW``, ``FILE.safetensors:TENSOR#ROW`` or
    ``FILE.npy#ROW``, read where the feature is used. A service accepts it by value only, for its identity is its
    content.
    """

    form: ClassVar[str] = f"{_LAYER}{_ROW}{_AT}"

    kind: Literal["direction"] = "direction"


class Cosine(Vectored):
    """Mean of cos(a, v); 0 where a is 0."""

    form: ClassVar[str] = f"{_LAYER}{_ROW}{_AT}"

    kind: Literal["cosine"] = "cosine"


class CosinePower(Vectored):
    """Mean of max(cos(a, v), 0.1)^p · ⟨a, v⟩: strong, and along the vector alone (Lucid issue 116)."""

    form: ClassVar[str] = f"{_LAYER}{_ROW}{_POWER}{_AT}"

    kind: Literal["cosine_power"] = "cosine_power"
    power: Power = 1.0

    def __str__(self) -> str:
        return self._text(f"^{number_text(self.power)}")


class Spatial(Atom):
    """⟨A, M⟩ for a target map M [C, H, W]: different directions at different places.

    With ``power`` it is max(cos(A, M), 0.1)^p · ⟨A, M⟩, where |A| counts all values under the map, or with the ``norm``
    ``masked`` those where M is not 0. A map smaller than the layer lies at ``offset`` (row, column), and nothing
    outside of it counts.
    """

    form: ClassVar[str] = rf"{_LAYER}(?P<source>{MAP_FILE})(?:{_POWER}(?:/(?P<norm>masked))?)?(?:@(?P<offset>\d+,\d+))?"

    kind: Literal["spatial"] = "spatial"
    layer: LayerName
    target: TargetMap | None = None
    source: Annotated[Source, Field(pattern=f"^{MAP_FILE}$")] | None = None
    offset: Annotated[Position, FromText] | None = None
    power: Power | None = None
    norm: Literal["all", "masked"] = "all"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.target is None) == (self.source is None):
            raise ValueError("spatial needs exactly one of target and source")
        if self.norm == "masked" and self.power is None:
            raise ValueError("a masked norm is of the cosine alone: give a power, or leave it out")
        return self

    def __str__(self) -> str:
        shape = () if self.target is None else self.target.shape
        body = self.source or f"<{'×'.join(str(side) for side in shape)} values>"
        power = "" if self.power is None else f"^{number_text(self.power)}"
        return (
            f"spatial:{self.layer}:{body}{power}{'/masked' if self.norm == 'masked' else ''}{place_text(self.offset)}"
        )


class Encoder(Atom):
    """One unit of a feature dictionary (an SAE, a transcoder): mean of its code at ``layer``.

    The pre-code is wᵀ(a − b₀) + b. It is the target unless ``code`` is ``post``, for where the activation is off the
    code has no gradient. The unit is given by value, or as ``source``: ``DICTIONARY#UNIT``. The post-code of a TopK
    dictionary depends on all its units and needs the source.
    """

    form: ClassVar[str] = rf"{_LAYER}{_ROW}(?::(?P<code>post))?{_AT}"

    kind: Literal["encoder"] = "encoder"
    layer: LayerName
    vector: Vector | None = Field(None, description="w, the unit's column of the encoder")
    bias: float = Field(0.0, allow_inf_nan=False, description="b")
    center: Values | None = Field(None, description="b₀, subtracted from the activations; none: 0")
    activation: Literal["identity", "relu", "jumprelu", "topk"] | None = Field(
        None, description="of the dictionary; with a source it is the source's"
    )
    threshold: float | None = Field(None, ge=0.0, allow_inf_nan=False, description="below it a JumpReLU gives 0")
    k: Unit | None = Field(None, ge=1, description="how many units of a TopK dictionary are on at a position")
    source: Row | None = Field(None, description="DICTIONARY#UNIT, read where the feature is used")
    code: Literal["pre", "post"] = Field("pre", description="before or after the activation")
    at: Place | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.vector is None) == (self.source is None):
            raise ValueError("encoder needs exactly one of vector and source")
        if self.source is not None:
            self._check_source()
        if self.threshold is not None and self.activation != "jumprelu":
            raise ValueError(f"a threshold belongs to jumprelu, the activation is {self.activation}")
        if self.activation == "jumprelu" and self.threshold is None:
            raise ValueError("jumprelu needs a threshold")
        if self.k is not None and self.activation != "topk":
            raise ValueError(f"k belongs to topk, the activation is {self.activation}")
        if self.vector is not None and self.center is not None and len(self.vector) != len(self.center):
            raise ValueError(f"the vector has {len(self.vector)} values, the center {len(self.center)}")
        if self.vector is not None and self.code == "post":
            self._check_post()
        return self

    def _check_source(self) -> None:
        for name in ("center", "activation", "threshold", "k"):
            if getattr(self, name) is not None:
                raise ValueError(f"give either a source or the unit's {name}: the source has its own")
        if self.bias != 0.0:
            raise ValueError("give either a source or the unit's bias: the source has its own")

    def _check_post(self) -> None:
        if self.activation == "topk":
            raise ValueError("the post-code of a TopK unit depends on all units: name the dictionary as source")
        if self.activation in (None, "identity"):
            raise ValueError("post needs an activation: without one the pre-code is the code")

    def __str__(self) -> str:
        body = self.source or f"<{len(self.vector or ())} values>"
        code = ":post" if self.code == "post" else ""
        return f"encoder:{self.layer}:{body}{code}{place_text(self.at)}"


class Entry(Atom):
    """Unit ``unit`` of a feature dictionary, by the dictionary's name or file; it knows its layer."""

    form: ClassVar[str] = rf"(?P<dictionary>.+)#{_UNIT}"

    kind: Literal["dictionary"] = "dictionary"
    dictionary: Source
    unit: Unit

    @property
    def reference(self) -> str:
        """The dictionary, with the unit."""
        return f"{self.dictionary}#{self.unit}"

    def __str__(self) -> str:
        return f"dictionary:{self.dictionary}#{self.unit}"


class Likeness(Atom):
    """How alike the image and its seed are at ``layer``, in the same view of both: A against A₀.

    ``cosine`` and ``pearson`` are similarities of all their values, -1 to 1; ``dot`` is ⟨A, A₀⟩; ``l2`` and ``l1`` are
    minus the mean over positions of the norm of A − A₀ over channels. With ``power`` a similarity s counts as
    max(s, 0.1)^p, and ``dot`` is multiplied by that of its cosine: a caricature of the seed.
    """

    form: ClassVar[str] = (
        rf"(?P<layer>[^:/^@]*)(?:/(?P<measure>[a-z0-9]+))?(?:{_POWER})?(?:@(?P<at>{WINDOW_FORM}|{POSITION_FORM}))?"
    )

    kind: Literal["likeness"] = "likeness"
    layer: LayerName
    measure: Literal["cosine", "pearson", "dot", "l2", "l1"] = "cosine"
    power: Power | None = Field(None, exclude_if=is_none)
    at: Place | None = Field(None, exclude_if=is_none)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.power is not None and self.measure in ("l2", "l1"):
            raise ValueError(f"{self.measure} is no similarity: leave the power out")
        return self

    def __str__(self) -> str:
        measure = "" if self.measure == "cosine" else f"/{self.measure}"
        power = "" if self.power is None else f"^{number_text(self.power)}"
        return f"likeness:{self.layer}{measure}{power}{place_text(self.at)}"


class Blur(Atom):
    """How smooth the network's input is: −½ · mean of (x − blurred x)², each value of x being 0 to 1.

    The blur is 3 × 3: 1 in the centre, ½ around it, over its sum; its result counts as a constant. Ascending it moves x
    towards its blurred self (Nguyen et al. 2015).
    """

    form: ClassVar[str] = "input"

    kind: Literal["blur"] = "blur"

    def __str__(self) -> str:
        return "blur:input"
