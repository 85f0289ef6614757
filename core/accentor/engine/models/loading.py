"""Where models are loaded from, by name."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from accentor.engine.models.devices import best_device, read_device
from accentor.engine.models.entry_points import GROUP, entry_point_names, find_entry_point, load_entry_point
from accentor.engine.models.model import Model
from accentor.engine.models.timm_source import DEFAULT, TIMM, load_timm, timm_names
from accentor.engine.models.torchvision_source import TORCHVISION, load_torchvision, torchvision_names
from accentor.errors import InvalidRequestError, InvalidWeightsError, UnknownModelError

REFERENCE = "reference"
SOURCES = f"reference, torchvision:NAME, timm:NAME, or the name of an entry point in {GROUP}"


def load_model(
    source: str | nn.Module,
    *,
    weights: str | Path | None = None,
    device: str | None = None,
    name: str | None = None,
    input_size: int | None = None,
    **options: Any,
) -> Model:
    """Load a model to accentuate features of.

    Parameters
    ----------
    source
        ``reference``, the network that ships with Accentor; ``torchvision:NAME``; ``timm:NAME`` (the extra ``timm``);
        the name of an entry point in ``accentor.models``; or a network of your own, taken to want ImageNet's
        normalisation (otherwise build a `Model`).
    weights
        For torchvision and timm: ``DEFAULT``, another name of theirs, ``untrained`` (the same random weights every
        time), or a safetensors file with the state dict (float16 is cast to float32). Pickled weights are never loaded,
        but for torchvision's own, of which nothing but tensors is read. An entry point is given what is given here.
    device
        Where it is to run, such as ``cuda:0``; none: the GPU if there is one.
    name
        What it is called; none: its source.
    input_size
        Side of the images it is to take, in pixels; none: what its weights were trained on, or 224.
    **options
        Of the architecture, handed on to torchvision, timm or the entry point, such as ``num_classes=0``.

    Raises
    ------
    UnknownModelError
        If there is no such model, with the nearest names, or an entry point is broken.
    InvalidWeightsError
        If the weights cannot be read, do not fit, or are not finite.
    InvalidRequestError
        If the device is not there, or the architecture does not take the input size or the options.
    """
    target = read_device(device) if device is not None else best_device()
    if input_size is not None and input_size < 1:
        raise InvalidRequestError(f"the input size is {input_size}: expected at least 1 pixel")
    if isinstance(source, nn.Module):
        _refuse_options(type(source).__name__, options)
        own = Model(
            source,
            input_size=input_size or 224,
            name=name or type(source).__name__,
            source=type(source).__qualname__,
        )
        return own.to(target)
    kind, _, rest = source.partition(":")
    if kind == TORCHVISION and rest:
        return load_torchvision(rest, str(weights or DEFAULT), target, name or source, input_size, options)
    if kind == TIMM and rest:
        return load_timm(rest, str(weights or DEFAULT), target, name or source, input_size, options)
    if source == REFERENCE:
        _refuse_options(REFERENCE, options | ({"input_size": input_size} if input_size else {}))
        if weights is not None:
            raise InvalidWeightsError(f"the reference model has weights of its own; {str(weights)!r} was given")
        return _load_reference(target, name or source)
    if entry := find_entry_point(source):
        given = options | ({"input_size": input_size} if input_size else {})
        return load_entry_point(entry, weights, target, name or source, given)
    raise UnknownModelError(f"no model is called {source!r}: expected {SOURCES}")


def available_models() -> list[str]:
    """Return the names that `load_model` knows; timm's if it is installed."""
    return [
        REFERENCE,
        *entry_point_names(),
        *(f"{TORCHVISION}:{name}" for name in torchvision_names()),
        *(f"{TIMM}:{name}" for name in timm_names()),
    ]


def _refuse_options(what: str, options: dict[str, Any]) -> None:
    if options:
        raise InvalidRequestError(f"{what} takes no options; {', '.join(options)} was given")


def _load_reference(device: torch.device, name: str) -> Model:
    from accentor.engine import reference

    return Model(
        reference.load_reference().to(device),
        input_size=reference.INPUT_SIZE,
        mean=reference.MEAN,
        std=reference.STD,
        labels=reference.LABELS,
        regularization_layer=reference.REGULARIZATION_LAYER,
        name=name,
        source=REFERENCE,
    )
