"""SSIM against scikit-image's, and the latent distance by hand."""

import pytest
import torch

from accentor.engine.evaluate import latent_distance, ssim
from accentor.engine.evaluate.values import clean_views
from accentor.errors import InvalidRequestError, UnknownLayerError


def images(count=2, height=24, width=31, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_equal_images_are_one_and_others_are_less():
    one, other = images(), images(seed=1)
    torch.testing.assert_close(ssim(one, one), torch.ones(2, dtype=torch.float64))
    assert (ssim(one, other) < 0.1).all()
    torch.testing.assert_close(ssim(one, other), ssim(other, one))
    torch.testing.assert_close(ssim(one, other)[1:], ssim(one[1:], other[1:]))


def test_flat_images_by_hand():
    """Without structure what is left is (2 a b + C₁) / (a² + b² + C₁)."""
    a, b = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-6)


def test_against_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    one = images()
    other = (0.7 * one + 0.3 * images(seed=1)).clamp(0, 1)
    expected = [
        metrics.structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(one, other, strict=True)
    ]
    torch.testing.assert_close(ssim(one, other), torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0)


def test_ssim_refuses():
    for one, other in [(images(), images(1)), (images(height=10), images(height=10)), (images()[0], images()[0])]:
        with pytest.raises(InvalidRequestError, match="at least 11"):
            ssim(one, other)


def test_latent_distance_by_hand(tiny, tiny_net):
    one, other = images(3, 40, 28), images(3, 40, 28, seed=1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        here, there = (tiny_net.early((clean_views(tiny, x) - mean) / std) for x in (one, other))
    expected = [
        (a - b).square().sum(dim=0).sqrt().mean() / b.square().sum(dim=0).sqrt().mean()
        for a, b in zip(here, there, strict=True)
    ]
    found = latent_distance(tiny, one, other, "early")
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=0)
    torch.testing.assert_close(latent_distance(tiny, one, other), found)
    assert not latent_distance(tiny, one, one).any()


def test_latent_distance_of_a_vector_layer(tiny, tiny_net):
    one, other = images(2, 32, 32), images(2, 32, 32, seed=1)
    with torch.no_grad(), tiny.frozen():
        here, there = (tiny.activations(clean_views(tiny, x), frozenset({"head"}))["head"] for x in (one, other))
    expected = (here - there).norm(dim=1) / there.norm(dim=1)
    torch.testing.assert_close(latent_distance(tiny, one, other, "head"), expected)


def test_unknown_layer(tiny):
    with pytest.raises(UnknownLayerError, match="early"):
        latent_distance(tiny, images(), images(), "earli")
