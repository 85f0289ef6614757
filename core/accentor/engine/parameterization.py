"""Parameterisations: θ, what Adam moves, and the image x = img(θ).

All three start at the seed: img(θ₀) = x₀ up to rounding for ``pixel`` and ``fourier``; ``phase`` starts with every
magnitude attenuated by σ(5) = 0.9933. Formulas: Hamblin et al., arXiv 2402.10039, and its library faccent 1.0.3.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2

from accentor.engine.color import LOGIT_EPS, decorrelate, recorrelate
from accentor.spec import Recipe

PIXEL_SCALE = 5.0
FOURIER_SCALE = 5.0
PHASE_SCALE = 1.0
ATTENUATION_START = 5.0


class Parameterization(ABC):
    """N images of one size as parameters θ; ``image()`` gives x = img(θ), [N, 3, H, W] in 0..1."""

    exact: bool = True
    """Whether img(θ₀) is the seed up to rounding."""

    parameters: tuple[Tensor, ...]
    """θ: leaves that require gradients, one row per image."""

    @abstractmethod
    def image(self) -> Tensor:
        """Return x = img(θ), [N, 3, H, W] in 0..1."""


class Pixel(Parameterization):
    """θ = s · decorrelate(logit x₀);  x = σ(recorrelate(θ / s)),  s = 5."""

    def __init__(self, seeds: Tensor) -> None:
        self.parameters = (_leaf(PIXEL_SCALE * _logit_colors(seeds)),)

    def image(self) -> Tensor:
        """Return x = img(θ), [N, 3, H, W] in 0..1."""
        return _pixels(self.parameters[0] / PIXEL_SCALE)


class Fourier(Parameterization):
    """θ = F_ortho(s · decorrelate(logit x₀)) / S, real and imaginary parts;  x = σ(recorrelate(F⁻¹_ortho(θ S) / s)).

    S(f) = 1 / max(|f|, 1/max(H, W))^d scales the spectrum so that Adam's equal steps move low frequencies more.
    """

    def __init__(self, seeds: Tensor, decay: float = 1.0) -> None:
        self._size = (seeds.shape[2], seeds.shape[3])
        self._scale = spectrum_scale(*self._size, decay).to(seeds)[..., None]
        spectrum = rfft2(FOURIER_SCALE * _logit_colors(seeds), norm="ortho")
        self.parameters = (_leaf(torch.view_as_real(spectrum) / self._scale),)

    def image(self) -> Tensor:
        """Return x = img(θ), [N, 3, H, W] in 0..1."""
        spectrum = torch.view_as_complex(self.parameters[0] * self._scale)
        return _pixels(irfft2(spectrum, s=self._size, norm="ortho") / FOURIER_SCALE)


class Phase(Parameterization):
    """θ = (φ, a);  x = σ(recorrelate(F⁻¹(m · σ(a) · e^{iφ}) / s)),  s = 1, with the seed's magnitudes m kept.

    Magnitudes can be attenuated, σ(a) < 1, but never amplified.
    """

    exact = False

    def __init__(self, seeds: Tensor) -> None:
        self._size = (seeds.shape[2], seeds.shape[3])
        spectrum = rfft2(PHASE_SCALE * _logit_colors(seeds))
        self._magnitude = spectrum.abs()
        self.parameters = (
            _leaf(spectrum.angle()),
            _leaf(torch.full_like(self._magnitude, ATTENUATION_START)),
        )

    def image(self) -> Tensor:
        """Return x = img(θ), [N, 3, H, W] in 0..1."""
        phase, attenuation = self.parameters
        spectrum = torch.polar(self._magnitude * attenuation.sigmoid(), phase)
        return _pixels(irfft2(spectrum, s=self._size) / PHASE_SCALE)


def parameterize(recipe: Recipe, seeds: Tensor) -> Parameterization:
    """Return the recipe's parameterisation of the seeds, [N, 3, H, W] in 0..1."""
    match recipe.parameterization:
        case "pixel":
            return Pixel(seeds)
        case "fourier":
            return Fourier(seeds, recipe.decay)
        case "phase":
            return Phase(seeds)


def spectrum_scale(height: int, width: int, decay: float) -> Tensor:
    """Return S [H, W // 2 + 1] = 1 / max(|f|, 1 / max(H, W))^d over the frequencies of a real 2-D FFT."""
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]
    frequency = torch.hypot(rows, columns).clamp_min(1 / max(height, width))
    return (1 / frequency**decay).float()


def _logit_colors(pixels: Tensor) -> Tensor:
    return decorrelate(torch.logit(pixels, eps=LOGIT_EPS))


def _pixels(colors: Tensor) -> Tensor:
    return recorrelate(colors).sigmoid()


def _leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_()
