"""Devices: by name, the best there is, and what is known of them when something goes wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from accentor.errors import InvalidRequestError

_REFUSALS = (
    "can't allocate memory",
    "not enough memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUDA error: out of memory",
)
"""What a RuntimeError says where memory ran out: of the CPU's allocator, and of CUDA's libraries."""


def read_device(name: str | torch.device) -> torch.device:
    """Return the device of this name, with its number; `InvalidRequestError` if this machine does not have it."""
    try:
        return torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        raise InvalidRequestError(f"there is no device {str(name)!r} here: expected cpu, cuda, cuda:N …") from error


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether the error says that memory ran out, on a GPU or on the CPU."""
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSALS)
    return told or isinstance(error, torch.OutOfMemoryError)


def computes(device: torch.device) -> bool:
    """Tell whether the device still computes: after some errors no call of a process to its GPU succeeds any more."""
    try:
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True


@contextmanager
def repeating(device: torch.device) -> Iterator[None]:
    """Let cuDNN take only algorithms that give the same bits again; its setting is put back."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
