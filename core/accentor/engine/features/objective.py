"""The features of N pairs, together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accentor.engine.features.positions import by_position
from accentor.engine.features.terms import Atoms, Likenesses, Source, group_of
from accentor.engine.layers import INPUT, OUTPUT
from accentor.errors import InvalidFeatureError
from accentor.spec import Blur, Entry, Feature, Logit, ModelCard
from accentor.spec.features import OneAtom


@dataclass(frozen=True)
class _Group:
    layer: str
    layout: str
    atoms: Atoms


class Objective:
    """f of N pairs: ``objective(activations)`` gives [N, T], differentiable, in float32.

    Pairs do not mix: the value of one depends on its own activations alone.
    """

    def __init__(self, features: Sequence[Feature], card: ModelCard, device: torch.device) -> None:
        self._count = len(features)
        terms = [(pair, term) for pair, feature in enumerate(features) for term in feature.terms_of()]
        factors = [term.feature.factors_of() for _, term in terms]
        atoms = [(pair, atom) for (pair, _), group in zip(terms, factors, strict=True) for atom in group]
        self._groups, order = _grouped(atoms, self._count, card, device)
        self._terms = _slots([feature.terms_of() for feature in features], range(len(terms))).to(device)
        self._weight = torch.tensor([term.weight for _, term in terms], dtype=torch.float32, device=device)
        self._slots = _slots(factors, order).to(device)
        self.layers = frozenset(group.layer for group in self._groups)
        self.seed_layers = frozenset(group.layer for group in self._groups if isinstance(group.atoms, Likenesses))

    def __call__(self, activations: Mapping[str, Tensor], seeds: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return f [N, T] from activations [N · T, ...] by layer; ``seeds`` has those of the seeds at `seed_layers`.

        Raises
        ------
        InvalidFeatureError
            If a feature compares with the seed and the seeds' activations are not given.
        """
        atoms = [self._values(group, activations, seeds or {}) for group in self._groups]
        values = torch.cat([*atoms, atoms[0].new_ones(1, atoms[0].shape[1])])
        product = values[self._slots[0]]
        for slot in self._slots[1:]:
            product = product * values[slot]
        weighted = torch.cat([product * self._weight[:, None], product.new_zeros(1, product.shape[1])])
        total = weighted[self._terms[0]]
        for place in self._terms[1:]:
            total = total + weighted[place]
        return total

    def _values(self, group: _Group, activations: Mapping[str, Tensor], seeds: Mapping[str, Tensor]) -> Tensor:
        here = self._at(group, activations[group.layer])
        if not isinstance(group.atoms, Likenesses):
            return group.atoms.values(here)
        if group.layer not in seeds:
            raise InvalidFeatureError(
                f"likeness:{group.layer} compares an image with its seed: only an accentuation has one"
            )
        return group.atoms.likeness(here, self._at(group, seeds[group.layer]))

    def _at(self, group: _Group, here: Tensor) -> Tensor:
        return by_position(here.view(self._count, -1, *here.shape[1:]), group.layout)


def layer_of(atom: OneAtom) -> str:
    """Return the layer whose activations the feature reads."""
    match atom:
        case Logit():
            return OUTPUT
        case Blur():
            return INPUT
        case Entry():
            raise InvalidFeatureError(f"{atom} has to be read first: its dictionary knows its layer")
    return atom.layer


def layers_of(feature: Feature) -> frozenset[str]:
    """Return all layers that the feature reads."""
    return frozenset(layer_of(atom) for atom in feature.factors_of())


def _grouped(
    atoms: Sequence[tuple[int, OneAtom]], count: int, card: ModelCard, device: torch.device
) -> tuple[list[_Group], list[int]]:
    """Return the groups, and for each atom its row in the values of all groups, one after the other."""
    gathered: dict[Any, list[int]] = defaultdict(list)
    for index, (_, atom) in enumerate(atoms):
        gathered[layer_of(atom), *group_of(atom)].append(index)
    groups, rows = [], [0] * len(atoms)
    start = 0
    for (layer, build, _), members in gathered.items():
        pairs = [atoms[index][0] for index in members]
        info = None if layer in (OUTPUT, INPUT) else card.layer(layer)
        source = Source(torch.tensor(pairs, device=device), pairs == list(range(count)), info)
        layout = {OUTPUT: "C", INPUT: "NC"}.get(layer) or (info.layout if info else "C")
        groups.append(_Group(layer, layout, build(source, [atoms[index][1] for index in members])))
        for offset, index in enumerate(members):
            rows[index] = start + offset
        start += len(members)
    return groups, rows


def _slots(groups: Sequence[Sequence[Any]], rows: Sequence[int]) -> Tensor:
    """Return for every place in a group [places, groups] the row of its value; behind the last, where it has none.

    What is added up, or multiplied, by these has the same order every time, on a GPU too.
    """
    longest = max(len(group) for group in groups)
    slots = torch.full((longest, len(groups)), len(rows))
    found = iter(rows)
    for index, group in enumerate(groups):
        for place in range(len(group)):
            slots[place, index] = next(found)
    return slots
