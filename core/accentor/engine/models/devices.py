"""Devices: by name, and the best there is."""

import torch

from accentor.errors import InvalidRequestError


def read_device(name: str | torch.device) -> torch.device:
    """Return the device of this name; `InvalidRequestError` if this machine does not have it."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidRequestError(f"there is no device {str(name)!r} here: expected cpu, cuda, cuda:N …") from error
    return device


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
