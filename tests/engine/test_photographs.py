"""A real network on real photographs: the value rises, and the picture still is the photograph."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from accentor.engine import Pair, accentuate_pairs
from accentor.spec import Recipe, parse_feature

pytestmark = pytest.mark.assets

PHOTOS = {"1_goldfish": 1, "340_zebra": 340, "963_pizza": 963}


def ssim(one: torch.Tensor, other: torch.Tensor) -> float:
    """Structural similarity over 8 × 8 windows, the mean over colours; 1 for equal images."""

    def mean(x):
        return avg_pool2d(x[None], 8, stride=4)

    a, b = mean(one), mean(other)
    var_a, var_b, cov = mean(one * one) - a * a, mean(other * other) - b * b, mean(one * other) - a * b
    c1, c2 = 0.01**2, 0.03**2
    ratio = (2 * a * b + c1) * (2 * cov + c2) / ((a * a + b * b + c1) * (var_a + var_b + c2))
    return ratio.mean().item()


def test_three_photographs(squeezenet, assets):
    pairs = [Pair(assets / "images" / f"{name}.jpg", parse_feature(f"logit:{unit}")) for name, unit in PHOTOS.items()]
    recipe = Recipe(steps=6, crops=3, size=160, snapshots=1)
    for _, result in accentuate_pairs(squeezenet, pairs, recipe):
        assert result.after > result.before + 2.0, "more of the class"
        likeness = ssim(result.source, result.pixels)
        assert 0.5 < likeness < 0.999, "the photograph, changed"
        assert (result.source - result.pixels).abs().mean() < 0.1
        assert 0.05 < result.opacity.mean() < 0.95
        assert result.trajectory[-1].distance > 0
