"""Percentiles of a stream against those of all numbers at once; and strengths by hand."""

import numpy as np
import pytest
import torch

from accentor.engine.companions import MapRange
from accentor.engine.companions.ranges import ACCURACY, Quantiles, measure_range
from accentor.errors import InvalidRequestError, NotFiniteError


def draw(seed=0, count=5000):
    """Sizes over twelve orders of magnitude, a tenth of them zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator).mul(4).exp()
    return values * (torch.rand(count, generator=generator) > 0.1)


@pytest.mark.parametrize("percentile", [0, 1, 10, 10.5, 50, 90, 99, 99.9, 100])
def test_percentiles(percentile):
    values = draw()
    sketch = Quantiles()
    for part in values.split(700):
        sketch.add(part)
    expected = np.percentile(values.numpy(), percentile, method="inverted_cdf")
    assert sketch.at(percentile) == pytest.approx(expected, rel=1.001 * ACCURACY, abs=0)


def test_order_and_parts_do_not_matter():
    values = draw()
    one, other = Quantiles(), Quantiles()
    one.add(values.view(50, 100))
    for part in values.flip(0).split(33):
        other.add(part)
    assert torch.equal(one._counts, other._counts)
    assert int(one._counts.sum()) == len(values)


def test_extremes_stay_in_their_bins():
    sketch = Quantiles()
    sketch.add(torch.tensor([0.0, 1e-40, 1e-30, 3e38]))
    assert sketch.at(50) == 0.0
    assert sketch.at(75) == pytest.approx(1e-30, rel=2e-3)
    assert sketch.at(100) == pytest.approx(1e30, rel=2e-3)


def test_bounds_of_both_parts():
    maps = [torch.stack([draw(seed), 5 * draw(seed + 10)]).view(2, 50, 100) for seed in range(3)]
    found = measure_range(iter(maps), (25, 75))
    for part, bounds in ((0, found.positive), (1, found.negative)):
        values = torch.stack([one[part] for one in maps]).numpy()
        expected = np.percentile(values, (25, 75), method="inverted_cdf")
        assert bounds == pytest.approx(tuple(expected), rel=1.001 * ACCURACY)
    assert found.images == 3
    assert found.percentiles == (25, 75)


def test_strengths():
    scale = MapRange(positive=(1.0, 5.0), negative=(0.0, 2.0), percentiles=(1, 99), images=1)
    parts = torch.tensor([[[0.0, 1.0, 2.0, 5.0, 9.0]], [[0.0, 0.5, 1.0, 2.0, 3.0]]])
    expected = torch.tensor([[[0.0, 0.0, 0.25, 1.0, 1.0]], [[0.0, 0.25, 0.5, 1.0, 1.0]]])
    torch.testing.assert_close(scale.strengths(parts), expected)


def test_nothing_has_no_strength():
    scale = measure_range([torch.zeros(2, 3, 3)], (1, 99))
    assert scale.negative == (0.0, 0.0)
    assert not scale.strengths(torch.zeros(2, 3, 3)).any()


@pytest.mark.parametrize("percentiles", [(99, 1), (50, 50), (-1, 99), (1, 101)])
def test_bad_percentiles(percentiles):
    with pytest.raises(InvalidRequestError, match="0 ≤ low < high ≤ 100"):
        measure_range([torch.ones(2, 3, 3)], percentiles)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_not_finite(value):
    with pytest.raises(NotFiniteError):
        measure_range([torch.full((2, 3, 3), value)], (1, 99))
