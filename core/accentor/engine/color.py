"""Colour decorrelation: the three axes along which the colours of natural images vary independently."""

import torch
from torch import Tensor

LUCID_COLOR_CORRELATION = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""Square root of the colour covariance of ImageNet, as published to two digits in Lucid (``optvis/param/color.py``)."""

COLOR_CORRELATION = (LUCID_COLOR_CORRELATION / LUCID_COLOR_CORRELATION.norm(dim=0).max()).T.contiguous()
"""C [3, 3], rows as in the method: Lucid's matrix divided by its largest column norm, 0.46195, and transposed."""

LOGIT_EPS = 1e-6
"""The seed's pixels are clamped to [ε, 1 − ε] before the logit, as in the reference (faccent 1.0.3)."""


def recorrelate(z: Tensor) -> Tensor:
    """Return z C for decorrelated colours z [..., 3, H, W]: each pixel is a row vector."""
    return torch.einsum("...ihw,ij->...jhw", z, COLOR_CORRELATION.to(z))


def decorrelate(z: Tensor) -> Tensor:
    """Return z C⁻¹ for colours z [..., 3, H, W]: the inverse of `recorrelate`."""
    return torch.einsum("...ihw,ij->...jhw", z, torch.linalg.inv(COLOR_CORRELATION.double()).to(z))
