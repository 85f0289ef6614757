"""Parameterisations: they start at the seed, follow their formulas, and differentiate."""

import math

import pytest
import torch

from accentor.engine.color import COLOR_CORRELATION, decorrelate, recorrelate
from accentor.engine.parameterization import Fourier, Phase, Pixel, parameterize, spectrum_scale
from accentor.spec import Recipe

SIZES = [(16, 16), (17, 23), (9, 144), (32, 5), (1, 7), (2, 2)]
FORMS = [Pixel, Fourier, Phase]


def seeds(count, size, seed=0, dtype=torch.float32):
    """Random images with some pixels exactly 0 and 1."""
    images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    images[:, :, 0, 0] = 0.0
    images[:, 1, -1, -1] = 1.0
    return images


def test_colors():
    """Lucid's matrix over its largest column norm, as method.md writes it; pixels are row vectors."""
    expected = torch.tensor(
        [
            [0.56282854, 0.58447580, 0.58447580],
            [0.19482528, 0.0, -0.19482528],
            [0.04329450, -0.10823626, 0.06494176],
        ]
    )
    torch.testing.assert_close(COLOR_CORRELATION, expected, atol=1e-7, rtol=0)
    z = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 2, 5)
    by_hand = expected[0] + 2 * expected[1] + 3 * expected[2]
    torch.testing.assert_close(recorrelate(z)[0, :, 1, 4], by_hand)
    torch.testing.assert_close(decorrelate(recorrelate(z)), z)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [Pixel, Fourier])
def test_starts_at_the_seed(form, size):
    images = seeds(2, size)
    torch.testing.assert_close(form(images).image().detach(), images, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_phase_starts_with_every_magnitude_attenuated(size):
    """F⁻¹(σ(5) · F(z)) = σ(5) · z: the logits of the seed are scaled by 0.9933."""
    images = seeds(2, size)
    expected = torch.sigmoid(torch.logit(images, eps=1e-6) / (1 + math.exp(-5)))
    torch.testing.assert_close(Phase(images).image().detach(), expected, atol=2e-5, rtol=0)


def test_phase_never_amplifies():
    images = seeds(1, (17, 23))
    theta = Phase(images)
    with torch.no_grad():
        theta.parameters[1].fill_(1e3)
    torch.testing.assert_close(theta.image().detach(), images, atol=2e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_uniform_images(form, value):
    """All black, white or grey: the spectrum is zero but for one frequency, and gradients stay finite."""
    theta = form(torch.full((1, 3, 8, 10), value))
    image = theta.image()
    assert (image - value).abs().max() < 1e-4
    for gradient in torch.autograd.grad(image.sum(), theta.parameters):
        assert gradient.isfinite().all()


def test_by_hand():
    """One pixel of grey moved along the first, achromatic axis; and the constant frequency of a grey image."""
    grey = torch.full((1, 3, 4, 6), 0.5)
    pixel = Pixel(grey)
    with torch.no_grad():
        pixel.parameters[0][0, 0, 2, 3] = 5.0
    expected = torch.sigmoid(COLOR_CORRELATION[0])
    torch.testing.assert_close(pixel.image()[0, :, 2, 3].detach(), expected)
    assert (pixel.image()[0, :, 0, 0] == 0.5).all()
    fourier = Fourier(grey)
    with torch.no_grad():
        fourier.parameters[0][0, 0, 0, 0, 0] = 1.0
    # S(0) = 1 / (1/6) = 6; the orthonormal inverse of a constant frequency spreads it by 1/sqrt(24); s = 5
    torch.testing.assert_close(
        fourier.image()[0, :, 1, 1].detach(), torch.sigmoid(6 / math.sqrt(24) / 5 * COLOR_CORRELATION[0])
    )


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.5])
def test_spectrum_scale(decay):
    scale = spectrum_scale(5, 8, decay)
    assert scale.shape == (5, 5)
    assert scale[0, 0].item() == pytest.approx(8**decay)
    assert scale[1, 0].item() == pytest.approx((1 / 0.2) ** decay)
    assert scale[4, 3].item() == pytest.approx((1 / math.hypot(0.2, 3 / 8)) ** decay)
    assert scale[2, 4].item() == pytest.approx((1 / math.hypot(0.4, 0.5)) ** decay)


def test_decay_reaches_the_form():
    images = seeds(1, (8, 8))
    flat, steep = (parameterize(Recipe(decay=decay), images).parameters[0] for decay in (0.0, 2.0))
    torch.testing.assert_close(flat, steep * spectrum_scale(8, 8, 2.0)[..., None])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradient(form, size):
    theta = form(0.1 + 0.8 * seeds(1, size, dtype=torch.float64))

    def image(*parameters):
        theta.parameters = parameters
        return theta.image()

    start = tuple((0.3 * p if form is Phase else p).detach().clone().requires_grad_() for p in theta.parameters)
    assert torch.autograd.gradcheck(image, start, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_images_do_not_mix(form):
    theta = form(seeds(3, (6, 7)))
    for gradient in torch.autograd.grad(theta.image()[1].sum(), theta.parameters):
        assert gradient[1].any()
        assert not gradient[0].any()
        assert not gradient[2].any()


@pytest.mark.parametrize(("name", "form"), [("pixel", Pixel), ("fourier", Fourier), ("phase", Phase)])
def test_names(name, form):
    theta = parameterize(Recipe(parameterization=name), seeds(1, (8, 8)))
    assert type(theta) is form
    assert theta.exact is (form is not Phase)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in theta.parameters)
