"""The opacity map: where in the image the feature was accentuated."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from accentor.errors import InvalidRequestError

BLUR_TRUNCATE = 4.0
"""The blur's kernel ends at this many standard deviations (SciPy's default, which the reference uses)."""


def opacity_map(accumulated: Tensor, percentile: float = 80.0, blur: float = 2.0) -> Tensor:
    """Return the opacity maps [N, H, W] in 0..1 of accumulated gradients |∂f/∂x| [N, C, H, W].

    Mean over colour, clipped at the percentile, divided by the maximum, blurred by a Gaussian of σ = ``blur`` pixels.
    A pair whose gradient was zero throughout has a map of zeros.
    """
    return opacity_of(accumulated.mean(dim=1), percentile, blur)


def opacity_of(
    strength: Tensor, percentile: float = 80.0, blur: float = 2.0, floor: float = 0.0, ramp: float = 1.0
) -> Tensor:
    """Return the opacity maps [N, H, W] in 0..1 of gradients accumulated over steps and meaned over colour [N, H, W].

    ``blur(clip((g − q_floor) / (min(q_percentile, max g) − q_floor), 0, 1)) ^ ramp``, where q are percentiles of the
    map's own values and q_0 is 0. Where more pixels than the percentile leaves are zero, the maximum takes its place.

    Parameters
    ----------
    strength
        At least 0, float.
    percentile
        Percentile of the values at and above which all are opaque, above 0 to 100: lower shows more of the image.
    blur
        σ of the Gaussian in pixels.
    floor
        Percentile at and below which nothing is opaque, 0 to below ``percentile``; 0: only no gradient is.
    ramp
        Exponent of the finished map, above 0: above 1 the faint vanishes, below 1 it comes forward.

    Raises
    ------
    InvalidRequestError
        If an option is out of its range.
    """
    _check(percentile, blur, floor, ramp)
    ceiling, ground = (_percentile(strength, level) for level in (percentile, floor))
    top = torch.where(ceiling > ground, ceiling, strength.amax(dim=(1, 2), keepdim=True))
    span = (top - ground).clamp_min(torch.finfo(strength.dtype).tiny)
    opaque = ((strength - ground) / span).clamp(0.0, 1.0)
    return gaussian_blur(opaque, blur).clamp(0.0, 1.0) ** ramp


def _percentile(strength: Tensor, level: float) -> Tensor:
    """Return the percentile of each map, [N, 1, 1]; 0 for level 0."""
    if level == 0:
        return strength.new_zeros(len(strength), 1, 1)
    return torch.stack([torch.quantile(one.flatten(), level / 100) for one in strength])[:, None, None]


def _check(percentile: float, blur: float, floor: float, ramp: float) -> None:
    if not 0.0 < percentile <= 100.0:
        raise InvalidRequestError(f"the percentile is {percentile:g}: expected above 0, to 100")
    if not 0.0 <= floor < percentile:
        raise InvalidRequestError(f"the floor is {floor:g}: expected 0 to below the percentile, {percentile:g}")
    if not 0.0 <= blur < float("inf"):
        raise InvalidRequestError(f"the blur is {blur:g} px: expected 0 or more")
    if not 0.0 < ramp < float("inf"):
        raise InvalidRequestError(f"the ramp is {ramp:g}: expected above 0")


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
