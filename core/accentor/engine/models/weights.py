"""Weights: read without unpickling, fitted to an architecture, checked, and digested."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from accentor.errors import InvalidWeightsError

SEED = 0
"""Of untrained networks' weights, so that they are the same ones every time."""

State = Mapping[str, Tensor]
Built = TypeVar("Built")


def read_state(path: Path) -> State:
    """Return the tensors of a safetensors file."""
    try:
        state: State = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidWeightsError(f"{path} cannot be read as safetensors: {error}") from error
    return state


def fits(network: nn.Module, state: State) -> bool:
    """Tell whether the state dict has the network's tensors, all and only these, in their shapes."""
    expected = network.state_dict()
    return not _missing(expected, state) and all(
        key in expected and tensor.shape == expected[key].shape for key, tensor in state.items()
    )


def fit(network: nn.Module, state: State, origin: str) -> None:
    """Load a state dict into the network it belongs to, in the network's precision."""
    expected = network.state_dict()
    if missing := _missing(expected, state):
        raise InvalidWeightsError(f"{origin} lacks {len(missing)} tensors of the architecture, first {missing[0]!r}")
    if unknown := [key for key in state if key not in expected]:
        raise InvalidWeightsError(
            f"{origin} holds {len(unknown)} tensors of another architecture, first {unknown[0]!r}"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise InvalidWeightsError(
                f"{origin}: {key} has shape {list(tensor.shape)}, expected {list(expected[key].shape)}"
            )
    network.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in state.items()}, strict=False)


def untrained(build: Callable[[], Built]) -> Built:
    """Return what is built with the same random weights every time, leaving the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        return build()


def check_finite(module: nn.Module) -> None:
    """Raise `InvalidWeightsError` if a parameter or buffer holds NaN or infinity."""
    for key, tensor in module.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise InvalidWeightsError(f"{key} holds values that are not finite (NaN or infinity)")


def digest(module: nn.Module, settings: Sequence[object]) -> str:
    """Return the sha256 over the settings and all parameters and buffers."""
    found = hashlib.sha256(repr(settings).encode())
    for key, tensor in module.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _missing(expected: State, state: State) -> list[str]:
    return [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
