"""Dictionaries without input or output: what is uploaded and what is asked for."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict

from accentor.errors import InvalidFeatureError
from accentor.spec import DictionaryCard, DictionaryFeature, DictionarySpec, sha256_hex
from accentor.spec.dictionaries import Activation
from accentor_client import _calls
from accentor_client._datasets import through_pages
from accentor_client._following import Program, Stream
from accentor_client._sources import checked

PAGE = 200
SUFFIXES = (".npy", ".safetensors")


class Savable(Protocol):
    """A dictionary of `accentor.engine`."""

    def save(self, path: Path) -> object:
        """Write it to a ``.safetensors`` file."""


DictionarySource = str | os.PathLike[str] | bytes | Savable
"""A ``.npy`` or ``.safetensors`` file, its bytes, or a dictionary of `accentor.engine`."""


class DictionaryOptions(TypedDict, total=False):
    """What a dictionary is made from where it is no file here, and what the file does not say."""

    layer: str
    channels: bool
    object: str
    activation: Activation
    k: int
    threshold: float
    labels: Sequence[str]
    statistics: Mapping[str, Sequence[float | None]]
    description: str


def file_of(source: DictionarySource | None) -> bytes | None:
    """Return the bytes that are to be uploaded, if there are any.

    Raises
    ------
    InvalidFeatureError
        If it is a file of another kind, or cannot be read.
    """
    if source is None or isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
            path = Path(folder, "dictionary.safetensors")
            source.save(path)
            return path.read_bytes()
    path = Path(source)
    if path.suffix not in SUFFIXES:
        raise InvalidFeatureError(
            f"{path} is no {' and no '.join(SUFFIXES)} file: read it with accentor.engine.load_dictionary, "
            "and give what that returns"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFeatureError(f"{path} cannot be read: {error.strerror}") from error


def making(name: str, model: str, data: bytes | None, options: DictionaryOptions) -> Program[DictionaryCard]:
    """Send a file unless the service has it, and make a dictionary."""
    file = None if data is None else sha256_hex(data)
    fields: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    spec = checked(DictionarySpec, {**fields, "name": name, "model": model, "file": file})
    if data is not None and file is not None and not (yield _calls.has_file(file)):
        yield _calls.put_file(file, data)
    card: DictionaryCard = yield _calls.create_dictionary(spec)
    return card


def all_dictionaries(model: str | None) -> Stream[DictionaryCard]:
    """Tell the newest version of each dictionary, by name."""
    return through_pages(lambda cursor: _calls.list_dictionaries(model, cursor, PAGE))


def all_features(name: str, search: str | None, state: str | None, scan: str | None) -> Stream[DictionaryFeature]:
    """Tell the features of a dictionary in order."""
    return through_pages(lambda cursor: _calls.list_dictionary_features(name, search, state, scan, cursor, PAGE))
