"""ReLUs in bfloat16 on a CPU, by integers of the same bits: the same values, several times as fast.

A bfloat16 number is positive where its bits, read as a signed integer, are; what is not becomes the integer 0, which is
the number 0. By PyTorch's own ReLUs two fifths of a step of SqueezeNet were spent (benchmarks/README.md).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from accentor.engine.relus import ReluMode


def rectified(*, wanted: bool = True) -> AbstractContextManager[Any]:
    """Return a context in which ReLUs of bfloat16 tensors are computed on their bits; others as they are.

    Values and gradients are those of PyTorch, but that NaN mostly becomes 0, as its sign bit is set as a rule: whether
    a picture is finite is for its clean values in float32 to say. The network is not touched.

    Parameters
    ----------
    wanted
        Whether to do so at all.
    """
    return _Rectification() if wanted else nullcontext()


class _Rectification(ReluMode):
    def relu(self, x: Tensor, top: float | None, *, in_place: bool) -> Tensor | None:
        if top is not None or x.dtype != torch.bfloat16:
            return None
        if not (torch.is_grad_enabled() and x.requires_grad):
            return _rectify(x, in_place=in_place)
        rectified: Tensor = _Rectified.apply(x, in_place)
        return rectified


class _Rectified(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, in_place: bool) -> Tensor:  # noqa: FBT001
        if in_place:
            ctx.mark_dirty(x)
        result = _rectify(x, in_place=in_place)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(_bits(gradient), _bits(result), 0)
        return passed.view(torch.bfloat16), None


def _rectify(x: Tensor, *, in_place: bool) -> Tensor:
    if not in_place:
        return _bits(x).clamp_min(0).view(torch.bfloat16)
    _bits(x).clamp_min_(0)
    return x


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int16)
