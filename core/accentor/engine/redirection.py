"""Redirected ReLU: a gradient for features that are off, where every ReLU on the way is off too."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.overrides import TorchFunctionMode

RELU6 = 6.0
RELUS: frozenset[Callable[..., Any]] = frozenset(
    {nn.functional.relu, torch.relu, torch.relu_, nn.functional.relu_, Tensor.relu, Tensor.relu_}
)
_IN_PLACE: frozenset[Callable[..., Any]] = frozenset({torch.relu_, nn.functional.relu_, Tensor.relu_})
_CLAMPS: frozenset[Callable[..., Any]] = frozenset(
    {nn.functional.relu6, nn.functional.hardtanh, nn.functional.hardtanh_}
)


def redirected(*, wanted: bool = True) -> AbstractContextManager[Any]:
    """Return a context in which the gradient passes where a ReLU or ReLU6 blocks all of it.

    For each sample of a ReLU's input x, with the gradient g of a feature that is to rise:

    - gradient passes as usual where 0 < x (and x < 6 for ReLU6), as long as any of it passes anywhere in the sample;
    - if it is zero everywhere in the sample, it also passes where it pushes x back towards the open range: where x ≤ 0
      and g > 0, and for ReLU6 where x ≥ 6 and g < 0.

    This is the rule of Lucid's ``redirected_relu_grad`` (github.com/tensorflow/lucid), which descends a loss: its signs
    are the opposite of ours. Values are those of a plain ReLU; samples do not mix. Every ReLU that is computed by
    PyTorch's functions or modules within the context is redirected, and the network itself is not touched. What is
    compiled or scripted is not.

    Parameters
    ----------
    wanted
        Whether to redirect at all.
    """
    return _Redirection() if wanted else nullcontext()


class _Redirection(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in RELUS and func not in _CLAMPS:
            return func(*args, **kwargs)
        x, top, in_place = read_call(func, args, kwargs)
        if top == 0 or x.dim() < 2 or not (torch.is_grad_enabled() and x.requires_grad):
            return func(*args, **kwargs)
        return _Redirected.apply(x, top, in_place)


def read_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, float | None, bool]:
    """Return x, where the function is cut off above (none: nowhere; 0: it is no ReLU), and whether it is in place."""
    given = dict(zip(("input", "inplace"), args, strict=False))
    if func in RELUS or func is nn.functional.relu6:
        given |= kwargs
        top = RELU6 if func is nn.functional.relu6 else None
        return given["input"], top, func in _IN_PLACE or bool(given.get("inplace", False))
    given = dict(zip(("input", "min_val", "max_val", "inplace"), args, strict=False)) | kwargs
    is_relu6 = (given.get("min_val", -1.0), given.get("max_val", 1.0)) == (0.0, RELU6)
    in_place = func is nn.functional.hardtanh_ or bool(given.get("inplace", False))
    return given["input"], RELU6 if is_relu6 else 0.0, in_place


class _Redirected(Function):
    """ReLU (``top`` none) or ReLU6, with the gradient of `redirected`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float | None, in_place: bool) -> Tensor:  # noqa: FBT001
        above = x >= top if top is not None else None
        below = x <= 0
        ctx.save_for_backward(below, above)
        if in_place:
            ctx.mark_dirty(x)
            return x.clamp_(0, top)
        return x.clamp(0, top)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        below, above = ctx.saved_tensors
        shut = below if above is None else below | above
        passed = gradient.masked_fill(shut, 0)
        useless = below & (gradient <= 0)
        if above is not None:
            useless |= above & (gradient >= 0)
        blocked = (passed == 0).flatten(1).all(dim=1).view(-1, *[1] * (passed.dim() - 1))
        return torch.where(blocked, gradient.masked_fill(useless, 0), passed), None, None
