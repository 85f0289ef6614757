"""Parameterisations: they start at the seed, follow their formulas, and differentiate."""

import math

import pytest
import torch

from accentor.engine.color import COLOR_CORRELATION, decorrelate, recorrelate
from accentor.engine.parameterization import (
    Fourier,
    Phase,
    Pixel,
    mean_spectrum,
    natural_spectrum,
    parameterize,
    spectrum_scale,
    surround,
)
from accentor.errors import InvalidRecipeError
from accentor.spec import Recipe, resolve_recipe

SIZES = [(16, 16), (17, 23), (9, 144), (32, 5), (1, 7), (2, 2)]
FORMS = [Pixel, Fourier, Phase]
CHANNELS = [1, 2, 3, 5]
NAMES = ["pixel", "fourier", "phase"]


def seeds(count, size, seed=0, dtype=torch.float32, channels=3):
    """Random images with some pixels exactly 0 and 1."""
    images = torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    images[:, :, 0, 0] = 0.0
    images[:, -1, -1, -1] = 1.0
    return images


def generators(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def noise(name, size, *numbers, channels=3, **settings):
    """Return the form from noise, one image per random seed."""
    recipe = Recipe(parameterization=name, start="noise", regularization=0.0)
    return parameterize(recipe, seeds(len(numbers), size, channels=channels), generators(*numbers), **settings)


def logit_colors(images):
    return decorrelate(torch.logit(images.double()))


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


@pytest.mark.parametrize("channels", CHANNELS)
def test_only_three_channels_are_colours(channels):
    z = torch.randn(2, channels, 4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(decorrelate(recorrelate(z)), z, atol=1e-5, rtol=1e-5)
    assert torch.equal(recorrelate(z), z) is (channels != 3)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [Pixel, Fourier])
def test_starts_at_the_seed(form, size, channels):
    images = seeds(2, size, channels=channels)
    torch.testing.assert_close(form(images).image().detach(), images, atol=2e-5, rtol=0)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_phase_without_attenuation_starts_at_the_seed(size, channels):
    images = seeds(2, size, channels=channels)
    theta = Phase(images, attenuate=False)
    torch.testing.assert_close(theta.image().detach(), images, atol=2e-5, rtol=0)
    assert theta.exact
    assert len(theta.parameters) == 1


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_phase_starts_with_every_magnitude_attenuated(size, channels):
    """F⁻¹(σ(5) · F(z)) = σ(5) · z: the logits of the seed are scaled by 0.9933."""
    images = seeds(2, size, channels=channels)
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


def plain_image(theta):
    """Return img(θ) by the formulas of the method alone, for automatic differentiation."""
    match theta, theta.parameters:
        case Pixel(), (colors,):
            z = colors / 5
        case Fourier(), (spectrum,):
            height, width = theta._size
            scale = spectrum_scale(height, width, 1.0).double()[..., None]
            z = torch.fft.irfft2(torch.view_as_complex(spectrum * scale), s=theta._size, norm="ortho") / 5
        case _, (phase, *attenuation):
            magnitude = theta._magnitude * (attenuation[0].sigmoid() if attenuation else 1.0)
            spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
            z = torch.fft.irfft2(spectrum, s=theta._size)
    if z.shape[1] == 3:
        z = torch.einsum("nihw,ij->njhw", z, COLOR_CORRELATION.double())
    return 1 / (1 + (-z).exp())


def forms(images):
    return Pixel(images), Fourier(images), Phase(images), Phase(images, attenuate=False)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (16, 9)])
def test_gradient_is_that_of_the_formula(size, channels):
    """Hand-written backward passes against automatic differentiation, away from the seed."""
    for theta in forms(0.1 + 0.8 * seeds(2, size, dtype=torch.float64, channels=channels)):
        with torch.no_grad():
            for i, parameter in enumerate(theta.parameters):
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        weight = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        ours, plain = theta.image(), plain_image(theta)
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(
            torch.autograd.grad((ours * weight).sum(), theta.parameters),
            torch.autograd.grad((plain * weight).sum(), theta.parameters),
        )


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradient_is_that_of_differences(size):
    for theta in forms(0.1 + 0.8 * seeds(1, size, dtype=torch.float64)):

        def image(*parameters, theta=theta):
            theta.parameters = parameters
            return theta.image()

        shrink = 0.3 if isinstance(theta, Phase) else 1.0
        start = tuple((shrink * p).detach().clone().requires_grad_() for p in theta.parameters)
        assert torch.autograd.gradcheck(image, start, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_images_do_not_mix(form):
    theta = form(seeds(3, (6, 7)))
    for gradient in torch.autograd.grad(theta.image()[1].sum(), theta.parameters):
        assert gradient[1].any()
        assert not gradient[0].any()
        assert not gradient[2].any()


@pytest.mark.parametrize("side", range(9, 80, 10))
def test_phases_start_the_same_beside_others(side):
    """To the last bit: where a gradient is all but zero Adam's first steps go by the sign of its rounding."""
    together = Phase(seeds(3, (side, side)))
    for row, one in enumerate(seeds(3, (side, side))):
        alone = Phase(one[None])
        for ours, theirs in zip(together.parameters, alone.parameters, strict=True):
            assert torch.equal(ours[row], theirs[0])


@pytest.mark.parametrize(("name", "form"), list(zip(NAMES, FORMS, strict=True)))
def test_names(name, form):
    theta = parameterize(Recipe(parameterization=name), seeds(1, (8, 8)))
    assert type(theta) is form
    assert theta.exact is (form is not Phase)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in theta.parameters)
    given = parameterize(Recipe(parameterization=name), seeds(1, (8, 8)), generators(0))
    assert torch.equal(given.image(), theta.image())
    dreamt = noise(name, (8, 8), 0)
    assert type(dreamt) is form
    assert not dreamt.exact
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in dreamt.parameters)


# --- from noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "std"), [("pixel", 0.05), ("fourier", 0.01)])
@pytest.mark.parametrize("channels", CHANNELS)
def test_noise_is_small_and_gaussian(name, std, channels):
    theta = noise(name, (64, 49), 0, 1, channels=channels)
    (values,) = theta.parameters
    assert values.mean().item() == pytest.approx(0.0, abs=0.03 * std)
    assert values.std().item() == pytest.approx(std, rel=0.02)
    assert (values**4).mean().item() / values.var().item() ** 2 == pytest.approx(3.0, abs=0.15)
    image = theta.image().detach()
    assert image.mean().item() == pytest.approx(0.5, abs=0.02)
    assert (image - 0.5).abs().max() < 0.3


def test_fourier_noise_is_correlated_as_its_spectrum():
    """The logits' energy at each frequency is (0.01 S / 5)², averaged over 400 images, in the orthonormal transform."""
    theta = noise("fourier", (12, 10), *range(400), channels=1)
    spectrum = torch.fft.rfft2(logit_colors(theta.image().detach()), norm="ortho")
    energy = spectrum.abs().square().mean(dim=0)[0, :, 1:5]
    scale = spectrum_scale(12, 10, Recipe().decay).double()[:, 1:5]
    ratio = energy / (2 * (0.01 * scale / 5) ** 2)
    assert (ratio - 1).abs().max() < 0.25
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (9, 144), (32, 5)])
def test_maco_has_the_given_magnitudes(size, channels):
    """|F(logit x)| = m at every frequency, and stays so when learned, but for the few that are real numbers."""
    spectrum = natural_spectrum(channels, *size)
    rows, columns = (torch.arange(length) * 2 % length == 0 for length in (size[0], size[1]))
    paired = ~(rows[:, None] & columns[None, : size[1] // 2 + 1])
    theta = noise("phase", size, 0, 1, channels=channels)
    assert len(theta.parameters) == 1
    adam = torch.optim.Adam(theta.parameters, lr=0.3)
    for step in range(3):
        seen = torch.fft.rfft2(logit_colors(theta.image().detach())).abs()
        expected = spectrum.double().expand_as(seen)
        if step > 0:
            seen, expected = seen[..., paired], expected[..., paired]
        torch.testing.assert_close(seen, expected, atol=1e-3 * spectrum.max().item(), rtol=1e-3)
        torch.autograd.backward(theta.image()[:, 0, 2, 1].sum())
        adam.step()


def test_maco_phases_are_uniform():
    (phase,) = noise("phase", (64, 64), 0, 1).parameters
    share = torch.histc(phase[..., 1:32], 8, -math.pi, math.pi) / phase[..., 1:32].numel()
    torch.testing.assert_close(share.detach(), torch.full((8,), 1 / 8), atol=0.01, rtol=0)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(64, 64), (33, 64), (48, 47)])
def test_natural_spectrum(size, channels):
    """1/|f|, and the logits of an image of it have variance 1."""
    spectrum = natural_spectrum(channels, *size).double()
    assert not spectrum[:, 0, 0].any()
    assert (spectrum[0, 0, 1] / spectrum[0, 0, 7]).item() == pytest.approx(7.0, rel=1e-5)
    assert (spectrum[0, 3, 0] / spectrum[0, -6, 0]).item() == pytest.approx(2.0, rel=1e-5)
    assert (spectrum[0, 4, 0] / spectrum[0, 0, 4]).item() == pytest.approx(size[0] / size[1], rel=1e-5)
    logits = torch.logit(noise("phase", size, *range(20), channels=channels).image().detach().double())
    assert logits.var(dim=(1, 2, 3)).mean().item() == pytest.approx(1.0, rel=0.1)
    assert logits.mean(dim=(2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(4, 4), (5, 4), (4, 5), (64, 48)])
def test_natural_spectrum_has_the_variance_it_says(channels, size):
    """With all phases 0, as with any: alike in the decorrelated colours, and 1 in the mean of the recorrelated."""
    z = torch.fft.irfft2(natural_spectrum(channels, *size).double(), s=size)
    expected = 3 / COLOR_CORRELATION.double().square().sum() if channels == 3 else torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(z.var(dim=(-2, -1), correction=0), expected.expand(channels), rtol=1e-5, atol=0)


def test_mean_spectrum_of_images():
    images = 0.1 + 0.8 * seeds(3, (9, 12))
    spectrum = mean_spectrum(images)
    expected = sum(torch.fft.rfft2(logit_colors(image)).abs() for image in images) / 3
    torch.testing.assert_close(spectrum.double(), expected, atol=1e-4, rtol=1e-5)
    theta = noise("phase", (9, 12), 0, spectrum=spectrum)
    seen = torch.fft.rfft2(logit_colors(theta.image().detach()))[0].abs()
    expected[:, 0, 0] = 0.0
    torch.testing.assert_close(seen, expected, atol=1e-3, rtol=1e-4)
    assert spectrum[:, 0, 0].all()


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_the_pairs_own(name):
    together, alone = noise(name, (10, 7), 3, 5), noise(name, (10, 7), 5)
    for ours, theirs in zip(together.parameters, alone.parameters, strict=True):
        assert torch.equal(ours[1], theirs[0])
        assert not torch.equal(ours[0], ours[1])
    torch.testing.assert_close(together.image()[1], alone.image()[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_from_noise_the_seed_does_not_show(name):
    recipe = Recipe(parameterization=name, start="noise", regularization=0.0)
    one, other = (parameterize(recipe, seeds(1, (8, 9), seed=s), generators(0)).image() for s in (0, 1))
    assert torch.equal(one, other)


@pytest.mark.parametrize("given", [None, 1])
def test_noise_needs_generators(given):
    with pytest.raises(InvalidRecipeError, match=f"{given or 0} random generators for 2 images"):
        parameterize(
            Recipe(start="noise", regularization=0.0), seeds(2, (8, 8)), None if given is None else generators(0)
        )


# --- moving θ to an image ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [Pixel, Fourier])
def test_set_image(form, size, channels):
    """θ becomes that of the image where it moved, and keeps its bits elsewhere."""
    theta = form(seeds(3, size, channels=channels))
    before = theta.parameters[0].detach().clone()
    target = seeds(3, size, seed=1, channels=channels)
    theta.set_image(target, torch.tensor([True, False, True]))
    torch.testing.assert_close(theta.image().detach()[[0, 2]], target[[0, 2]], atol=2e-5, rtol=0)
    assert torch.equal(theta.parameters[0][1], before[1])
    assert theta.parameters[0].is_leaf
    assert theta.parameters[0].requires_grad


def test_phase_cannot_take_on_an_image():
    with pytest.raises(InvalidRecipeError, match="phase cannot take on every image"):
        Phase(seeds(1, (8, 8))).set_image(seeds(1, (8, 8), seed=1), torch.tensor([True]))


# --- a border around the image -------------------------------------------------------------------------------------


def bordered(form, images, *numbers, border=0.5, **settings):
    recipe = Recipe(parameterization=form, border=border, **settings)
    return parameterize(recipe, images, generators(*numbers))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (32, 5), (1, 7)])
def test_a_border_leaves_the_seed_as_it_is(size, channels):
    images = seeds(2, size, channels=channels)
    theta = bordered("fourier", images, 0, 1)
    torch.testing.assert_close(theta.image().detach(), images, atol=2e-5, rtol=0)
    assert theta.exact
    margin = round(0.5 * max(size))
    assert theta.parameters[0].shape[2] == size[0] + 2 * margin
    phase = bordered("phase", images, 0, 1)
    torch.testing.assert_close(phase.image().detach(), images, atol=0.05, rtol=0)
    assert not phase.exact


def test_the_border_is_noise_of_its_own_into_which_the_edges_fade():
    images = seeds(2, (50, 40))
    larger = surround(images, 30, generators(0, 1))
    assert torch.equal(larger[:, :, 30:80, 30:70], images)
    beside = larger[:, :, 29, 30:70]
    assert (beside - images[:, :, 0]).abs().max() < (larger[:, :, 20, 30:70] - images[:, :, 0]).abs().max()
    assert torch.equal(larger, surround(images, 30, generators(0, 1)))
    far = [torch.cat([one[:, :29].flatten(), one[:, 81:].flatten()]) for one in larger]
    assert torch.corrcoef(torch.stack(far))[0, 1].abs() < 0.3
    torch.testing.assert_close(surround(images[1:], 30, generators(1)), larger[1:])
    mask = larger.clone()
    mask[:, :, 28:82, 28:72] = torch.nan
    other = surround(seeds(2, (50, 40), seed=5), 30, generators(0, 1))
    assert torch.equal(mask.isnan() | (mask == other), torch.ones_like(mask, dtype=torch.bool))


@pytest.mark.parametrize("form", ["fourier", "phase"])
def test_the_gradient_goes_through_the_border(form):
    """As that of the larger image, where the rest of it has none."""
    images, weights = seeds(1, (9, 12), dtype=torch.float64), torch.randn(1, 3, 9, 12, dtype=torch.float64)
    theta = bordered(form, images, 3)
    ours = torch.autograd.grad((theta.image() * weights).sum(), theta.parameters)
    plain = Recipe(parameterization=form)
    larger = parameterize(plain, surround(images, 6, generators(3)))
    padded = torch.nn.functional.pad(weights, (6, 6, 6, 6))
    theirs = torch.autograd.grad((larger.image() * padded).sum(), larger.parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
        assert one.any()


def test_from_noise_with_a_border():
    theta = bordered("phase", seeds(2, (9, 12)), 0, 1, start="noise", regularization=0.0)
    assert theta.image().shape == (2, 3, 9, 12)
    assert theta.parameters[0].shape == (2, 3, 21, 13)
    assert not torch.equal(theta.image()[0], theta.image()[1])


def test_set_image_within_a_border():
    images, target = seeds(2, (17, 23)), seeds(2, (17, 23), seed=1)
    theta = bordered("fourier", images, 0, 1)
    before = theta.parameters[0].detach().clone()
    theta.set_image(target, torch.tensor([True, False]))
    torch.testing.assert_close(theta.image().detach(), torch.stack([target[0], images[1]]), atol=3e-5, rtol=0)
    assert torch.equal(theta.parameters[0][1], before[1])


def test_borders_that_cannot_be():
    with pytest.raises(InvalidRecipeError, match="pixels do not wrap around"):
        resolve_recipe({"border": 0.5, "parameterization": "pixel"})
    with pytest.raises(InvalidRecipeError, match="1 random generators for 2 images"):
        bordered("fourier", seeds(2, (8, 8)), 0)
    assert isinstance(bordered("fourier", seeds(1, (8, 8)), 0, border=0.01), Fourier)
