"""The objective: the features of N pairs as functions of the activations of their T crops, with no loop over either."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from accentor.engine.layers import OUTPUT
from accentor.errors import InvalidFeatureError
from accentor.spec import Channel, Direction, Feature, Logit, ModelCard, Neuron, Sum, Term


@dataclass(frozen=True)
class _Group:
    """The terms of one kind at one layer: term i adds weight[i] · value to pair[i]."""

    kind: str
    layer: str
    pair: Tensor
    weight: Tensor
    unit: Tensor
    position: Tensor
    vector: Tensor | None

    def values(self, activations: Tensor) -> Tensor:
        """Return the terms' values [n, T] from the activations [N, T, ...] at the layer."""
        chosen = _without_class_token(activations[self.pair])
        if self.kind == "direction":
            assert self.vector is not None  # noqa: S101 - set for every direction
            return torch.einsum("ntc,nc->nt", _mean_over_positions(chosen), self.vector)
        each = torch.arange(len(self.pair), device=chosen.device)
        if self.kind == "neuron":
            return chosen[each, :, self.unit, self.position[:, 0], self.position[:, 1]]
        return _unit(chosen, each, self.unit)


class Objective:
    """f of N pairs: ``objective(activations)`` gives [N, T], differentiable.

    Pairs do not mix: the value of one depends on its own activations alone.
    """

    def __init__(self, features: Sequence[Feature], card: ModelCard, device: torch.device) -> None:
        self._count = len(features)
        gathered: dict[tuple[str, str], list[tuple[int, Term]]] = defaultdict(list)
        for pair, feature in enumerate(features):
            for term in feature.terms_of():
                gathered[term.feature.kind, layer_of(term.feature)].append((pair, term))
        self._groups = [_group(kind, layer, terms, card, device) for (kind, layer), terms in gathered.items()]
        self.layers = frozenset(group.layer for group in self._groups)

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        """Return f [N, T] from activations [N · T, ...] by layer."""
        total = None
        for group in self._groups:
            here = activations[group.layer]
            here = here.view(self._count, -1, *here.shape[1:])
            values = group.values(here) * group.weight[:, None]
            total = here.new_zeros(self._count, here.shape[1]) if total is None else total
            total = total.index_add(0, group.pair, values)
        assert total is not None  # noqa: S101 - a feature has at least one term
        return total


def layer_of(atom: Logit | Channel | Neuron | Direction) -> str:
    """Return the layer whose activations the feature reads."""
    return OUTPUT if isinstance(atom, Logit) else atom.layer


def layers_of(feature: Feature) -> frozenset[str]:
    """Return all layers that the feature reads."""
    return frozenset(layer_of(term.feature) for term in feature.terms_of())


def inline(feature: Feature) -> Feature:
    """Return the feature with every direction's file replaced by the vector it names.

    Raises
    ------
    InvalidFeatureError
        If the file cannot be read, or has no such row, or the row is all zero or not finite.
    """
    if isinstance(feature, Sum):
        terms = ((term.weight, inline(term.feature)) for term in feature.terms)
        return Sum(
            terms=tuple(Term(weight=weight, feature=atom) for weight, atom in terms if not isinstance(atom, Sum))
        )
    if isinstance(feature, Direction) and feature.source is not None:
        path, _, row = feature.source.rpartition("#")
        vector = tuple(_read_row(Path(path), int(row)).double().tolist())
        try:
            return Direction(layer=feature.layer, vector=vector)
        except ValueError as error:
            raise InvalidFeatureError(f"row {row} of {path} is no direction: {error}") from error
    return feature


def _group(kind: str, layer: str, terms: Sequence[tuple[int, Term]], card: ModelCard, device: torch.device) -> _Group:
    atoms: list[Any] = [term.feature for _, term in terms]

    def index(values: list[Any]) -> Tensor:
        return torch.tensor(values, device=device)

    return _Group(
        kind=kind,
        layer=layer,
        pair=index([pair for pair, _ in terms]),
        weight=index([term.weight for _, term in terms]),
        unit=index([getattr(atom, "unit", 0) for atom in atoms]),
        position=index([_position(atom, card) for atom in atoms]),
        vector=index([atom.vector for atom in atoms]) if kind == "direction" else None,
    )


def _position(atom: Any, card: ModelCard) -> tuple[int, int]:
    if not isinstance(atom, Neuron):
        return (0, 0)
    if atom.position is not None:
        return atom.position
    rows, columns = card.layer(atom.layer).grid or (1, 1)
    return (rows // 2, columns // 2)


def _without_class_token(activations: Tensor) -> Tensor:
    """Return [n, T, tokens, C] without its first token if the others make a square grid and all together do not."""
    if activations.dim() == 4:
        tokens = activations.shape[2]
        if math.isqrt(tokens) ** 2 != tokens and math.isqrt(tokens - 1) ** 2 == tokens - 1:
            return activations[:, :, 1:]
    return activations


def _unit(activations: Tensor, each: Tensor, unit: Tensor) -> Tensor:
    """Return the mean over positions [n, T] of unit [n] of [n, T, C, H, W], [n, T, tokens, C] or [n, T, C]."""
    chosen = activations[each, :, :, unit] if activations.dim() == 4 else activations[each, :, unit]
    return chosen.flatten(2).mean(dim=2) if chosen.dim() > 2 else chosen


def _mean_over_positions(activations: Tensor) -> Tensor:
    """Return the mean over positions [n, T, C] of [n, T, C, H, W], [n, T, tokens, C] or [n, T, C]."""
    match activations.dim():
        case 5:
            return activations.mean(dim=(3, 4))
        case 4:
            return activations.mean(dim=2)
        case _:
            return activations


def _read_row(path: Path, row: int) -> Tensor:
    try:
        matrix = _read_matrix(path)
    except (OSError, EOFError, SafetensorError, ValueError) as error:
        raise InvalidFeatureError(f"{path} cannot be read: {error}") from error
    if matrix.dim() != 2:
        raise InvalidFeatureError(f"{path} holds shape {list(matrix.shape)}, expected [features, units]")
    if row >= len(matrix):
        raise InvalidFeatureError(f"{path} has rows 0 to {len(matrix) - 1}; row {row} was asked for")
    return matrix[row]


def _read_matrix(path: Path) -> Tensor:
    if path.suffix == ".npy":
        import numpy as np

        return torch.from_numpy(np.load(path, mmap_mode="r", allow_pickle=False).astype("float32"))
    if path.suffix != ".safetensors":
        raise ValueError("expected a .safetensors or .npy file")
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} tensors, expected one [features, units]")
        matrix: Tensor = file.get_tensor(names[0])
        return matrix
