"""Where dictionaries are found: those registered in this process by name, and those in files."""

import difflib
import re
from functools import lru_cache
from pathlib import Path

from accentor.dictionaries import SAELENS_CONFIG as CONFIG
from accentor.engine.dictionaries.codes import Activation
from accentor.engine.dictionaries.dictionary import NEAREST, Dictionary
from accentor.engine.dictionaries.files import Options, read_npy, read_safetensors
from accentor.engine.dictionaries.overcomplete import SUFFIXES, read_overcomplete
from accentor.engine.dictionaries.saelens import SCALER, WEIGHTS, is_saelens, read_saelens
from accentor.errors import InvalidFeatureError, UnknownDictionaryError
from accentor.spec.dictionaries import VERSION_DIGITS

NAME = re.compile(rf"[^\s:#@/\\]+(?:@[0-9a-f]{{{VERSION_DIGITS}}})?")
KEPT_FILES = 2
"""Dictionaries read from files that are kept, so that ``dictionary:FILE#0``, ``#1`` … read the file once."""
FORMATS = f".safetensors, .npy, a SAELens folder ({CONFIG}, {WEIGHTS}), or an overcomplete state dict (.pt)"

_registered: dict[str, Dictionary] = {}


def register_dictionary(dictionary: Dictionary, name: str | None = None) -> None:
    """Make a dictionary known in this process, so that ``dictionary:NAME#3`` finds it; a later one replaces it.

    Parameters
    ----------
    dictionary
        The dictionary.
    name
        What it is found under; none: its own name.

    Raises
    ------
    InvalidFeatureError
        If the name has a space or one of ``: # @ /`` in it.
    """
    chosen = name or dictionary.name
    if not NAME.fullmatch(chosen):
        raise InvalidFeatureError(f"{chosen!r} is no name of a dictionary: expected one without spaces and : # @ /")
    _registered[chosen] = dictionary


def forget_dictionary(name: str) -> None:
    """Take a registered dictionary out again; nothing happens if there is none."""
    _registered.pop(name, None)


def registered_dictionaries() -> list[str]:
    """Return the names of the dictionaries registered in this process."""
    return sorted(_registered)


def load_dictionary(
    source: str | Path,
    layer: str | None = None,
    *,
    name: str | None = None,
    activation: Activation | None = None,
    k: int | None = None,
    threshold: float | None = None,
) -> Dictionary:
    """Load a dictionary by name or from a file. Nothing but numbers is ever unpickled.

    Parameters
    ----------
    source
        The name of a registered dictionary; or a path: ``.npy`` or ``.safetensors`` with one matrix
        [features, units]; ``.safetensors`` written by `Dictionary.save`, or with W_enc and b_enc (and b_dec, W_dec,
        threshold); a folder with SAELens' ``cfg.json`` and ``sae_weights.safetensors``; or the state dict of an
        overcomplete SAE, written by ``torch.save(module.state_dict(), "sae.pt")``.
    layer
        The layer it is for, where the file does not say it, or says it in another library's names. If it is one of
        ours, it must be that of the dictionary.
    name
        What it is called once read from a file; none: as the file says, or as the file is called.
    activation, k, threshold
        The encoder's activation where the file does not say it: ``relu``, ``topk`` with k, ``jumprelu`` with its
        threshold.

    Raises
    ------
    UnknownDictionaryError
        If there is neither a dictionary of this name nor such a file.
    InvalidFeatureError
        If the file cannot be read; with what was given, and what was expected.

    Examples
    --------
    >>> load_dictionary("sae.pt", "layer4", activation="topk", k=32)  # doctest: +SKIP
    """
    options = Options(layer=layer, name=name, activation=activation, k=k, threshold=threshold)
    if str(source) in _registered and not isinstance(source, Path):
        return _as_registered(_registered[source], options)
    path = Path(source)
    if not path.exists():
        raise _unknown(str(source))
    stamps = tuple((f.stat().st_mtime_ns, f.stat().st_size) for f in _files(path))
    return _read(path.resolve(), options, stamps)


def _as_registered(dictionary: Dictionary, options: Options) -> Dictionary:
    options.refuse_activation(dictionary.name, "is registered as it is")
    options.same_layer(dictionary.layer, dictionary.name)
    return dictionary


def _files(path: Path) -> list[Path]:
    return [f for name in (CONFIG, WEIGHTS, SCALER) if (f := path / name).exists()] if path.is_dir() else [path]


@lru_cache(maxsize=KEPT_FILES)
def _read(path: Path, options: Options, stamps: tuple[tuple[int, int], ...]) -> Dictionary:  # noqa: ARG001
    if is_saelens(path):
        return read_saelens(path, options)
    match path.suffix:
        case ".safetensors":
            return read_safetensors(path, options)
        case ".npy":
            return read_npy(path, options)
        case suffix if suffix in SUFFIXES:
            return read_overcomplete(path, options)
        case _:
            raise InvalidFeatureError(f"{path} is no dictionary: expected {FORMATS}")


def _unknown(source: str) -> UnknownDictionaryError:
    names = registered_dictionaries()
    nearest = difflib.get_close_matches(source, names, n=NEAREST, cutoff=0.0)
    known = f"registered are {', '.join(nearest)}" if names else "none is registered"
    return UnknownDictionaryError(
        f"there is no dictionary {source!r}: no file of this path, and {known}", nearest=nearest
    )
