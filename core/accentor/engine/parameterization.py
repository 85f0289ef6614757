"""Parameterisations: θ, what Adam moves, and the image x = img(θ), of any size and number of channels.

From a seed all three start at it: img(θ₀) = x₀ up to rounding for ``pixel`` and ``fourier``; ``phase`` starts with
every magnitude attenuated by σ(5) = 0.9933. Formulas: Hamblin et al., arXiv 2402.10039, and its library faccent 1.0.3.

From noise they are plain feature visualisation: ``pixel`` and ``fourier`` start at grey with Gaussian θ, as Lucid does;
``phase`` is MACO (Fel et al., arXiv 2306.06805), random phases under the magnitudes of natural images.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.fft import irfft2, rfft2
from torch.nn.functional import pad

from accentor.engine.color import LOGIT_EPS, color_matrix, decorrelation, mix
from accentor.errors import InvalidRecipeError
from accentor.spec import Recipe

PIXEL_SCALE = 5.0
FOURIER_SCALE = 5.0
PHASE_SCALE = 1.0
ATTENUATION_START = 5.0

PIXEL_NOISE = 0.05
FOURIER_NOISE = 0.01
"""Standard deviations of θ from noise, as in the reference (faccent 1.0.3)."""

FADE = 0.02
"""Share of an image's longer side over which its edge fades into the border's noise, as in the reference."""

Generators = Sequence[torch.Generator]


class Parameterization(ABC):
    """N images of one size as parameters θ; ``image()`` gives x = img(θ), [N, C, H, W] in 0..1."""

    exact: bool
    """Whether img(θ₀) is the seed up to rounding."""

    parameters: tuple[Tensor, ...]
    """θ: leaves that require gradients, one row per image."""

    @abstractmethod
    def image(self) -> Tensor:
        """Return x = img(θ), [N, C, H, W] in 0..1."""

    def set_image(self, images: Tensor, moved: Tensor) -> None:
        """Set θ to what gives these images [N, C, H, W], where ``moved`` [N] is true; the other rows stay as they are.

        Raises
        ------
        InvalidRecipeError
            If the parameterisation cannot give every image.
        """
        theta = self._invert(images)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, theta, strict=True):
                rows = moved.view(-1, *[1] * (value.dim() - 1))
                parameter.copy_(torch.where(rows, value, parameter))

    def _invert(self, images: Tensor) -> tuple[Tensor, ...]:
        raise InvalidRecipeError(
            f"{type(self).__name__.lower()} cannot take on every image, so its images cannot be projected onto a ball:"
            " expected parameterization pixel or fourier"
        )


class Pixel(Parameterization):
    """θ = s · decorrelate(logit x₀), or from noise N(0, 0.05²);  x = σ(recorrelate(θ / s)),  s = 5.

    Parameters
    ----------
    seeds
        [N, C, H, W] in 0..1.
    generators
        One per image: then θ starts from noise, and of the seeds only the shape counts.
    """

    def __init__(self, seeds: Tensor, generators: Generators | None = None) -> None:
        self.exact = generators is None
        self._colors = color_matrix(seeds.shape[1]).to(seeds) / PIXEL_SCALE
        self._inverse = decorrelation(seeds)
        start = self._invert(seeds) if generators is None else (PIXEL_NOISE * _gauss(generators, seeds),)
        self.parameters = (_leaf(start[0]),)

    def image(self) -> Tensor:
        """Return x = img(θ), [N, C, H, W] in 0..1."""
        return _squash(self.parameters[0], self._colors)

    def _invert(self, images: Tensor) -> tuple[Tensor, ...]:
        return (PIXEL_SCALE * _logit_colors(images, self._inverse),)


class Fourier(Parameterization):
    """θ = F_ortho(s · decorrelate(logit x₀)) / S, real and imaginary parts;  x = σ(recorrelate(F⁻¹_ortho(θ S) / s)).

    S(f) = 1 / max(|f|, 1/max(H, W))^d scales the spectrum so that Adam's equal steps move low frequencies more. From
    noise θ is N(0, 0.01²).

    Parameters
    ----------
    seeds
        [N, C, H, W] in 0..1.
    decay
        d, from 0.
    generators
        One per image: then θ starts from noise, and of the seeds only the shape counts.
    """

    def __init__(self, seeds: Tensor, decay: float = 1.0, generators: Generators | None = None) -> None:
        self.exact = generators is None
        self._size = (seeds.shape[2], seeds.shape[3])
        self._scale = spectrum_scale(*self._size, decay).to(seeds)
        self._colors = color_matrix(seeds.shape[1]).to(seeds) / FOURIER_SCALE
        self._inverse = decorrelation(seeds)
        (start,) = self._invert(seeds)
        if generators is not None:
            start = FOURIER_NOISE * _gauss(generators, start)
        self.parameters = (_leaf(start),)

    def image(self) -> Tensor:
        """Return x = img(θ), [N, C, H, W] in 0..1."""
        spectrum = torch.view_as_complex(self.parameters[0]) * self._scale
        return _squash(irfft2(spectrum, s=self._size, norm="ortho"), self._colors)

    def _invert(self, images: Tensor) -> tuple[Tensor, ...]:
        spectrum = rfft2(FOURIER_SCALE * _logit_colors(images, self._inverse), norm="ortho")
        return (torch.view_as_real(spectrum / self._scale),)


class Phase(Parameterization):
    """θ = (φ, a);  x = σ(recorrelate(F⁻¹(m · σ(a) · e^{iφ}) / s)),  s = 1, with the seed's magnitudes m kept.

    Magnitudes can be attenuated, σ(a) < 1, but never amplified. Without attenuation θ = φ. From noise the phases are
    those of white noise, so that they are uniform and |F(logit x)| is m, and the mean colour is grey.

    Parameters
    ----------
    seeds
        [N, C, H, W] in 0..1.
    generators
        One per image: then the phases start from noise, and of the seeds only the shape counts.
    attenuate
        Whether the magnitudes may be attenuated.
    spectrum
        m [C, H, W // 2 + 1] from noise, such as a `mean_spectrum`; none: `natural_spectrum`.
    """

    def __init__(
        self,
        seeds: Tensor,
        generators: Generators | None = None,
        *,
        attenuate: bool = True,
        spectrum: Tensor | None = None,
    ) -> None:
        self.exact = generators is None and not attenuate
        self._size = (seeds.shape[2], seeds.shape[3])
        self._colors = color_matrix(seeds.shape[1]).to(seeds) / PHASE_SCALE
        if generators is None:
            start = rfft2(PHASE_SCALE * _logit_colors(seeds, decorrelation(seeds)))
            self._magnitude = start.abs()
        else:
            start = rfft2(_gauss(generators, seeds))
            natural = natural_spectrum(seeds.shape[1], *self._size) if spectrum is None else spectrum
            self._magnitude = natural.to(seeds).expand(start.shape).clone()
            self._magnitude[:, :, 0, 0] = 0.0
        attenuation = (torch.full_like(self._magnitude, ATTENUATION_START),) if attenuate else ()
        # Each by itself: the last angle of a tensor is rounded otherwise, and Adam's first steps are of full length.
        phase = torch.stack([one.angle() for one in start])
        self.parameters = tuple(_leaf(part) for part in (phase, *attenuation))

    def image(self) -> Tensor:
        """Return x = img(θ), [N, C, H, W] in 0..1."""
        spectrum: Tensor = _Polar.apply(self._magnitude, *self.parameters)
        return _squash(irfft2(spectrum, s=self._size), self._colors)


class Bordered(Parameterization):
    """The middle of larger images: x = crop(img(θ)). Frequencies wrap around in the border, not at the image's edges.

    Parameters
    ----------
    inner
        Of the larger images, such as those of `surround`.
    margin
        Width of the border in pixels.
    """

    def __init__(self, inner: Parameterization, margin: int) -> None:
        self.exact, self.parameters = inner.exact, inner.parameters
        self._inner, self._margin = inner, margin

    def image(self) -> Tensor:
        """Return x = crop(img(θ)), [N, C, H, W] in 0..1."""
        return self._middle(self._inner.image())

    def _middle(self, images: Tensor) -> Tensor:
        margin = self._margin
        return images[:, :, margin:-margin, margin:-margin]

    def _invert(self, images: Tensor) -> tuple[Tensor, ...]:
        larger = self._inner.image().detach().clone()
        self._middle(larger).copy_(images)
        return self._inner._invert(larger)


def surround(seeds: Tensor, margin: int, generators: Generators) -> Tensor:
    """Return the seeds [N, C, H, W] within a border of natural noise, into which their edges fade; each of its own."""
    height, width = seeds.shape[-2:]
    edges = pad(seeds, (margin,) * 4, mode="replicate")
    noise = Phase(edges, generators, attenuate=False).image().detach()
    rows, columns = (_outside(length, margin).to(seeds) for length in (height, width))
    share = (1 - torch.maximum(rows[:, None], columns) / max(FADE * max(height, width), 1.0)).clamp_min(0.0)
    return torch.lerp(noise, edges, share)


def _outside(length: int, margin: int) -> Tensor:
    """Return how far the pixels of a line with a margin are outside of its middle part of this length."""
    at = torch.arange(-margin, length + margin)
    return torch.maximum(-at, at - (length - 1)).clamp_min(0)


def parameterize(
    recipe: Recipe, seeds: Tensor, generators: Generators | None = None, *, spectrum: Tensor | None = None
) -> Parameterization:
    """Return the recipe's parameterisation of the seeds, [N, C, H, W] in 0..1.

    Parameters
    ----------
    recipe
        Says the form and where it starts.
    seeds
        Where it starts; from noise only their shape counts.
    generators
        The noise of each image comes from its own, so that it does not depend on its batch mates.
    spectrum
        The magnitudes m [C, H, W // 2 + 1] of ``phase`` from noise; none: `natural_spectrum`.

    Raises
    ------
    InvalidRecipeError
        If the recipe starts from noise or has a border, and there are not as many generators as seeds.
    """
    noisy = recipe.start == "noise"
    if (noisy or recipe.border > 0) and len(generators or ()) != len(seeds):
        raise InvalidRecipeError(
            f"{len(generators or ())} random generators for {len(seeds)} images: from noise each needs one"
        )
    sources = generators if noisy else None
    if margin := round(recipe.border * max(seeds.shape[-2:])):
        larger = surround(seeds, margin, generators or ())
        return Bordered(_of_form(recipe, larger, sources, spectrum), margin)
    return _of_form(recipe, seeds, sources, spectrum)


def _of_form(recipe: Recipe, seeds: Tensor, sources: Generators | None, spectrum: Tensor | None) -> Parameterization:
    match recipe.parameterization:
        case "pixel":
            return Pixel(seeds, sources)
        case "fourier":
            return Fourier(seeds, recipe.decay, sources)
        case "phase":
            return Phase(seeds, sources, attenuate=sources is None, spectrum=spectrum)


def spectrum_scale(height: int, width: int, decay: float) -> Tensor:
    """Return S [H, W // 2 + 1] = 1 / max(|f|, 1 / max(H, W))^d over the frequencies of a real 2-D FFT."""
    return (1 / _frequencies(height, width).clamp_min(1 / max(height, width)) ** decay).float()


def natural_spectrum(channels: int, height: int, width: int) -> Tensor:
    """Return m [C, H, W // 2 + 1] = A / |f|, the magnitudes of a typical natural image; m(0) = 0.

    The amplitudes of natural images fall as 1/|f| (Field, J. Opt. Soc. Am. A 4, 1987), equally in the decorrelated
    colours. A gives the logits of an image variance 1, as the reference makes them after each step. Where the images
    of a domain are at hand, `mean_spectrum` gives theirs.
    """
    frequency = _frequencies(height, width)
    falling = torch.where(frequency > 0, 1 / frequency.clamp_min(torch.finfo(frequency.dtype).tiny), 0.0)
    energy = (falling.square() * _multiplicity(width)).sum()
    variance = channels / color_matrix(channels).square().sum()
    amplitude = height * width * (variance / energy.clamp_min(1.0)).sqrt()
    return (amplitude * falling).float().expand(channels, -1, -1)


def mean_spectrum(images: Tensor) -> Tensor:
    """Return m [C, H, W // 2 + 1], the mean of |F(decorrelate(logit x))| over images [K, C, H, W] in 0..1."""
    spectrum: Tensor = rfft2(PHASE_SCALE * _logit_colors(images, decorrelation(images)))
    return spectrum.abs().mean(dim=0)


def _frequencies(height: int, width: int) -> Tensor:
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]
    return torch.hypot(rows, columns)


def _multiplicity(width: int) -> Tensor:
    """Return how often each column of a half spectrum [W // 2 + 1] stands in the whole one."""
    columns = torch.arange(width // 2 + 1)
    return torch.where((columns == 0) | (2 * columns == width), 1, 2)


def _logit_colors(pixels: Tensor, inverse: Tensor) -> Tensor:
    return mix(torch.logit(pixels, eps=LOGIT_EPS), inverse)


def _gauss(generators: Generators, like: Tensor) -> Tensor:
    """Draw N(0, 1) in the shape of ``like``, each row from its own generator."""
    shape = like.shape[1:]
    return torch.stack([torch.randn(shape, generator=one, device=one.device) for one in generators]).to(like)


def _leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_()


def _squash(z: Tensor, colors: Tensor) -> Tensor:
    """Return x = σ(z C), [N, C, H, W]."""
    pixels: Tensor = _Squash.apply(z, colors)
    return pixels


class _Squash(Function):
    """x = σ(z C), with ∂/∂z = (∂/∂x · x (1 − x)) Cᵀ: one tensor kept instead of three."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, colors: Tensor) -> Tensor:
        pixels = mix(z, colors).sigmoid_()
        ctx.save_for_backward(pixels, colors)
        return pixels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        pixels, colors = ctx.saved_tensors
        return mix((1 - pixels).mul_(pixels).mul_(gradient), colors.mT), None


class _Polar(Function):
    """z = m σ(a) e^{iφ}; with p = z̄ · ∂/∂z, ∂/∂φ = Im p and ∂/∂a = Re p · (1 − σ(a)): no sine in the backward pass."""

    @staticmethod
    def forward(ctx: Any, magnitude: Tensor, phase: Tensor, attenuation: Tensor | None = None) -> Tensor:
        share = None if attenuation is None else attenuation.sigmoid()
        spectrum = torch.polar(magnitude if share is None else magnitude * share, phase)
        ctx.save_for_backward(spectrum, *(() if share is None else (share,)))
        return spectrum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spectrum, *share = ctx.saved_tensors
        product = spectrum.conj() * gradient
        return None, product.imag, *(product.real * (1 - one) for one in share)
