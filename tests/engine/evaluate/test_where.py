"""AUROC and the pointing game, by hand and against every pair of pixels."""

import pytest
import torch

from accentor.engine.evaluate import Where, auroc, pointing_game, where
from accentor.errors import InvalidRequestError


def test_by_hand():
    mask = torch.tensor([[True, False], [True, False]])
    assert auroc(torch.tensor([[4.0, 1.0], [3.0, 2.0]]), mask) == 1.0
    assert auroc(torch.tensor([[1.0, 4.0], [2.0, 3.0]]), mask) == 0.0
    assert auroc(torch.tensor([[4.0, 3.0], [1.0, 2.0]]), mask) == 0.5
    assert auroc(torch.ones(2, 2), mask) == 0.5


@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_auroc_is_the_share_of_pairs_in_order(levels):
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(0, levels, (13, 11), generator=generator).float()
    mask = torch.rand(13, 11, generator=generator) < 0.3
    inside, outside = scores[mask][:, None], scores[~mask][None, :]
    expected = ((inside > outside).double() + 0.5 * (inside == outside).double()).mean().item()
    assert auroc(scores, mask) == pytest.approx(expected, abs=1e-12)
    assert auroc(-scores, mask) == pytest.approx(1 - expected, abs=1e-12)
    assert auroc(scores.exp() if levels < 100 else scores / 7, mask) == pytest.approx(expected, abs=1e-12)


def test_auroc_of_a_large_map_is_exact():
    """Sums of ranks of a megapixel are beyond float32's whole numbers."""
    scores = torch.arange(1024 * 1024, dtype=torch.float32).view(1024, 1024)
    mask = torch.zeros(1024, 1024, dtype=torch.bool)
    mask[-1] = True
    assert auroc(scores, mask) == 1.0
    mask[0, 0] = True
    assert auroc(scores, mask) == pytest.approx(1024 / 1025, abs=1e-12)


def test_pointing_game():
    scores = torch.tensor([[0.0, 3.0], [1.0, 2.0]])
    hit = torch.tensor([[False, True], [False, False]])
    assert pointing_game(scores, hit) == 1.0
    assert pointing_game(scores, ~hit) == 0.0
    assert where(scores, hit) == Where(auroc=1.0, pointing=1.0)


def test_a_plateau_counts_by_its_share_on_the_object():
    scores = torch.tensor([1.0, 1.0, 1.0 - 5e-7, 1.0 - 1e-3, 0.0])
    mask = torch.tensor([True, False, False, True, True])
    assert pointing_game(scores, mask) == pytest.approx(1 / 3)
    assert pointing_game(scores * 1e-20, mask) == pytest.approx(1 / 3), "the scale of a map does not matter"


@pytest.mark.parametrize("measure", [auroc, pointing_game])
def test_refusals(measure):
    mask = torch.tensor([True, False, False])
    for scores, wrong in [
        (torch.ones(3), torch.ones(3, dtype=torch.bool)),
        (torch.ones(3), torch.zeros(3, dtype=torch.bool)),
        (torch.ones(4), mask),
        (torch.ones(3), mask.float()),
        (torch.tensor([1.0, torch.nan, 0.0]), mask),
    ]:
        with pytest.raises(InvalidRequestError, match="expected|finite"):
            measure(scores, wrong)
