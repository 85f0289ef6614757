"""Tracing a network: which layers it has, what their axes are, and what becomes of their tensors."""

import re
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from accentor.engine.layers import PREACTIVATION, Trace, frozen
from accentor.engine.tokens import leading_tokens, patch_grids, place_tokens
from accentor.spec import LayerInfo

Axes = Literal["first", "last", "tokens", "vector"]
"""Where a tensor's channels are: [B, C, H, W], [B, H, W, C], [B, tokens, C] or [B, C]."""

_ACTIVATION = re.compile(r"relu|elu|silu|swish|mish|tanh|sigmoid|softplus", re.IGNORECASE)
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.GroupNorm,
)


def trace(module: nn.Module, images: Tensor) -> Trace:
    """Run the model once and list its layers.

    Listed is every module that gives one floating-point tensor [B, C], [B, tokens, C], [B, C, H, W] or [B, H, W, C],
    and under ``NAME.input`` what an activation module ``NAME`` receives.

    Parameters
    ----------
    module
        The network.
    images
        Inputs, [B, C, H, W]. With two of them, what does not have one row for each image (the windows of an attention,
        a table of biases) is told apart from what has.
    """
    tracer = _Tracer(len(images))
    with frozen(module), _hooked(module, tracer), torch.no_grad():
        output = module(images)
    return tracer.result(module, output, (images.shape[2], images.shape[3]))


def is_activation(layer: nn.Module) -> bool:
    """Tell whether the module is an activation function, such as ReLU, GELU or a SiLU of one's own."""
    childless = next(layer.children(), None) is None
    return childless and any(_ACTIVATION.search(one.__name__) for one in type(layer).__mro__ if one is not nn.Module)


@dataclass(frozen=True)
class _Seen:
    type: str
    shape: tuple[int, ...]
    axes: Axes
    guessed: bool = False


class _Tracer:
    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._seen: dict[str, _Seen] = {}
        self._calls: Counter[str] = Counter()
        self._inputs: set[str] = set()
        self._axes: Any = WeakTensorKeyDictionary()
        self._alive: dict[str, tuple[weakref.ref[Tensor], int]] = {}
        self._overwritten: set[str] = set()
        self._passed_on: Any = None

    def before(self, name: str, layer: nn.Module, received: tuple[Any, ...]) -> None:
        self._look_for_changes()
        if name and received and is_activation(layer):
            self._inputs.add(name + PREACTIVATION)
            self._note(name + PREACTIVATION, f"{type(layer).__name__} input", received[0], None, None)

    def after(self, name: str, layer: nn.Module, received: tuple[Any, ...], output: Any) -> None:
        self._look_for_changes()
        self._passed_on = output if isinstance(layer, nn.Identity) else self._passed_on
        if name:
            self._note(name, type(layer).__name__, output, layer, received[0] if received else None)

    def result(self, module: nn.Module, output: Any, size: tuple[int, int]) -> Trace:
        width = output.shape[1] if isinstance(output, Tensor) and output.dim() == 2 else None
        classes = getattr(module, "num_classes", None)
        headless = classes == 0 or (output is self._passed_on and classes != width)
        layers = tuple(self._infos(module, size))
        names = {layer.name for layer in layers}
        return Trace(
            layers,
            {name: count for name, count in self._calls.items() if name in names},
            width,
            headless,
            frozenset(self._inputs & names),
            self._overwritten & names,
        )

    def _note(self, name: str, kind: str, tensor: Any, layer: nn.Module | None, received: Any) -> None:
        self._calls[name] += 1
        self._seen.pop(name, None)
        self._alive.pop(name, None)
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.shape[:1] != (self._batch,):
            return
        axes, guessed = self._axes_of(tensor, layer, received)
        if axes is not None:
            self._axes[tensor] = (axes, guessed)
            self._seen[name] = _Seen(kind, tuple(tensor.shape[1:]), axes, guessed)
            if not tensor.is_inference():
                self._alive[name] = (weakref.ref(tensor), tensor._version)

    def _axes_of(self, tensor: Tensor, layer: nn.Module | None, received: Any) -> tuple[Axes | None, bool]:
        """Return the tensor's axes, and whether they are guessed from its shape alone."""
        if tensor.dim() in (2, 3):
            return ("vector" if tensor.dim() == 2 else "tokens"), False
        if tensor.dim() != 4:
            return None, False
        if declared := _declared_axes(tensor, layer):
            return (declared if declared == "first" or tensor.shape[1] == tensor.shape[2] else None), False
        for source in (tensor, received):
            known = self._axes.get(source) if isinstance(source, Tensor) else None
            if known is not None and source.shape == tensor.shape:
                return known[0], known[1]
        if tensor.shape[2] == tensor.shape[3]:
            return "first", True
        return ("last" if tensor.shape[1] == tensor.shape[2] else None), True

    def _look_for_changes(self) -> None:
        for name, (reference, version) in list(self._alive.items()):
            tensor = reference()
            if tensor is None or tensor._version != version:
                del self._alive[name]
                if tensor is not None:
                    self._overwritten.add(name)

    def _infos(self, module: nn.Module, size: tuple[int, int]) -> Iterator[LayerInfo]:
        seen = self._without_attention_maps()
        maps = [_map_shape(one)[1:] for one in seen.values() if one.axes in ("first", "last")]
        grids = patch_grids(module, size, ((rows, columns) for rows, columns in maps))
        leading = leading_tokens(module)
        for name, one in seen.items():
            shape, grid, first = one.shape, None, 0
            if one.axes in ("first", "last"):
                shape = _map_shape(one)
                grid = (shape[1], shape[2])
            elif one.axes == "tokens":
                grid, first = place_tokens(shape[0], leading, grids)
            yield LayerInfo(
                name=name,
                type=one.type,
                shape=shape,
                layout="C" if one.axes == "vector" else "NC" if one.axes == "tokens" else "CHW",
                channels_last=one.axes == "last",
                grid_shape=grid,
                class_tokens=first,
                stride=(size[0] / grid[0], size[1] / grid[1]) if grid else None,
            )

    def _without_attention_maps(self) -> dict[str, _Seen]:
        """Leave out [B, heads, N, N] for N positions, which looks like a map, but no convolution gives one so large."""
        maps = [one for one in self._seen.values() if one.axes in ("first", "last")]
        sides = {_map_shape(one)[1] for one in maps if not one.guessed}
        counts = {one.shape[0] for one in self._seen.values() if one.axes == "tokens"}
        counts |= {rows * columns for _, rows, columns in map(_map_shape, maps) if rows > 1}
        return {
            name: one
            for name, one in self._seen.items()
            if not (one.guessed and one.axes == "first" and one.shape[1] in counts - sides)
        }


def _map_shape(seen: _Seen) -> tuple[int, int, int]:
    """Return [C, H, W], whatever the order the module gives."""
    one, two, three = seen.shape
    return (one, two, three) if seen.axes == "first" else (three, one, two)


def _declared_axes(tensor: Tensor, layer: nn.Module | None) -> Axes | None:
    """Return where the channels are by what the layer is: a convolution's come first, a linear map's last."""
    if isinstance(layer, _CHANNELS_FIRST):
        return "first"
    if isinstance(layer, nn.Linear):
        return "last"
    if isinstance(layer, nn.LayerNorm):
        width = layer.normalized_shape[-1]
        first_fits, last_fits = tensor.shape[1] == width, tensor.shape[3] == width
        if first_fits and last_fits:
            return "first" if "2d" in type(layer).__name__.lower() else "last"
        return "first" if first_fits else "last"
    return None


@contextmanager
def _hooked(module: nn.Module, tracer: _Tracer) -> Iterator[None]:
    handles = []
    try:
        for name, layer in module.named_modules():

            def before(layer: nn.Module, received: tuple[Any, ...], name: str = name) -> None:
                tracer.before(name, layer, received)

            def after(layer: nn.Module, received: tuple[Any, ...], output: Any, name: str = name) -> None:
                tracer.after(name, layer, received, output)

            handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
        yield
    finally:
        for handle in handles:
            handle.remove()
