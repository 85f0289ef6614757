"""The gradient that a convolution passes to an image: the same sums, in a form that fills the processor.

Convolutions on a CPU compute 8 or 16 channels at a time, of which an image has three: a quarter of a step of SqueezeNet
was spent here (benchmarks/README.md). The gradient is a convolution itself, and the pixels of a square can be its
channels.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, conv2d
from torch.autograd.function import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

MAX_CHANNELS = 4
"""Of an input that counts as an image; with six and more there was little to gain, or nothing."""

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def stemmed(*, wanted: bool = True) -> AbstractContextManager[Any]:
    """Return a context in which convolutions of images pass their gradients by `image_gradient`.

    Those of real inputs [B, C, H, W] on a CPU with at most four channels, frozen weights, one group, no dilation, and
    one stride for both axes, outside of autocast. Values are PyTorch's, and the network is not touched. What is
    scripted is not seen.

    Parameters
    ----------
    wanted
        Whether to do so at all.
    """
    return _Stems() if wanted else nullcontext()


def image_gradient(
    gradient: Tensor, weight: Tensor, size: tuple[int, int], stride: int, padding: tuple[int, int]
) -> Tensor:
    """Return the gradient of a convolution by its input.

    The output at i sums w_k x_{s i + k - p} over k. Pixels are taken in squares with sides of r = R s, where R is 2 for
    a stride of 1, whose squares would be single pixels, and else 1. The gradient of the pixel a of the square q, at
    r q + a - p, is the sum over t of w_{a - s (t - L)} g_{R q + t - L}, L = ⌊(K - 1) / s⌋: all r² C pixels of a square
    are so many channels of one convolution of stride R.

    Parameters
    ----------
    gradient
        That by the output, [B, O, H', W'].
    weight
        [O, C, K, K'].
    size
        H and W of the input.
    stride, padding
        s ≥ 1, and p on each side of the two axes.

    Returns
    -------
    Tensor
        [B, C, H, W].
    """
    ratio = 2 if stride == 1 else 1
    block = ratio * stride
    kernel = _taps(_taps(weight, 2, stride, block), 4, stride, block)
    kernel = kernel.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).contiguous(memory_format=torch.channels_last)
    before = [(length - 1) // stride for length in weight.shape[2:]]
    needed = [ratio * ((p + n - 1) // block) + taps for p, n, taps in zip(padding, size, kernel.shape[2:], strict=True)]
    there = [given + 2 * left for given, left in zip(gradient.shape[2:], before, strict=True)]
    below, right = (max(0, want - have) for want, have in zip(needed, there, strict=True))
    if below or right:  # The last squares reach beyond the output.
        gradient = functional.pad(gradient, (0, right, 0, below))
    image = functional.pixel_shuffle(conv2d(gradient, kernel, None, ratio, before), block)
    (top, left), (height, width) = padding, size
    return image[:, :, top : top + height, left : left + width]


def _taps(weight: Tensor, axis: int, stride: int, block: int) -> Tensor:
    """Return weights whose axis k is two, of places t and of pixels a: that at a - s (t - L), 0 where there is none."""
    length, device = weight.shape[axis], weight.device
    places = torch.arange(-((length - 1) // stride), block // stride, device=device)[:, None]
    wanted = torch.arange(block, device=device) - stride * places
    inside = (wanted >= 0) & (wanted < length)
    spread = weight.index_select(axis, wanted.clamp(0, length - 1).flatten())
    shape = (*weight.shape[:axis], *wanted.shape, *weight.shape[axis + 1 :])
    return spread.view(shape) * inside.view(*inside.shape, *[1] * (weight.dim() - axis - 1))


class _Stems(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is conv2d:
            read = _read(dict(zip(_ARGUMENTS, args, strict=False)) | given)
            if read is not None:
                return _Convolved.apply(*read)
        return func(*args, **given)


def _read(given: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, int, tuple[int, int]] | None:
    """Return input, weight, bias, stride and padding of a convolution of images; none of any other."""
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    stride, padding = (_both(given.get(name, usual)) for name, usual in (("stride", 1), ("padding", 0)))
    is_image = x.dim() == 4 and x.shape[1] <= MAX_CHANNELS and x.device.type == "cpu" and x.is_floating_point()
    needs = torch.is_grad_enabled() and x.requires_grad and not torch.is_autocast_enabled("cpu")
    frozen = not (weight.requires_grad or (bias is not None and bias.requires_grad))
    plain = _both(given.get("dilation", 1)) == (1, 1) and given.get("groups", 1) == 1 and stride[0] == stride[1]
    if not (is_image and needs and frozen and plain and all(isinstance(one, int) for one in padding)):
        return None
    return x, weight, bias, stride[0], padding


def _both(value: Any) -> tuple[Any, Any]:
    """Return an argument for both axes."""
    first, *others = value if isinstance(value, tuple | list) else (value,)
    return first, others[0] if others else first


class _Convolved(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding = x.shape[2:], stride, padding
        return conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        return image_gradient(gradient, weight, ctx.size, ctx.stride, ctx.padding), None, None, None, None
