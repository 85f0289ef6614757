"""The opacity map: where in the image the feature was accentuated."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

BLUR_TRUNCATE = 4.0
"""The blur's kernel ends at this many standard deviations (SciPy's default, which the reference uses)."""


def opacity_map(accumulated: Tensor, percentile: float = 80.0, blur: float = 2.0) -> Tensor:
    """Return the opacity maps [N, H, W] in 0..1 of accumulated gradients |∂f/∂x| [N, 3, H, W].

    Mean over colour, clipped at the percentile, divided by the maximum, blurred by a Gaussian of σ = ``blur`` pixels.
    A pair whose gradient was zero throughout has a map of zeros.
    """
    strength = accumulated.mean(dim=1)
    ceiling = torch.stack([torch.quantile(one.flatten(), percentile / 100) for one in strength])[:, None, None]
    clipped = torch.where(ceiling > 0, strength.minimum(ceiling), strength)
    top = clipped.amax(dim=(1, 2), keepdim=True)
    return gaussian_blur(clipped / top.clamp_min(torch.finfo(top.dtype).tiny), blur).clamp(0.0, 1.0)


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps [N, H, W] with a Gaussian of σ pixels, the border mirrored (edge pixels repeated)."""
    if sigma == 0:
        return maps
    radius = int(BLUR_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    height, width = maps.shape[-2:]
    padded = maps[:, _mirrored(height, radius, maps.device)][:, :, _mirrored(width, radius, maps.device)]
    rows = conv2d(padded[:, None], kernel.view(1, 1, -1, 1))
    return conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    index = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)
