"""Arrays in files, without torch: headers of ``.npy`` and ``.safetensors``, and their numbers in blocks of rows."""

import ast
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accentor.errors import InvalidFeatureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NPY = b"\x93NUMPY"
MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as its format says."""

BLOCK_VALUES = 4_194_304
"""Values that are looked at together: 16 MiB in float32."""

_SAFETENSORS = {"F64": ("<f8", 8), "F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2)}
_NPY = {"f8": "F64", "f4": "F32", "f2": "F16"}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor of a file lies, and what it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    by_columns: bool = False

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """A file's tensors by name, and the text in its header."""

    suffix: str
    tensors: Mapping[str, TensorInfo]
    header: Mapping[str, str]

    def values(self, data: bytes, name: str) -> "NDArray[np.float32]":
        """Return a tensor's values in float32."""
        import numpy as np

        info = self.tensors[name]
        raw = np.frombuffer(data, _SAFETENSORS[info.dtype][0], info.count, info.start)
        if info.dtype == "BF16":
            values = (raw.astype("<u4") << 16).view("<f4")
        else:
            with np.errstate(over="ignore"):
                values = raw.astype("<f4", copy=False)
        return values.reshape(info.shape, order="F" if info.by_columns else "C")


def blocks(matrix: "NDArray[np.float32]") -> "Iterator[NDArray[np.float32]]":
    """Return a matrix's rows in blocks."""
    rows = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows]


def read_file(data: bytes, where: str) -> TensorFile:
    """Read the header of a file's bytes, and check that all its values are there; nothing is unpickled.

    Raises
    ------
    InvalidFeatureError
        If it is no such file, or a tensor is of integers, objects or another width of floats.
    """
    try:
        return _npy(data, where) if data.startswith(NPY) else _safetensors(data, where)
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError, struct.error, RecursionError) as error:
        if isinstance(error, InvalidFeatureError):
            raise
        raise InvalidFeatureError(f"{where} is no .npy and no .safetensors file: {error}") from error


def _safetensors(data: bytes, where: str) -> TensorFile:
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data) - 8):
        raise InvalidFeatureError(f"{where} is no .npy and no .safetensors file, or breaks off: {len(data)} bytes")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    text = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        first, end = map(int, entry["data_offsets"])
        shape = tuple(map(int, entry["shape"]))
        info = TensorInfo(name, str(entry["dtype"]), shape, 8 + length + first)
        _check(info, end - first, len(data), where)
        tensors[name] = info
    return TensorFile(".safetensors", tensors, {str(key): str(value) for key, value in text.items()})


def _npy(data: bytes, where: str) -> TensorFile:
    width, offset = ("<H", 10) if data[6] == 1 else ("<I", 12)
    (length,) = struct.unpack_from(width, data, 8)
    said = ast.literal_eval(data[offset : offset + length].decode("latin-1").strip())
    kind = str(said["descr"])
    dtype = _NPY.get(kind[1:]) if kind[:1] in "<=|" else None
    if dtype is None:
        raise InvalidFeatureError(f"{where} holds {kind}: expected floats of 16, 32 or 64 bits, little-endian")
    info = TensorInfo("vectors", dtype, tuple(map(int, said["shape"])), offset + length, bool(said["fortran_order"]))
    _check(info, len(data) - info.start, len(data), where)
    return TensorFile(".npy", {"vectors": info}, {})


def _check(info: TensorInfo, given: int, size: int, where: str) -> None:
    if info.dtype not in _SAFETENSORS:
        raise InvalidFeatureError(f"{where}: {info.name} is {info.dtype}, expected {', '.join(_SAFETENSORS)}")
    expected = info.count * _SAFETENSORS[info.dtype][1]
    if min(info.start, *info.shape) < 0 or info.start + given > size or given != expected:
        raise InvalidFeatureError(
            f"{where}: {info.name} of shape {list(info.shape)} needs {expected} bytes, the file has "
            f"{max(0, min(given, size - info.start))}"
        )
