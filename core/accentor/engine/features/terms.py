"""The atoms of one kind at one layer, together: values [n, T] from the activations [N, T, P, C]."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from accentor.engine.features.positions import Mean, full, mean_over, positions_of
from accentor.engine.regularization import Kind, latent_distance
from accentor.errors import InvalidFeatureError
from accentor.spec import Encoder, LayerInfo, Likeness, Spatial
from accentor.spec.features import OneAtom

if TYPE_CHECKING:
    from accentor.engine.dictionaries import EncoderDictionary

COSINE_FLOOR = 0.1
"""Lucid's: below it the cosine counts as this much, so that the product with a negative dot is not rewarded."""


@dataclass(frozen=True)
class Source:
    """Where n atoms read: the pairs they belong to, of N, at a layer; no layer stands for the model's output."""

    pair: Tensor
    every: bool
    layer: LayerInfo | None

    def rows(self, activations: Tensor) -> Tensor:
        """Return the activations of the atoms' pairs [n, ...]."""
        return activations if self.every else activations[self.pair]

    def mean(self, atoms: Sequence[Any]) -> Mean:
        """Return the mean over the atoms' places."""
        return mean_over([getattr(atom, "at", None) for atom in atoms], self.layer, self.pair.device)


class Atoms(ABC):
    """n atoms that are computed together."""

    def __init__(self, source: Source, atoms: Sequence[Any]) -> None:
        self._source = source
        self._mean = source.mean(atoms)

    @abstractmethod
    def values(self, here: Tensor) -> Tensor:
        """Return the atoms' values [n, T], in float32, of the activations [N, T, P, C] at their layer."""

    def _tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, device=self._source.pair.device)


class Units(Atoms):
    """Means of single channels: logits, channels, and neurons at their position."""

    def __init__(self, source: Source, atoms: Sequence[Any]) -> None:
        super().__init__(source, atoms)
        self._unit = self._tensor([atom.unit for atom in atoms])

    def values(self, here: Tensor) -> Tensor:
        """Return the mean of a[unit]."""
        return self._mean.of(here[self._source.pair, :, :, self._unit])


class Neurons(Units):
    """Single channels at single positions."""

    def __init__(self, source: Source, atoms: Sequence[Any]) -> None:
        super().__init__(source, atoms)
        assert source.layer is not None  # noqa: S101 - the output has no neurons
        self._position = self._tensor([positions_of(_position(atom, source.layer), source.layer)[0] for atom in atoms])

    def values(self, here: Tensor) -> Tensor:
        """Return a[unit] at the position."""
        return full(here[self._source.pair, :, self._position, self._unit])


class Linear(Atoms):
    """Means of ⟨a, v⟩ + b: directions, and the pre-codes of encoders, whose b is b − ⟨b₀, w⟩."""

    def __init__(self, source: Source, atoms: Sequence[Any]) -> None:
        super().__init__(source, atoms)
        self._vector = self._tensor([atom.vector for atom in atoms])
        self._bias = self._tensor([_bias(atom) for atom in atoms])

    def values(self, here: Tensor) -> Tensor:
        """Return the mean of ⟨a, v⟩ + b."""
        mean = self._mean.of_vectors(self._source.rows(here))
        return torch.einsum("ntc,nc->nt", mean, self._vector) + self._bias[:, None]

    def _each(self, chosen: Tensor) -> Tensor:
        """Return ⟨a, v⟩ + b [n, T, P] of activations [n, T, P, C]."""
        dot = torch.matmul(chosen, self._vector[:, None, :, None]).squeeze(-1)
        return dot + self._bias[:, None, None]


class Gated(Linear):
    """Means of codes after ReLU or JumpReLU: the pre-code where it is above the threshold, else 0."""

    def __init__(self, source: Source, atoms: Sequence[Encoder]) -> None:
        super().__init__(source, atoms)
        self._threshold = self._tensor([atom.threshold or 0.0 for atom in atoms])

    def values(self, here: Tensor) -> Tensor:
        """Return the mean of the codes."""
        pre = self._each(full(self._source.rows(here)))
        return self._mean.of(pre * (pre > self._threshold[:, None, None]))


class TopK(Atoms):
    """Means of the codes of one TopK dictionary: the pre-code where it is among the k largest and above 0."""

    def __init__(self, source: Source, atoms: Sequence[Encoder]) -> None:
        super().__init__(source, atoms)
        name = str(atoms[0].source).rpartition("#")[0]
        self._dictionary = _topk_dictionary(name, atoms[0].layer).to(source.pair.device)
        if source.layer is not None and self._dictionary.width != source.layer.units:
            raise InvalidFeatureError(
                f"dictionary {name!r} is for {self._dictionary.width} units, "
                f"{source.layer.name} has {source.layer.units} units"
            )
        self._unit = self._tensor([int(str(atom.source).rpartition("#")[2]) for atom in atoms])

    def values(self, here: Tensor) -> Tensor:
        """Return the mean of the codes."""
        chosen = full(self._source.rows(here))
        each = self._unit[:, None, None, None].expand(*chosen.shape[:3], 1)
        with torch.no_grad():
            on = self._dictionary.encode(chosen).gather(-1, each).squeeze(-1) > 0
        return self._mean.of(self._pre(chosen) * on)

    def _pre(self, chosen: Tensor) -> Tensor:
        one = self._dictionary
        moved = chosen if one.center is None else chosen - one.center
        pre = torch.matmul(moved, one.vectors[self._unit][:, None, :, None]).squeeze(-1)
        return pre if one.bias is None else pre + one.bias[self._unit][:, None, None]


class Cosines(Linear):
    """Means of cos(a, v); 0, without a gradient, where a is 0."""

    def values(self, here: Tensor) -> Tensor:
        """Return the mean of the cosine."""
        return self._mean.of(self._pair_of(here)[0])

    def _pair_of(self, here: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos(a, v) and ⟨a, v⟩ [n, T, P]."""
        chosen = full(self._source.rows(here))
        dot = self._each(chosen)
        length = self._vector.norm(dim=1)[:, None, None]
        return _cosine(dot, chosen.square().sum(dim=-1), length), dot


class CosinePowers(Cosines):
    """Means of max(cos(a, v), 0.1)^p · ⟨a, v⟩."""

    def __init__(self, source: Source, atoms: Sequence[Any]) -> None:
        super().__init__(source, atoms)
        self._power = self._tensor([atom.power for atom in atoms])

    def values(self, here: Tensor) -> Tensor:
        """Return the mean of the powered cosine times the dot product."""
        cosine, dot = self._pair_of(here)
        return self._mean.of(cosine.clamp_min(COSINE_FLOOR) ** self._power[:, None, None] * dot)


class Maps(Atoms):
    """⟨A, M⟩, times max(cos(A, M), 0.1)^p where a power is given; p is 0 where none is."""

    def __init__(self, source: Source, atoms: Sequence[Spatial]) -> None:
        super().__init__(source, atoms)
        assert source.layer is not None  # noqa: S101 - the output is no map
        spread = [_spread(atom, source.layer) for atom in atoms]
        self._target = torch.stack([target for target, _ in spread]).to(source.pair.device)
        self._counted = torch.stack([counted for _, counted in spread]).to(source.pair.device)
        self._power = self._tensor([atom.power or 0.0 for atom in atoms])
        self._plain = not any(atom.power for atom in atoms)

    def values(self, here: Tensor) -> Tensor:
        """Return the dot product with the map, times its powered cosine."""
        chosen = full(self._source.rows(here))
        dot = torch.einsum("ntpc,npc->nt", chosen, self._target)
        if self._plain:
            return dot
        square = torch.einsum("ntpc,npc->nt", chosen.square(), self._counted)
        cosine = _cosine(dot, square, self._target.flatten(1).norm(dim=1)[:, None])
        return cosine.clamp_min(COSINE_FLOOR) ** self._power[:, None] * dot


class Likenesses(Atoms):
    """How alike images and their seeds are at a place, by one measure: `Likeness`."""

    def __init__(self, source: Source, atoms: Sequence[Likeness]) -> None:
        super().__init__(source, atoms)
        assert source.layer is not None  # noqa: S101 - the output is no layer
        self._one = atoms[0]
        self._places = self._tensor(positions_of(self._one.at, source.layer))

    def values(self, here: Tensor) -> Tensor:
        """Refuse: a likeness needs the seeds."""
        raise NotImplementedError

    def likeness(self, here: Tensor, there: Tensor) -> Tensor:
        """Return the likeness [n, T] of activations [N, T, P, C] to those of the seeds."""
        ours, seeds = (full(self._source.rows(each))[:, :, self._places] for each in (here, there))
        measure, power = self._one.measure, self._one.power
        if measure in ("l2", "l1"):
            return -self._distance(ours, seeds, measure)
        alike = 1 - self._distance(ours, seeds, "pearson" if measure == "pearson" else "cosine")
        gain = None if power is None else alike.clamp_min(COSINE_FLOOR) ** power
        if measure != "dot":
            return alike if gain is None else gain
        dot = (ours * seeds).sum(dim=(2, 3))
        return dot if gain is None else dot * gain

    def _distance(self, ours: Tensor, seeds: Tensor, kind: Kind) -> Tensor:
        return latent_distance(ours.flatten(0, 1), seeds.flatten(0, 1), len(ours), kind)


class Blurs(Atoms):
    """−½ · mean of (x − blurred x)², of the inputs themselves."""

    def values(self, here: Tensor) -> Tensor:
        """Return the smoothness [n, T] of inputs [N, T, C, S, S]."""
        inputs = full(self._source.rows(here))
        flat = inputs.flatten(0, 1)
        with torch.no_grad():
            blurred = _blur(flat)
        return (-0.5 * (flat - blurred).square().flatten(1).mean(dim=1)).view(inputs.shape[:2])


def group_of(atom: OneAtom) -> tuple[Callable[[Source, Sequence[Any]], Atoms], Any]:
    """Return what computes an atom, and what else it must share with the atoms that are computed together with it."""
    placed = getattr(atom, "at", None) is not None
    if isinstance(atom, Encoder):
        if atom.source is not None:
            return TopK, (placed, atom.source.rpartition("#")[0])
        return (Gated if atom.code == "post" else Linear), placed
    if isinstance(atom, Likeness):
        return Likenesses, (atom.measure, atom.power, atom.at)
    return _BY_KIND[atom.kind], placed


_BY_KIND: dict[str, type[Atoms]] = {
    "logit": Units,
    "channel": Units,
    "neuron": Neurons,
    "direction": Linear,
    "cosine": Cosines,
    "cosine_power": CosinePowers,
    "spatial": Maps,
    "blur": Blurs,
}


def _topk_dictionary(name: str, layer: str) -> "EncoderDictionary":
    """Return a TopK dictionary, whole: a code depends on all its units."""
    from accentor.engine.dictionaries import EncoderDictionary, load_dictionary

    dictionary = load_dictionary(name, layer)
    if not isinstance(dictionary, EncoderDictionary) or dictionary.activation != "topk":
        raise InvalidFeatureError(f"dictionary {name!r} is of {dictionary.kind}: expected a TopK encoder")
    return dictionary


def _position(atom: Any, layer: LayerInfo) -> Any:
    if atom.position is not None:
        return atom.position
    rows, columns = layer.grid_shape or (1, 1)
    return (rows // 2, columns // 2)


def _bias(atom: Any) -> float:
    if not isinstance(atom, Encoder):
        return 0.0
    center = 0.0 if atom.center is None else sum(w * c for w, c in zip(atom.vector or (), atom.center, strict=True))
    return atom.bias - center


def _cosine(dot: Tensor, square: Tensor, length: Tensor) -> Tensor:
    """Return dot / (|a| · length) for square = |a|²; 0 where a is 0."""
    there = square > 0
    return torch.where(there, dot * torch.where(there, square, 1.0).rsqrt() / length, 0.0)


def _spread(atom: Spatial, layer: LayerInfo) -> tuple[Tensor, Tensor]:
    """Return the map on all positions of the layer [P, C], 0 outside of it, and which values its cosine counts."""
    assert atom.target is not None  # noqa: S101 - files are read before
    units, height, width = atom.target.shape
    rows, columns = layer.grid_shape or (1, 1)
    top, left = atom.offset or (0, 0)
    target, counted = torch.zeros(units, rows, columns), torch.zeros(units, rows, columns)
    inside = (slice(None), slice(top, top + height), slice(left, left + width))
    values = torch.frombuffer(atom.target.values(), dtype=torch.float32).view(units, height, width)
    target[inside] = values
    counted[inside] = (values != 0).float() if atom.norm == "masked" else 1.0
    leading = target.new_zeros(layer.class_tokens, units)
    return (
        torch.cat([leading, target.flatten(1).T]),
        torch.cat([leading, counted.flatten(1).T]),
    )


def _blur(images: Tensor) -> Tensor:
    """Return images [B, C, H, W] blurred by 1 in the centre and ½ around it, over the sum of what lies in the image."""
    kernel = torch.full((1, 1, 3, 3), 0.5, device=images.device, dtype=images.dtype)
    kernel[..., 1, 1] = 1.0
    planes = images.flatten(0, 1)[:, None]
    total = conv2d(torch.ones_like(planes[:1]), kernel, padding=1)
    return (conv2d(planes, kernel, padding=1) / total).view_as(images)
