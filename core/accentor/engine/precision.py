"""Which precision a network's passes run in."""

import torch

from accentor.spec import Recipe


def choose_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return the recipe's precision; for ``auto`` bfloat16 where the device computes in it, else float32."""
    if recipe.precision == "auto":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    return torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """Return ``float32`` or ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        has_it = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return has_it is not None and bool(has_it())
    return False
