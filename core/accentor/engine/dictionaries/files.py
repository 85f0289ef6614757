"""Dictionaries in files: our own safetensors format, and plain matrices in ``.npy`` and ``.safetensors``."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from accentor.dictionaries import FORMAT, VECTORS, is_features_first
from accentor.engine.dictionaries.codes import Activation
from accentor.engine.dictionaries.dictionary import Dictionary
from accentor.engine.dictionaries.kinds import ChannelDictionary, DirectionDictionary, EncoderDictionary
from accentor.errors import InvalidFeatureError

ENCODER_TENSORS = {
    "W_enc": "vectors",
    "b_enc": "bias",
    "center": "center",
    "threshold": "threshold",
    "W_dec": "decoder",
    "b_dec": "offset",
}
"""Names in the file, with the fields of `EncoderDictionary`."""


@dataclass(frozen=True)
class Options:
    """What the caller of `load_dictionary` says, because the file may not."""

    layer: str | None = None
    name: str | None = None
    activation: Activation | None = None
    k: int | None = None
    threshold: float | None = None

    def layer_or(self, known: str | None, path: Path) -> str:
        """Return the layer given, else the one that the file names."""
        layer = self.layer or known
        if layer is None:
            raise InvalidFeatureError(f"{path} does not say what layer it is for: give layer=", missing="layer")
        return layer

    def same_layer(self, known: str, origin: str | Path) -> str:
        """Return the layer of a dictionary of ours; refuse another one that is given."""
        if self.layer not in (None, known):
            raise InvalidFeatureError(f"dictionary {str(origin)!r} is for layer {known!r}, not for {self.layer!r}")
        return known

    def refuse_activation(self, path: str | Path, reason: str) -> None:
        """Refuse an activation that the caller gives where the file says it, or has none."""
        if self.activation is not None or self.k is not None or self.threshold is not None:
            raise InvalidFeatureError(f"{path} {reason}: activation, k and threshold are not to be given")


def save(dictionary: Dictionary, path: Path) -> Path:
    """Write a dictionary to a safetensors file: tensors by name, the rest as text in its header."""
    if path.suffix != ".safetensors":
        raise InvalidFeatureError(f"a dictionary is saved as .safetensors, not as {path.name}")
    tensors = _apart(_tensors_of(dictionary))
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(descriptor)
    try:
        save_file(tensors, temporary, metadata=_header_of(dictionary))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _tensors_of(dictionary: Dictionary) -> dict[str, Tensor]:
    match dictionary:
        case DirectionDictionary():
            return {VECTORS: dictionary.vectors}
        case EncoderDictionary():
            named = {key: getattr(dictionary, field) for key, field in ENCODER_TENSORS.items()}
            return {key: tensor for key, tensor in named.items() if tensor is not None}
        case _:
            return {}


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each with memory of its own: tied weights are one tensor under two names."""
    apart: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        taken = {other.untyped_storage().data_ptr() for other in apart.values()}
        here = tensor.cpu().contiguous()
        apart[key] = here.clone() if here.untyped_storage().data_ptr() in taken else here
    return apart


def _header_of(dictionary: Dictionary) -> dict[str, str]:
    header: dict[str, Any] = {
        "kind": dictionary.kind,
        "name": dictionary.name,
        "layer": dictionary.layer,
        "labels": dictionary.labels,
        "details": dict(dictionary.details),
        "units": dictionary.width,
    }
    if isinstance(dictionary, EncoderDictionary):
        header |= {"activation": dictionary.activation, "k": dictionary.k}
    return {"accentor": FORMAT, "dictionary": json.dumps(header, ensure_ascii=False)}


def read_safetensors(path: Path, options: Options) -> Dictionary:
    """Read a file of ours, one matrix of directions, or the tensors of an encoder.

    Raises
    ------
    InvalidFeatureError
        If it cannot be read, or holds none of these.
    """
    header, tensors = read_tensors(path)
    if "accentor" in header:
        return _read_own(path, header, tensors, options)
    if len(tensors) == 1:
        return directions(next(iter(tensors.values())), path, options)
    if "W_enc" in tensors:
        return _read_encoder(path, tensors, options)
    raise InvalidFeatureError(
        f"{path} holds {len(tensors)} tensors ({', '.join(sorted(tensors)[:5])}): expected one matrix "
        "[features, units], or W_enc and b_enc"
    )


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header's text and the tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InvalidFeatureError(f"{path} cannot be read as safetensors: {error}") from error


def read_npy(path: Path, options: Options) -> DirectionDictionary:
    """Read directions from an array [features, units]; objects in it are never unpickled."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
        matrix = torch.from_numpy(np.ascontiguousarray(array, dtype="float32"))
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise InvalidFeatureError(f"{path} cannot be read as a numeric array: {error}") from error
    return directions(matrix, path, options)


def directions(matrix: Tensor, path: Path, options: Options) -> DirectionDictionary:
    """Return a matrix [features, units] as directions."""
    options.refuse_activation(path, "holds directions, which have no activation")
    return DirectionDictionary(
        name=options.name or path.stem, layer=options.layer_or(None, path), vectors=_floats(matrix)
    )


def _floats(matrix: Tensor) -> Tensor:
    return matrix if matrix.is_floating_point() else matrix.float()


def _read_own(path: Path, header: Mapping[str, str], tensors: dict[str, Tensor], options: Options) -> Dictionary:
    if header["accentor"] != FORMAT:
        raise InvalidFeatureError(f"{path} is of format {header['accentor']!r}, expected {FORMAT!r}")
    options.refuse_activation(path, "says itself what its activation is")
    try:
        said = json.loads(header["dictionary"])
        common = {
            "name": options.name or str(said["name"]),
            "layer": options.same_layer(str(said["layer"]), path),
            "labels": None if said["labels"] is None else tuple(map(str, said["labels"])),
            "details": dict(said["details"]),
        }
        return _build(said, common, tensors)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InvalidFeatureError(f"{path} is no whole dictionary: {error!r}") from error


def _build(said: Mapping[str, Any], common: dict[str, Any], tensors: dict[str, Tensor]) -> Dictionary:
    match said["kind"]:
        case "channels":
            return ChannelDictionary(**common, units=int(said["units"]))
        case "directions":
            return DirectionDictionary(**common, vectors=tensors[VECTORS])
        case "encoder":
            named: dict[str, Any] = {field: tensors[key] for key, field in ENCODER_TENSORS.items() if key in tensors}
            return EncoderDictionary(**common, **named, activation=said["activation"], k=said["k"])
        case kind:
            raise InvalidFeatureError(f"a dictionary of kind {kind!r} is unknown")


def _read_encoder(path: Path, tensors: dict[str, Tensor], options: Options) -> EncoderDictionary:
    """Read W_enc, b_enc, b_dec, W_dec and threshold that no configuration comes with."""
    known = {"W_enc", "b_enc", "b_dec", "W_dec", "threshold"}
    if unknown := sorted(tensors.keys() - known):
        raise InvalidFeatureError(f"{path} holds {', '.join(unknown[:5])}: expected {', '.join(sorted(known))} alone")
    threshold = tensors.get("threshold")
    activation = options.activation or ("jumprelu" if threshold is not None else None)
    if activation is None:
        raise InvalidFeatureError(
            f"{path} does not say its activation: give activation='relu', 'topk' with k=, "
            "or 'jumprelu' with threshold=",
            missing="activation",
        )
    vectors = _features_first(path, tensors)
    if options.threshold is not None:
        threshold = torch.full((len(vectors),), options.threshold)
    center = tensors.get("b_dec")
    return EncoderDictionary(
        name=options.name or path.stem,
        layer=options.layer_or(None, path),
        vectors=vectors,
        bias=tensors.get("b_enc"),
        center=center,
        activation=activation,
        threshold=None if threshold is None else threshold.clamp(min=0.0),
        k=options.k,
        decoder=tensors.get("W_dec"),
        offset=center,
    )


def _features_first(path: Path, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return W_enc as [features, units], told from the lengths of what is beside it."""
    matrix = tensors["W_enc"]
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return matrix if is_features_first(shapes, str(path)) else matrix.T
