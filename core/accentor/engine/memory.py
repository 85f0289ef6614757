"""How many pairs fit a bound on memory: measured on one crop, before anything large is allocated."""

import re

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from accentor.engine.models import Model
from accentor.engine.schedule import kept_steps, steps_needed
from accentor.errors import InvalidRequestError
from accentor.spec import Recipe

CPU_MICRO_BATCH = 1
"""On a CPU one pair's crops fill the cores; more at once only cost memory."""

MAX_MICRO_BATCH = 64
FREE_SHARE = 0.8
"""Share of a GPU's free memory that is used when no bound is given."""

TRANSIENT = 3
"""Largest activations alive at once beside what is kept for the backward pass: a layer's input, output and gradient."""

CANVASES = 24
"""Canvas-sized float32 tensors a pair has at once: θ and its gradient, Adam's moments, spectra, the map; no frames."""

RESAMPLED = 4
"""Tensors as large as all crops of a pair before their second resize, in the middle of a step."""

HELD = 1.25
"""A process grows by more than its tensors: the allocator's holes and what it keeps (benchmarks/README.md)."""

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def read_bytes(size: str | int) -> int:
    """Return the number of bytes of a size such as ``4GiB``, ``500MB`` or 10000000."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None or match[2].upper() not in UNITS or float(match[1]) <= 0:
        raise InvalidRequestError(f"memory is {size!r}: expected a size such as '4GiB', '500MB' or a number of bytes")
    return int(float(match[1]) * UNITS[match[2].upper()])


def micro_batch(
    model: Model, layers: frozenset[str], recipe: Recipe, canvas: tuple[int, int], memory: str | int | None
) -> int:
    """Return how many pairs to optimise at once within the bound on memory.

    Without a bound: one on a CPU, and on a GPU what fits in four fifths of its free memory, with that which PyTorch
    holds and does not use.

    Raises
    ------
    InvalidRequestError
        If one pair needs more than the bound; both numbers are given.
    """
    if memory is None and model.device.type != "cuda":
        return CPU_MICRO_BATCH
    bound = read_bytes(memory) if memory is not None else int(FREE_SHARE * _free(model.device))
    needed = bytes_per_pair(model, layers, recipe, canvas)
    if needed > bound and memory is not None:
        raise InvalidRequestError(
            f"one pair of {recipe.crops} crops needs {needed / 2**20:.3g} MiB, memory is {bound / 2**20:.3g} MiB: "
            "give more, or a recipe of fewer crops or a smaller size"
        )
    most = CPU_MICRO_BATCH if model.device.type == "cpu" else MAX_MICRO_BATCH
    return max(1, min(most, bound // needed))


def _free(device: torch.device) -> int:
    """Return the bytes of a GPU that nobody has, and those that this process's allocator keeps for what comes."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


@torch.inference_mode(mode=False)
@torch.enable_grad()
def bytes_per_pair(model: Model, layers: frozenset[str], recipe: Recipe, canvas: tuple[int, int]) -> int:
    """Return an estimate of the bytes that one pair needs, from what one crop's forward pass keeps."""
    side, channels = model.card.input_size, model.card.channels
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    pixels = torch.zeros(1, channels, side, side, device=model.device, requires_grad=True)
    with model.frozen(), saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = model.activations(pixels, layers)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.module.parameters()}
    sizes = [size for place, size in kept.items() if place not in weights]
    del outputs
    crop = sum(sizes) + TRANSIENT * max(sizes, default=0)
    between = RESAMPLED * side * max(canvas) * channels * 4
    planes = CANVASES * channels + _frames(recipe) * (channels + 1)
    margin = 2 * round(recipe.border * max(canvas))
    larger = CANVASES * channels * ((canvas[0] + margin) * (canvas[1] + margin) - canvas[0] * canvas[1])
    return int(HELD * (recipe.crops * (crop + between) + 4 * (planes * canvas[0] * canvas[1] + larger)))


def _frames(recipe: Recipe) -> int:
    """Return how many images and accumulated gradients a pair keeps: the seed's, and those of both ways."""
    less = steps_needed(recipe, suppress=True)
    return 1 + len(kept_steps(recipe, steps_needed(recipe))) + (1 + len(kept_steps(recipe, less)) if less else 0)
