"""The default regularisation layer: early, and about a quarter of the input's resolution."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from accentor.spec import LayerInfo

STRIDE = 4
BLOCK_OF_TOKENS = 2
"""The third of a transformer's blocks."""

FEWEST_BLOCKS = 3


def default_regularization_layer(module: nn.Module, layers: Sequence[LayerInfo], input_size: int) -> str:
    """Return an early layer to measure the distance to the seed in: the first of these that the network has.

    1. The first stage or block with several weighted layers at a quarter of the input's resolution: ``layer1`` of a
       ResNet, the first Fire of a SqueezeNet. A patchifying stem is none: it is hardly more than the pixels.
    2. The third block of a transformer.
    3. The last block, or failing that the last layer, at a quarter of the resolution.
    4. The layer at a third of the depth.
    """
    modules = dict(module.named_modules())
    real = [layer for layer in layers if layer.name in modules]
    quarter = [layer.name for layer in real if layer.grid and round(input_size / layer.grid[0]) == STRIDE]
    blocks = [name for name in quarter if next(modules[name].children(), None) is not None]
    outermost = [name for name in blocks if not any(name.startswith(f"{other}.") for other in blocks)]
    deep = [name for name in outermost if _weighted(modules[name]) > 1]
    if deep:
        return deep[0]
    if third := _third_block(modules, real):
        return third
    if quarter:
        return (outermost or quarter)[-1]
    return (real or layers)[len(real or layers) // 3].name


def _weighted(module: nn.Module) -> int:
    """Return how many convolutions and linear maps a module holds."""
    weights = (getattr(part, "weight", None) for part in module.modules())
    return sum(weight is not None and weight.dim() > 1 for weight in weights)


def _third_block(modules: Mapping[str, nn.Module], layers: Sequence[LayerInfo]) -> str | None:
    """Return the third of the first row of like blocks on tokens."""
    rows: dict[tuple[str, type[nn.Module]], list[str]] = defaultdict(list)
    for layer in layers:
        block = modules[layer.name]
        if layer.layout == "NC" and layer.grid_shape is not None and _weighted(block) > 1:
            row = rows[layer.name.rpartition(".")[0], type(block)]
            row.append(layer.name)
            if len(row) > max(BLOCK_OF_TOKENS, FEWEST_BLOCKS - 1):
                return row[BLOCK_OF_TOKENS]
    return None
