"""Batch normalisation in evaluation is a scale and a shift of each channel: the convolution before it can do both.

Steps of the optimisation run through such a copy of a network; what is read and told is measured on the network itself.
"""

import copy
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from accentor.engine.layers import HOOKS, frozen, is_compiled
from accentor.engine.models.devices import is_out_of_memory

TOLERANCE = 1e-2
"""By how much the copy's output may differ on an image of noise, relative to the largest output."""


def fold(module: nn.Module, images: Tensor) -> tuple[nn.Module, frozenset[str]] | None:
    """Return a copy in which convolutions do the work of the batch norms behind them, or none where there are none.

    Folded is where a convolution's output goes to a batch norm and nowhere else, neither is used twice, and neither has
    hooks; nothing in a network that is compiled. All but the folded convolutions give what they gave, up to rounding; a
    batch norm passes on what it receives.

    Parameters
    ----------
    module
        A network; it is not changed.
    images
        Two inputs [2, C, S, S], by which the copy is compared with the network. Where they disagree there is no copy.

    Returns
    -------
    tuple of nn.Module and frozenset of str, or None
        The copy in evaluation mode without parameter gradients, and the names of the layers that give the output of a
        folded convolution: there it gives something else.
    """
    with torch.inference_mode(mode=False), torch.no_grad(), frozen(module):
        pairs = [] if is_compiled(module) else _pairs(module, images)
        if not pairs:
            return None
        try:
            folded = copy.deepcopy(module).eval().requires_grad_(requires_grad=False)
            for pair in pairs:
                _fold_pair(folded, pair)
            there, here = module(images), folded(images)
        except (RuntimeError, TypeError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            return None
        close = isinstance(here, Tensor) and (here - there).abs().max() <= TOLERANCE * there.abs().max()
        return (folded, frozenset[str]().union(*(pair.seen for pair in pairs))) if close else None


@dataclass
class _Pair:
    """A convolution and the batch norm that receives its output; the names of all modules that give this output."""

    convolution: str
    output: Tensor
    norm: str | None = None
    seen: set[str] = field(default_factory=set)


def _fold_pair(module: nn.Module, pair: _Pair) -> None:
    convolution = cast(nn.Conv2d, module.get_submodule(pair.convolution))
    norm = cast(nn.BatchNorm2d, module.get_submodule(pair.norm or ""))
    fused = fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = fused.weight, fused.bias
    module.set_submodule(pair.norm or "", nn.Sequential(OrderedDict(norm.named_children())))


def _pairs(module: nn.Module, images: Tensor) -> list[_Pair]:
    """Return the convolutions with the batch norms that alone receive what they give."""
    layers = dict(module.named_modules())
    convolutions = {name for name, layer in layers.items() if _is_plain(layer, nn.Conv2d)}
    norms = {
        name
        for name, layer in layers.items()
        if _is_plain(layer, nn.BatchNorm2d, *_activated_norms()) and layer.running_mean is not None
    }
    if not (convolutions and norms):
        return []
    uses, calls = _Uses(), Counter[str]()
    pairs: dict[int, _Pair] = {}

    def before(name: str, received: tuple[Any, ...]) -> None:
        calls[name] += 1
        if name in norms and received and id(received[0]) in pairs:
            pairs[id(received[0])].norm = name

    def after(name: str, output: Any) -> None:
        if name in convolutions:
            pairs[id(output)] = _Pair(name, output)
            uses.counts[id(output)] = 0
        if id(output) in pairs:
            pairs[id(output)].seen.add(name)

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(lambda _, given, name=name: before(name, given)).remove)
            hooks.callback(layer.register_forward_hook(lambda _, __, output, name=name: after(name, output)).remove)
        with uses:
            module(images)
    once = (pair for key, pair in pairs.items() if uses.counts[key] == 1)
    return [pair for pair in once if pair.norm is not None and calls[pair.convolution] == calls[pair.norm] == 1]


def _is_plain(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Tell whether the layer does what one of these kinds does and no more."""
    own = "forward" in vars(layer) or any(getattr(layer, hooks) for hooks in HOOKS)
    return type(layer) in kinds and not own


def _activated_norms() -> tuple[type[nn.Module], ...]:
    """Return timm's batch norm, if there is timm, whose children are what it does afterwards: dropout, activation."""
    layers = sys.modules.get("timm.layers")
    return (layers.BatchNormAct2d,) if layers is not None else ()


class _Uses(TorchFunctionMode):
    """Counts how many functions that give tensors take a tensor, by its id, which another has once it is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if any(True for _ in _tensors(result)):
            self.counts.update({id(tensor) for tensor in _tensors((args, given))})
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)
