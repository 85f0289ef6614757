"""Nearness: how much of the seed is left in a picture."""

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import conv2d

from accentor.engine.evaluate.values import clean_views
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError

WINDOW = 11
SIGMA = 1.5
K1 = 0.01
K2 = 0.03
"""The constants of Wang et al. 2004: an 11 × 11 Gaussian window of σ = 1.5 pixels; C₁ = K₁², C₂ = K₂² for 0..1."""


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Return the structural similarity [N] of images in 0..1: 1 for equal ones, about 0 for unrelated ones.

    ((2 μₐ μ_b + C₁)(2 σ_ab + C₂)) / ((μₐ² + μ_b² + C₁)(σₐ² + σ_b² + C₂)), the mean over colours and over all places
    where the window fits (Wang, Bovik, Sheikh, Simoncelli, IEEE Transactions on Image Processing 13, 2004).

    Parameters
    ----------
    images, others
        [N, C, H, W] in 0..1, height and width at least 11.

    Raises
    ------
    InvalidRequestError
        If the shapes differ, or the images are smaller than the window.
    """
    if images.shape != others.shape or images.dim() != 4 or min(images.shape[2:]) < WINDOW:
        raise InvalidRequestError(
            f"the images have shapes {list(images.shape)} and {list(others.shape)}: expected [N, C, H, W] twice, height"
            f" and width at least {WINDOW}"
        )
    a, b = images.double(), others.double()
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a, var_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    structure = (2 * covariance + K2**2) / (var_a + var_b + K2**2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def latent_distance(model: Model, images: Tensor, seeds: Tensor, layer: str | None = None) -> Tensor:
    """Return the distance [N] of whole images to their seeds in a layer, in parts of the seeds' own activations.

    The mean over positions of ‖h(x) − h(x₀)‖₂ over channels, divided by the same mean of ‖h(x₀)‖₂: 0 for the seed
    itself, about 1 where nothing is left of it.

    Parameters
    ----------
    model
        From `load_model`.
    images, seeds
        [N, 3, H, W] in 0..1.
    layer
        ℓ; none: the model's regularisation layer.
    """
    name = layer or model.card.regularization_layer
    model.card.layer(name)
    with model.frozen(), torch.no_grad():
        here, there = (
            model.activations(clean_views(model, batch), frozenset({name}))[name] for batch in (images, seeds)
        )
    return (_mean_norm(here - there) / _mean_norm(there)).cpu()


def _mean_norm(activations: Tensor) -> Tensor:
    """Return the mean over positions [N] of the L2 norm over channels of [N, C, H, W], [N, tokens, C] or [N, C]."""
    channels = 2 if activations.dim() == 3 else 1
    norms: Tensor = vector_norm(activations, dim=channels)
    return norms.view(len(norms), -1).mean(dim=1)


def _smooth(images: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, 1)[:, None]
    smoothed = conv2d(conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return smoothed.view(*images.shape[:2], *smoothed.shape[2:])
