"""What a dictionary's file holds, and what is wrong with its features: looked at without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from accentor.errors import InvalidFeatureError, TooLargeError
from accentor.spec import LayerInfo, ModelCard
from accentor.spec.dictionaries import MAX_FEATURES, Activation, DictionarySpec, Kind
from accentor.tensors import TensorFile, TensorInfo, blocks, read_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "dictionary-1"
"""Value of ``accentor`` in the header of the files that `Dictionary.save` writes."""

VECTORS = "vectors"
ENCODER = "W_enc"
PLAIN_ENCODER = frozenset({"W_enc", "b_enc", "b_dec", "W_dec", "threshold"})
OWN_ENCODER = PLAIN_ENCODER | {"center"}
SAELENS_CONFIG = "cfg.json"
"""The file by which a folder is a SAELens checkpoint."""

DUPLICATE_COSINE = 0.999
"""Two features are taken for one when the cosine of their vectors is above this."""

MAX_COMPARED = 32_768
"""Usable features up to which each is compared with all others."""

COMPARED_ROWS = 512


@dataclass(frozen=True)
class Contents:
    """What a dictionary is, by index where it is of its features.

    ``norms`` is empty for channels; ``duplicates`` holds (feature, earlier feature), and is none where there are too
    many to compare.
    """

    kind: Kind
    layer: str
    features: int
    units: int
    dtype: str | None = None
    suffix: str | None = None
    activation: Activation | None = None
    k: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    zero: tuple[int, ...] = ()
    not_finite: tuple[int, ...] = ()
    duplicates: tuple[tuple[int, int], ...] | None = ()
    norms: tuple[float | None, ...] = ()


def examine(spec: DictionarySpec, card: ModelCard, data: bytes = b"") -> Contents:
    """Return what the dictionary is, checked against the model's card.

    Raises
    ------
    UnknownLayerError, InvalidFeatureError, TooLargeError
        With what was expected and what was given.
    """
    where = f"the dictionary {spec.name!r}"
    if spec.channels:
        layer = card.layer(spec.layer or "")
        contents = Contents("channels", layer.name, layer.units, layer.units)
    else:
        contents = _of_file(spec, card, data, where)
    contents = replace(contents, labels=spec.labels or contents.labels)
    _check_lengths(spec, contents, where)
    return contents


def is_features_first(shapes: Mapping[str, Sequence[int]], where: str) -> bool:
    """Tell whether W_enc is [features, units], from the shapes of what is beside it; else it is [units, features].

    Raises
    ------
    InvalidFeatureError
        If it fits neither, or both.
    """
    matrix = shapes[ENCODER]
    features = {shapes[key][0] for key in ("b_enc", "W_dec", "threshold") if shapes.get(key)}
    units = {shapes["b_dec"][0]} if shapes.get("b_dec") else set()
    if len(matrix) == 2 and len(features) <= 1 and len(units) <= 1:
        rows, columns = matrix
        if rows == columns:
            raise InvalidFeatureError(f"{where}: W_enc is {rows} × {rows}, so that features and units cannot be told")
        as_is = features <= {rows} and units <= {columns}
        turned = features <= {columns} and units <= {rows}
        if as_is != turned:
            return as_is
    others = {key: list(shape) for key, shape in shapes.items() if key != ENCODER}
    raise InvalidFeatureError(f"{where}: W_enc of shape {list(matrix)} does not fit {others}")


def _of_file(spec: DictionarySpec, card: ModelCard, data: bytes, where: str) -> Contents:
    file = read_file(data, where)
    if "accentor" in file.header:
        contents, turned = _own(spec, file, where), False
    elif len(file.tensors) == 1:
        contents, turned = _matrix(spec, file, where), False
    elif ENCODER in file.tensors:
        contents, turned = _plain_encoder(spec, file, where)
    else:
        raise InvalidFeatureError(
            f"{where} has {len(file.tensors)} tensors ({', '.join(sorted(file.tensors)[:5])}): expected one matrix "
            "[features, units], or W_enc and b_enc"
        )
    _check_size(contents, card.layer(contents.layer), card, where)
    if contents.kind == "channels":
        return contents
    name = ENCODER if contents.kind == "encoder" else next(iter(file.tensors))
    matrix = file.values(data, name)
    numbers = [file.values(data, key) for key in ("b_enc", "threshold") if key in file.tensors]
    return _judged(contents, matrix.T if turned else matrix, numbers, where)


def _own(spec: DictionarySpec, file: TensorFile, where: str) -> Contents:
    if file.header["accentor"] != FORMAT:
        raise InvalidFeatureError(f"{where} is of format {file.header['accentor']!r}, expected {FORMAT!r}")
    _refuse_activation(spec, where, "says itself what its activation is")
    try:
        said = json.loads(file.header["dictionary"])
        kind, layer, units = said["kind"], str(said["layer"]), int(said["units"])
        labels = None if said["labels"] is None else tuple(map(str, said["labels"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidFeatureError(f"{where} is no whole dictionary: {error!r}") from error
    if spec.layer not in (None, layer):
        raise InvalidFeatureError(f"{where} is for layer {layer!r}, not for {spec.layer!r}")
    if kind == "channels":
        return Contents("channels", layer, units, units, suffix=file.suffix, labels=labels)
    info = _two_axes(file, VECTORS if kind == "directions" else ENCODER, where)
    base = Contents(
        "directions", layer, info.shape[0], info.shape[1], dtype=info.dtype, suffix=file.suffix, labels=labels
    )
    if kind == "directions":
        return base
    if kind != "encoder":
        raise InvalidFeatureError(f"{where}: a dictionary of kind {kind!r} is unknown")
    activation, k = said.get("activation"), said.get("k")
    if activation not in get_args(Activation) or not (k is None or isinstance(k, int)):
        raise InvalidFeatureError(
            f"{where}: activation {activation!r} with k {k!r}, expected one of {', '.join(get_args(Activation))}"
        )
    encoder = replace(base, kind="encoder", activation=activation, k=k)
    _check_encoder(encoder, file, OWN_ENCODER, where)
    return encoder


def _matrix(spec: DictionarySpec, file: TensorFile, where: str) -> Contents:
    _refuse_activation(spec, where, "holds directions, which have no activation")
    info = _two_axes(file, next(iter(file.tensors)), where)
    return Contents(
        "directions", _layer_of(spec, where), info.shape[0], info.shape[1], dtype=info.dtype, suffix=file.suffix
    )


def _plain_encoder(spec: DictionarySpec, file: TensorFile, where: str) -> tuple[Contents, bool]:
    """Return an encoder, and whether its matrix is the other way round."""
    turned = not is_features_first({name: info.shape for name, info in file.tensors.items()}, where)
    rows, columns = file.tensors[ENCODER].shape
    activation = spec.activation or ("jumprelu" if "threshold" in file.tensors else None)
    if activation is None:
        raise InvalidFeatureError(f"{where} does not say its activation: give relu, topk with k, or jumprelu")
    given = {"activation": spec.activation, "k": spec.k, "threshold": spec.threshold}
    encoder = Contents(
        "encoder",
        _layer_of(spec, where),
        columns if turned else rows,
        rows if turned else columns,
        dtype=file.tensors[ENCODER].dtype,
        suffix=file.suffix,
        activation=activation,
        k=spec.k,
        options={name: value for name, value in given.items() if value is not None},
    )
    if (activation == "jumprelu") != (spec.threshold is not None or "threshold" in file.tensors):
        raise InvalidFeatureError(f"{where}: jumprelu needs a threshold, and it alone")
    _check_encoder(encoder, file, PLAIN_ENCODER, where)
    return encoder, turned


def _check_encoder(encoder: Contents, file: TensorFile, known: frozenset[str], where: str) -> None:
    if unknown := sorted(file.tensors.keys() - known):
        raise InvalidFeatureError(f"{where} holds {', '.join(unknown[:5])}: expected {', '.join(sorted(known))} alone")
    if (encoder.activation == "topk") != (encoder.k is not None):
        raise InvalidFeatureError(
            f"{where}: topk needs k, and it alone; {encoder.activation} and {encoder.k} were given"
        )
    if encoder.k is not None and not 1 <= encoder.k <= encoder.features:
        raise InvalidFeatureError(f"{where}: k is {encoder.k}, expected 1 to {encoder.features}, its features")
    expected = {
        "b_enc": (encoder.features,),
        "threshold": (encoder.features,),
        "b_dec": (encoder.units,),
        "center": (encoder.units,),
        "W_dec": (encoder.features, encoder.units),
    }
    for name, shape in expected.items():
        if name in file.tensors and file.tensors[name].shape != shape:
            raise InvalidFeatureError(
                f"{where}: {name} has shape {list(file.tensors[name].shape)}, expected {list(shape)}"
            )


def check_count(features: int, where: str) -> None:
    """Raise `TooLargeError` for more features than are taken at once."""
    if features > MAX_FEATURES:
        raise TooLargeError(
            f"{where} has {features} features, at most {MAX_FEATURES} are taken", features=features, limit=MAX_FEATURES
        )


def _check_size(contents: Contents, layer: LayerInfo, card: ModelCard, where: str) -> None:
    if contents.features < 1:
        raise InvalidFeatureError(
            f"{where} has {contents.features} features of {contents.units} units, expected 1 or more"
        )
    check_count(contents.features, where)
    if contents.units != layer.units:
        raise InvalidFeatureError(
            f"{where} is for {contents.units} units, {layer.name} of {card.name} has {layer.units} units"
        )


def _judged(
    contents: Contents, matrix: "NDArray[np.float32]", numbers: "Sequence[NDArray[np.float32]]", where: str
) -> Contents:
    """Return the contents with what is wrong with their features; refuse them if none is left."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.concatenate([np.linalg.norm(block.astype("f8"), axis=1) for block in blocks(matrix)])
    finite = np.isfinite(norms)
    for values in numbers:
        finite &= np.isfinite(values)
    zero = finite & (norms == 0.0)
    usable = np.flatnonzero(finite & ~zero)
    if not len(usable):
        raise InvalidFeatureError(
            f"{where}: none of its {contents.features} features can be used: {zero.sum()} are all zero, "
            f"{(~finite).sum()} hold NaN or infinity"
        )
    return replace(
        contents,
        zero=tuple(np.flatnonzero(zero).tolist()),
        not_finite=tuple(np.flatnonzero(~finite).tolist()),
        duplicates=_duplicates(matrix, norms, usable) if len(usable) <= MAX_COMPARED else None,
        norms=tuple(norm if np.isfinite(norm) else None for norm in norms.tolist()),
    )


def _duplicates(
    matrix: "NDArray[np.float32]", norms: "NDArray[np.float64]", rows: "NDArray[np.intp]"
) -> tuple[tuple[int, int], ...]:
    """Return (feature, the first that it repeats) of the usable rows."""
    import numpy as np

    unit = (matrix[rows] / norms[rows, None]).astype("f4")
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), COMPARED_ROWS):
        block = unit[start : start + COMPARED_ROWS]
        alike = np.tril(block @ unit[: start + len(block)].T > DUPLICATE_COSINE, start - 1)
        later = np.flatnonzero(alike.any(axis=1))
        earlier = alike[later].argmax(axis=1)
        found += zip(rows[start + later].tolist(), rows[earlier].tolist(), strict=True)
    return tuple(found)


def _check_lengths(spec: DictionarySpec, contents: Contents, where: str) -> None:
    if contents.labels is not None and len(contents.labels) != contents.features:
        raise InvalidFeatureError(
            f"{where} has {len(contents.labels)} labels, expected {contents.features}: one for each feature"
        )
    for name, values in spec.statistics.items():
        if len(values) != contents.features:
            raise InvalidFeatureError(
                f"{where} has {len(values)} values of {name!r}, expected {contents.features}: one for each feature"
            )


def _two_axes(file: TensorFile, name: str, where: str) -> TensorInfo:
    info = file.tensors.get(name)
    if info is None or len(info.shape) != 2:
        shape = "is not there" if info is None else f"has shape {list(info.shape)}"
        raise InvalidFeatureError(f"{where}: {name} {shape}, expected a matrix [features, units]")
    return info


def _layer_of(spec: DictionarySpec, where: str) -> str:
    if spec.layer is None:
        raise InvalidFeatureError(f"{where} does not say what layer it is for: give the layer")
    return spec.layer


def _refuse_activation(spec: DictionarySpec, where: str, reason: str) -> None:
    if spec.activation is not None or spec.k is not None or spec.threshold is not None:
        raise InvalidFeatureError(f"{where} {reason}: activation, k and threshold are not to be given")
