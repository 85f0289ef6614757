"""From files and dictionaries to values: what a feature names is read, once, before it is used."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from accentor.errors import InvalidFeatureError
from accentor.spec import Encoder, Entry, Feature, ModelCard, Product, Spatial, Sum
from accentor.spec.features import OneAtom, Vectored, replace_atoms

SAFETENSORS = ".safetensors"
ROW = re.compile(r"#\d+$")
NAMED = 5
"""Tensors of a file that a message lists."""


def inline(feature: Feature, card: ModelCard | None = None) -> Feature:
    """Return the feature with files and dictionaries replaced by the values they hold.

    The code of a TopK dictionary (``code="post"``) needs all its units: it keeps naming the dictionary.

    Parameters
    ----------
    feature
        Any feature.
    card
        If given, dictionaries that keep being named are checked against its layers.

    Raises
    ------
    InvalidFeatureError
        If the file cannot be read, or has no such row, or the row is all zero or not finite; or if a dictionary is of
        another layer, or of another width.
    UnitOutOfRangeError
        If a dictionary has fewer units.
    """
    if not feature.references:
        return feature
    return replace_atoms(feature, lambda atom: _inline_atom(atom, card))


def _inline_atom(atom: OneAtom, card: ModelCard | None) -> OneAtom:
    match atom:
        case Entry():
            return _entry(atom)
        case Encoder() if atom.source is not None:
            return _encoder(atom, atom.source, card)
        case Spatial() if atom.source is not None:
            return _rebuilt(atom, atom.source, {"target": _read(atom.source, 3)})
        case Vectored() if atom.source is not None:
            return _rebuilt(atom, atom.source, {"vector": _read(atom.source, 1).double()})
    return atom


def _rebuilt(atom: OneAtom, source: str, values: dict[str, Any]) -> OneAtom:
    """Return the atom with values in place of its source."""
    fields = {name: getattr(atom, name) for name in type(atom).model_fields if name != "source"}
    try:
        return type(atom).model_validate(fields | values)
    except ValueError as error:
        raise InvalidFeatureError(f"{source} is no {atom.kind}: {error}") from error


def _entry(atom: Entry) -> OneAtom:
    from accentor.engine.dictionaries import load_dictionary

    return _single(load_dictionary(atom.dictionary).feature(atom.unit), atom.dictionary)


def _encoder(atom: Encoder, source: str, card: ModelCard | None) -> OneAtom:
    """Return the unit by value, at the encoder's layer and place; of a TopK dictionary's post-code the encoder."""
    from accentor.engine.dictionaries import load_dictionary

    name, _, unit = source.rpartition("#")
    dictionary = load_dictionary(name, atom.layer)
    dictionary.index(int(unit))
    if card is not None:
        dictionary.check(card)
    if atom.code == "post" and getattr(dictionary, "activation", None) == "topk":
        return atom
    if atom.code == "post" and dictionary.kind != "encoder":
        raise InvalidFeatureError(f"dictionary {name!r} is of {dictionary.kind}: there is no code after an activation")
    found = _single(dictionary.feature(int(unit), atom.code), name)
    return found if atom.at is None else _rebuilt(found, source, {"at": atom.at})


def _single(feature: Feature, name: str) -> OneAtom:
    if isinstance(feature, Sum | Product):
        raise InvalidFeatureError(f"a feature of dictionary {name!r} is a {feature.kind}: expected a single one")
    return feature


def _read(source: str, dimensions: int) -> Tensor:
    """Return the tensor that a source names: FILE, FILE#ROW, FILE.safetensors:TENSOR or FILE.safetensors:TENSOR#ROW."""
    head, _, row = source.rpartition("#") if ROW.search(source) else (source, "", "")
    path, colon, name = head.rpartition(f"{SAFETENSORS}:")
    file = Path(path + SAFETENSORS if colon else head)
    try:
        values = _read_tensor(file, name if colon else None)
    except (OSError, EOFError, SafetensorError, ValueError) as error:
        raise InvalidFeatureError(f"{file} cannot be read: {error}") from error
    if values.dim() != dimensions + bool(row):
        axes = ["features"] * bool(row) + (["units"] if dimensions == 1 else ["units", "rows", "columns"])
        raise InvalidFeatureError(f"{file} holds shape {list(values.shape)}, expected [{', '.join(axes)}]")
    if not row:
        return values.float()
    if int(row) >= len(values):
        raise InvalidFeatureError(f"{file} has rows 0 to {len(values) - 1}; row {row} was asked for")
    return values[int(row)].float()


def _read_tensor(path: Path, name: str | None) -> Tensor:
    if path.suffix == ".npy":
        import numpy as np

        return torch.from_numpy(np.load(path, mmap_mode="r", allow_pickle=False).astype("float32"))
    if path.suffix != SAFETENSORS:
        raise ValueError("expected a .safetensors or .npy file")
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if name is None and len(names) != 1:
            raise ValueError(f"it holds {len(names)} tensors: name one, {path.name}:{names[0] if names else 'NAME'}")
        if name is not None and name not in names:
            raise ValueError(f"it holds no tensor {name!r}; it holds {', '.join(names[:NAMED])}")
        tensor: Tensor = file.get_tensor(name or names[0])
        return tensor
