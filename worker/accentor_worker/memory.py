"""How much memory of its GPU this process uses."""

from collections.abc import Callable

import torch

Memory = Callable[[], dict[str, int]]


def memory_of(device: str | None) -> Memory:
    """Return the function that tells the bytes of a GPU in total, in use by all, and held by this process at most.

    Where there is no such GPU it tells nothing.
    """
    if not torch.cuda.is_available() or torch.device(device or "cuda").type != "cuda":
        return dict
    chosen = torch.device(device or "cuda")

    def read() -> dict[str, int]:
        free, total = torch.cuda.mem_get_info(chosen)
        return {"total": total, "used": total - free, "peak": torch.cuda.max_memory_reserved(chosen)}

    return read
