"""The opacity map, by hand and against another Gaussian."""

import pytest
import torch

from accentor.engine.opacity import gaussian_blur, opacity_map


def test_by_hand_without_blur():
    accumulated = torch.zeros(1, 3, 1, 5)
    accumulated[0, :, 0] = torch.tensor([[0.0, 3.0, 6.0, 9.0, 300.0], [0.0] * 5, [0.0] * 5])
    # means 0 1 2 3 100; the 75th percentile is 3
    torch.testing.assert_close(
        opacity_map(accumulated, percentile=75.0, blur=0.0)[0, 0], torch.tensor([0.0, 1 / 3, 2 / 3, 1.0, 1.0])
    )
    torch.testing.assert_close(opacity_map(accumulated, percentile=100.0, blur=0.0)[0, 0, 1], torch.tensor(0.01))


def test_scale_does_not_matter_and_pairs_do_not_mix():
    accumulated = torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    scaled = accumulated * torch.tensor([1e-12, 1e6]).view(2, 1, 1, 1)
    torch.testing.assert_close(opacity_map(scaled), opacity_map(accumulated))
    torch.testing.assert_close(opacity_map(accumulated)[1:], opacity_map(accumulated[1:]))


def test_no_gradient_is_no_opacity():
    assert not opacity_map(torch.zeros(1, 3, 8, 8)).any()


def test_a_gradient_on_few_pixels_survives_the_percentile():
    accumulated = torch.zeros(1, 3, 10, 10)
    accumulated[0, :, 4, 5] = 7.0
    found = opacity_map(accumulated, percentile=80.0, blur=0.0)[0]
    assert found[4, 5] == 1.0
    assert found.sum() == 1.0


@pytest.mark.parametrize("size", [(30, 20), (5, 3), (1, 40), (64, 4)])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_blur_is_a_gaussian_with_mirrored_border(size, sigma):
    """Against sums written out pixel by pixel over the picture and its mirror images."""
    height, width = size
    maps = torch.rand(1, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radius = int(4 * sigma + 0.5)
    weights = [2.718281828459045 ** (-0.5 * (d / sigma) ** 2) for d in range(-radius, radius + 1)]

    def mirror(i, n):
        while not 0 <= i < n:
            i = -1 - i if i < 0 else 2 * n - 1 - i
        return i

    def smoothed(line, at):
        total = sum(w * line[mirror(at + d - radius, len(line))] for d, w in enumerate(weights))
        return total / sum(weights)

    rows = [[smoothed(maps[0, :, x].tolist(), y) for x in range(width)] for y in range(height)]
    expected = torch.tensor([[smoothed(row, x) for x in range(width)] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(maps, sigma)[0], expected)
    torch.testing.assert_close(gaussian_blur(torch.ones(1, *size), sigma), torch.ones(1, *size))
