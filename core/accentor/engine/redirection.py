"""Redirected ReLU: a gradient for features that are off, where every ReLU on the way is off too."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from accentor.engine.relus import ReluMode


def redirected(*, wanted: bool = True) -> AbstractContextManager[Any]:
    """Return a context in which the gradient passes where a ReLU or ReLU6 blocks all of it.

    For each sample of a ReLU's input x, with the gradient g of a feature that is to rise:

    - gradient passes as usual where 0 < x (and x < 6 for ReLU6), as long as any of it passes anywhere in the sample;
    - if it is zero everywhere in the sample, it also passes where it pushes x back towards the open range: where x ≤ 0
      and g > 0, and for ReLU6 where x ≥ 6 and g < 0.

    This is the rule of Lucid's ``redirected_relu_grad`` (github.com/tensorflow/lucid), which descends a loss: its signs
    are the opposite of ours. Values are those of a plain ReLU; samples do not mix. Every ReLU that is computed by
    PyTorch's functions or modules within the context is redirected, and the network itself is not touched. What is
    scripted is not.

    Parameters
    ----------
    wanted
        Whether to redirect at all.
    """
    return _Redirection() if wanted else nullcontext()


class _Redirection(ReluMode):
    def relu(self, x: Tensor, top: float | None, *, in_place: bool) -> Tensor | None:
        if x.dim() < 2 or not (torch.is_grad_enabled() and x.requires_grad):
            return None
        redirected: Tensor = _Redirected.apply(x, top, in_place)
        return redirected


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
