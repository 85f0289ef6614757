"""Which positions the tokens of a transformer's layers are, known from the model where it says so."""

import math
from collections.abc import Iterable, Mapping

from torch import nn

Grid = tuple[int, int]

CLASS_TOKENS = ("class_token", "cls_token", "class_embedding")
OTHER_TOKENS = ("register_tokens", "reg_token", "dist_token", "distillation_token")
MOST_TOKENS = 8
"""Leading tokens that are no position, at most, where the model does not say how many there are."""

FEWEST_POSITIONS = 4


def leading_tokens(module: nn.Module) -> int | None:
    """Return how many tokens come before those of the positions: class and register tokens; none if unknown.

    Read from timm's ``num_prefix_tokens``, or from the tokens that torchvision's and DINO's keep as parameters.
    """
    for part in module.modules():
        count = getattr(part, "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
        if any(isinstance(getattr(part, name, None), nn.Parameter) for name in CLASS_TOKENS):
            others = (getattr(part, name, None) for name in OTHER_TOKENS)
            return 1 + sum(other.shape[-2] for other in others if isinstance(other, nn.Parameter))
    return None


def patch_grids(module: nn.Module, size: tuple[int, int], maps: Iterable[Grid]) -> dict[int, Grid]:
    """Return the grids that tokens may form, by number of positions.

    From the patch embedding's own grid or the size of its patches in an image of this height and width, and the traced
    maps; where several have equally many positions the first counts.
    """
    grids: dict[int, Grid] = {}
    declared = [getattr(part, "grid_size", None) for part in module.modules()]
    sides = [_pair(getattr(part, "patch_size", None)) for part in module.modules()]
    patches = [(size[0] // side[0], size[1] // side[1]) for side in sides if side and min(side) > 0]
    for grid in [*(pair for pair in map(_pair, declared) if pair), *maps, *patches]:
        grids.setdefault(grid[0] * grid[1], grid)
    return {count: grid for count, grid in grids.items() if count >= FEWEST_POSITIONS}


def place_tokens(tokens: int, leading: int | None, grids: Mapping[int, Grid]) -> tuple[Grid | None, int]:
    """Return the rows and columns that these tokens form, and how many before them are no position.

    Parameters
    ----------
    tokens
        How many the layer has.
    leading
        From `leading_tokens`. A layer may also come before these are joined to the others.
    grids
        From `patch_grids`. A number of tokens that is none of these is taken for a square, if it is one.
    """
    firsts = (0, 1) if leading is None else (leading, 0)
    for first in firsts:
        if tokens - first in grids:
            return grids[tokens - first], first
    if leading is None and (grid := _square(tokens)):
        return grid, 0
    if leading is None:
        for count in sorted(grids, reverse=True):
            if tokens / 2 < count < tokens <= count + MOST_TOKENS:
                return grids[count], tokens - count
    for first in firsts:
        if grid := _square(tokens - first):
            return grid, first
    return None, min(leading or 0, tokens - 1)


def _square(positions: int) -> Grid | None:
    side = math.isqrt(max(positions, 0))
    return (side, side) if side > 0 and side**2 == positions else None


def _pair(value: object) -> Grid | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(one, int) for one in value):
        return (value[0], value[1])
    return None
