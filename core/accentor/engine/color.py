"""Colour decorrelation: the three axes along which the colours of natural images vary independently."""

import torch
from torch import Tensor

LUCID_COLOR_CORRELATION = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""Square root of the colour covariance of ImageNet, as published to two digits in Lucid (``optvis/param/color.py``)."""

COLOR_CORRELATION = (LUCID_COLOR_CORRELATION / LUCID_COLOR_CORRELATION.norm(dim=0).max()).T.contiguous()
"""C [3, 3], rows as in the method: Lucid's matrix divided by its largest column norm, 0.46195, and transposed."""

RGB = 3

LOGIT_EPS = 1e-6
"""The seed's pixels are clamped to [ε, 1 − ε] before the logit, as in the reference (faccent 1.0.3)."""


def color_matrix(channels: int) -> Tensor:
    """Return C [channels, channels], float64: Lucid's for three channels, taken to be RGB; else the identity."""
    return COLOR_CORRELATION.double() if channels == RGB else torch.eye(channels, dtype=torch.float64)


def recorrelate(z: Tensor) -> Tensor:
    """Return z C for decorrelated colours z [..., C, H, W]: each pixel is a row vector."""
    return mix(z, color_matrix(z.shape[-3]).to(z))


def decorrelate(z: Tensor) -> Tensor:
    """Return z C⁻¹ for colours z [..., C, H, W]: the inverse of `recorrelate`."""
    return mix(z, decorrelation(z))


def decorrelation(z: Tensor) -> Tensor:
    """Return C⁻¹ for colours z [..., C, H, W], of their type and on their device."""
    inverse: Tensor = torch.linalg.inv(color_matrix(z.shape[-3]))
    return inverse.to(z)


def mix(z: Tensor, matrix: Tensor) -> Tensor:
    """Return z M for pixels z [..., C, H, W] as row vectors and M [C, C]."""
    return (matrix.mT @ z.flatten(-2)).view(z.shape)
