"""The opacity map, by hand and against another Gaussian."""

import pytest
import torch

from accentor.engine.opacity import gaussian_blur, opacity_map, opacity_of
from accentor.errors import InvalidRequestError


def test_by_hand_without_blur():
    accumulated = torch.zeros(1, 3, 1, 5)
    accumulated[0, :, 0] = torch.tensor([[0.0, 3.0, 6.0, 9.0, 300.0], [0.0] * 5, [0.0] * 5])
    # means 0 1 2 3 100; the 75th percentile is 3
    torch.testing.assert_close(
        opacity_map(accumulated, percentile=75.0, blur=0.0)[0, 0], torch.tensor([0.0, 1 / 3, 2 / 3, 1.0, 1.0])
    )
    torch.testing.assert_close(opacity_map(accumulated, percentile=100.0, blur=0.0)[0, 0, 1], torch.tensor(0.01))


def test_floor_and_ramp_by_hand():
    strength = torch.tensor([[[0.0, 1.0, 2.0, 3.0, 100.0]]])
    # the 25th percentile is 1, the 75th is 3
    torch.testing.assert_close(opacity_of(strength, 75.0, 0.0, floor=25.0), torch.tensor([[[0.0, 0.0, 0.5, 1.0, 1.0]]]))
    torch.testing.assert_close(
        opacity_of(strength, 75.0, 0.0, ramp=2.0), torch.tensor([[[0.0, 1 / 9, 4 / 9, 1.0, 1.0]]])
    )
    blurred = opacity_of(strength, 75.0, 1.0)
    torch.testing.assert_close(opacity_of(strength, 75.0, 1.0, ramp=0.5), blurred.sqrt())


def test_any_number_of_channels():
    accumulated = torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(opacity_map(accumulated, 70.0, 1.0), opacity_of(accumulated.sum(dim=1), 70.0, 1.0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"percentile": 0.0}, "percentile is 0: expected above 0, to 100"),
        ({"percentile": 100.5}, "100.5"),
        ({"percentile": 50.0, "floor": 50.0}, "floor is 50: expected 0 to below the percentile, 50"),
        ({"floor": -1.0}, "floor is -1"),
        ({"blur": -1.0}, "blur is -1 px"),
        ({"blur": float("nan")}, "blur is nan"),
        ({"ramp": 0.0}, "ramp is 0"),
    ],
)
def test_options_out_of_range(options, named):
    with pytest.raises(InvalidRequestError, match=named):
        opacity_of(torch.ones(1, 4, 4), **options)


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
    accumulated[0, :, 8, 8] = 3.5
    assert opacity_map(accumulated, percentile=80.0, blur=0.0)[0, 8, 8] == 0.5


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
