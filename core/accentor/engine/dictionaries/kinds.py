"""The three kinds of dictionaries: the channels of a layer, directions in it, and the encoder of an autoencoder."""

from dataclasses import dataclass, field

from torch import Tensor

from accentor.dictionaries import DUPLICATE_COSINE
from accentor.engine.dictionaries.codes import ACTIVATIONS, Activation, activate, largest
from accentor.engine.dictionaries.dictionary import Code, Dictionary
from accentor.engine.dictionaries.report import Report, report_on
from accentor.engine.models import Model
from accentor.errors import InvalidFeatureError
from accentor.spec import Channel, Direction, Encoder, Feature


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ChannelDictionary(Dictionary):
    """All channels of a layer: feature i is the mean of channel i over all positions."""

    units: int

    @property
    def kind(self) -> str:
        """What its features are."""
        return "channels"

    @property
    def size(self) -> int:
        """Number of channels."""
        return self.units

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.units

    def encode(self, activations: Tensor) -> Tensor:
        """Return the activations [..., units] as they are."""
        _check_width(self, activations)
        return activations

    def report(self, cosine: float = DUPLICATE_COSINE) -> Report:  # noqa: ARG002
        """Report nothing: channels are neither zero nor alike by construction."""
        return Report(size=self.size)

    def _feature(self, unit: int, code: Code) -> Feature:  # noqa: ARG002
        return Channel(layer=self.layer, unit=unit)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DirectionDictionary(Dictionary):
    """Directions in a layer's activations: feature i is the dot product with row i, z_i = ⟨x, v_i⟩.

    Parameters
    ----------
    vectors
        v [features, units], kept in float32.
    """

    vectors: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", _matrix(self.name, "vectors", self.vectors))
        super().__post_init__()

    @property
    def kind(self) -> str:
        """What its features are."""
        return "directions"

    @property
    def size(self) -> int:
        """Number of directions."""
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Number of values of a direction."""
        return self.vectors.shape[1]

    def encode(self, activations: Tensor) -> Tensor:
        """Return ⟨x, v⟩ [..., features] of activations [..., units]."""
        _check_width(self, activations)
        return activations @ self.vectors.T

    def report(self, cosine: float = DUPLICATE_COSINE) -> Report:
        """Report rows that are all zero or not finite, and those that repeat an earlier one."""
        return report_on(self.vectors, self.vectors.new_zeros(self.size), cosine)

    def _feature(self, unit: int, code: Code) -> Feature:  # noqa: ARG002
        return Direction(layer=self.layer, vector=tuple(self.vectors[unit].tolist()))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EncoderDictionary(Dictionary):
    """The encoder of a sparse autoencoder, with its decoder where it is known.

    z = σ(p),  p = W (x - c) + b;  x̂ = z D + d

    Parameters
    ----------
    vectors
        W [features, units].
    bias
        b [features]; none: zero.
    center
        c [units], subtracted from the activations; none: zero.
    activation, threshold, k
        σ, as in `activate`: θ [features] ≥ 0 for jumprelu, k for topk.
    decoder, offset
        D [features, units] and d [units].
    """

    vectors: Tensor
    bias: Tensor | None = None
    center: Tensor | None = None
    activation: Activation
    threshold: Tensor | None = None
    k: int | None = None
    decoder: Tensor | None = None
    offset: Tensor | None = None
    _broken: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "vectors", _matrix(self.name, "W_enc", self.vectors))
        for key, length in (("bias", self.size), ("center", self.width), ("threshold", self.size)):
            put(self, key, _vector(self.name, key, getattr(self, key), length))
        put(self, "offset", _vector(self.name, "offset", self.offset, self.width))
        if self.center is not None and not self.center.isfinite().all():
            raise InvalidFeatureError(f"dictionary {self.name!r}: center holds values that are not finite")
        if self.decoder is not None:
            put(self, "decoder", _matrix(self.name, "decoder", self.decoder))
            _check_shape(self.name, "decoder", self.decoder, (self.size, self.width))
        self._check_activation()
        broken = ~(self.vectors.isfinite().all(dim=1) & self._numbers().isfinite())
        put(self, "_broken", broken if broken.any() else None)
        super().__post_init__()

    def _check_activation(self) -> None:
        where = f"dictionary {self.name!r}: activation {self.activation!r}"
        if self.activation not in ACTIVATIONS:
            raise InvalidFeatureError(f"{where} is unknown: expected {', '.join(ACTIVATIONS)}")
        if (self.activation == "jumprelu") != (self.threshold is not None):
            raise InvalidFeatureError(f"{where}: jumprelu needs thresholds, and it alone")
        if (self.activation == "topk") != (self.k is not None):
            raise InvalidFeatureError(f"{where}: topk needs k, and it alone")
        if self.k is not None and not 1 <= self.k <= self.size:
            raise InvalidFeatureError(f"{where}: k is {self.k}, expected 1 to {self.size}, the number of features")
        if self.threshold is not None and (self.threshold < 0).any():
            raise InvalidFeatureError(f"{where}: a threshold is negative, expected 0 or more")

    @property
    def kind(self) -> str:
        """What its features are."""
        return "encoder"

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Number of units of the layer."""
        return self.vectors.shape[1]

    def pre_codes(self, activations: Tensor) -> Tensor:
        """Return p [..., features] of activations [..., units]: the codes before σ."""
        _check_width(self, activations)
        moved = activations if self.center is None else activations - self.center
        pre = moved @ self.vectors.T
        return pre if self.bias is None else pre + self.bias

    def encode(self, activations: Tensor) -> Tensor:
        """Return the codes z [..., features] of activations [..., units].

        A feature that holds a value that is not finite has the code 0, and keeps no other from being on.
        """
        return self.codes_of(self.pre_codes(activations))

    def codes_of(self, pre: Tensor) -> Tensor:
        """Return σ(p) [..., features] of all features' p, as `encode` does."""
        return activate(self._mended(pre), self.activation, self.threshold, self.k)

    def top_codes(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of a TopK encoder that are on at a position and their features [..., k]; others are 0."""
        assert self.k is not None  # noqa: S101 - other encoders have codes for all features
        values, features = largest(self._mended(pre), self.k)
        return values.relu(), features

    def _mended(self, pre: Tensor) -> Tensor:
        return pre if self._broken is None else pre.masked_fill(self._broken, 0.0)

    def decode(self, codes: Tensor) -> Tensor:
        """Return x̂ [..., units] of codes [..., features].

        Raises
        ------
        InvalidFeatureError
            If the dictionary has no decoder.
        """
        if self.decoder is None:
            raise InvalidFeatureError(f"dictionary {self.name!r} has no decoder")
        restored = codes @ self.decoder
        return restored if self.offset is None else restored + self.offset

    def report(self, cosine: float = DUPLICATE_COSINE) -> Report:
        """Report encoder rows that are all zero or not finite, and those that point where an earlier one does."""
        return report_on(self.vectors, self._numbers(), cosine)

    def _numbers(self) -> Tensor:
        total = self.vectors.new_zeros(self.size)
        for numbers in (self.bias, self.threshold):
            total = total if numbers is None else total + numbers
        return total

    def _feature(self, unit: int, code: Code) -> Feature:
        vector = self.vectors[unit].double()
        bias = 0.0 if self.bias is None else float(self.bias[unit])
        if self.center is not None:
            bias -= float(vector @ self.center.double())
        return Encoder(
            layer=self.layer,
            vector=tuple(vector.tolist()),
            bias=bias,
            activation=self.activation,
            threshold=None if self.threshold is None else float(self.threshold[unit]),
            k=self.k,
            code=code if self.activation != "identity" else "pre",
        )


def channels_of(model: Model, layer: str, name: str | None = None) -> ChannelDictionary:
    """Return all channels of a layer as a dictionary.

    Parameters
    ----------
    model
        From `load_model`.
    layer
        The layer's dotted name.
    name
        What the dictionary is called; none: as the layer.

    Raises
    ------
    UnknownLayerError
        With the names nearest to it.
    """
    return ChannelDictionary(name=name or layer, layer=layer, units=model.card.layer(layer).units)


def _check_width(dictionary: Dictionary, activations: Tensor) -> None:
    if activations.shape[-1] != dictionary.width:
        raise InvalidFeatureError(
            f"dictionary {dictionary.name!r} is for {dictionary.width} units, "
            f"the activations have {activations.shape[-1]} on their last axis"
        )


def _matrix(name: str, key: str, tensor: Tensor) -> Tensor:
    if tensor.dim() != 2 or not tensor.is_floating_point():
        raise InvalidFeatureError(
            f"dictionary {name!r}: {key} is {tensor.dtype} of shape {list(tensor.shape)}, "
            "expected floats [features, units]"
        )
    return tensor.detach().float().contiguous()


def _vector(name: str, key: str, tensor: Tensor | None, length: int) -> Tensor | None:
    if tensor is None:
        return None
    _check_shape(name, key, tensor, (length,))
    return tensor.detach().float().contiguous()


def _check_shape(name: str, key: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise InvalidFeatureError(f"dictionary {name!r}: {key} has shape {list(tensor.shape)}, expected {list(shape)}")
