"""The regulariser and its weight, by hand."""

import pytest
import torch

from accentor.engine.regularization import balance, latent_distance


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_distance_by_hand():
    there = torch.zeros(2, 2, 1, 2) + 5.0
    here = there.clone()
    here[0, :, 0, 0] += torch.tensor([3.0, -4.0])  # 5 at one of two positions
    here[1, :, 0, 1] += torch.tensor([0.0, 2.0])
    here[1, :, 0, 0] += torch.tensor([1.0, 0.0])
    torch.testing.assert_close(latent_distance(here, there, 2), torch.tensor([[2.5], [1.5]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(5, 3, 4), (7, 5), (5,)])
def test_distance_is_the_mean_norm_over_channels(shape):
    here, there = draw(6, *shape), draw(6, *shape, seed=1)
    axis = 2 if len(shape) == 2 else 1
    expected = (here - there).norm(dim=axis).view(6, -1).mean(dim=1).view(3, 2)
    torch.testing.assert_close(latent_distance(here, there, 3), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("there", [draw(4, 3, 5, 5), torch.zeros(4, 3, 5, 5)])
def test_at_the_seed_it_is_zero_and_pulls_nowhere(there):
    here = there.clone().requires_grad_()
    distance = latent_distance(here, there, 2)
    assert not distance.any()
    (gradient,) = torch.autograd.grad(distance.sum(), here)
    assert not gradient.any()


def test_away_from_the_seed_it_pulls_with_unit_strength():
    there = draw(2, 3, 4, 4)
    here = (there + 0.01 * draw(2, 3, 4, 4, seed=1)).requires_grad_()
    (gradient,) = torch.autograd.grad(latent_distance(here, there, 2).sum(), here)
    torch.testing.assert_close(gradient.norm(dim=1), torch.full((2, 4, 4), 1 / 16), atol=1e-4, rtol=0)


def test_pairs_do_not_mix():
    there = draw(4, 3, 2, 2)
    here = draw(4, 3, 2, 2, seed=1)
    alone = latent_distance(here[2:], there[2:], 1)
    loud = there.clone()
    loud[:2] *= 1e6
    assert torch.equal(latent_distance(here, loud, 2)[1:], alone)


def test_balance():
    weight = balance(0.5, torch.tensor([2.0, 3.0, 1.0]), torch.tensor([4.0, 0.0, 1e-30]))
    torch.testing.assert_close(weight[:2], torch.tensor([0.25, 0.0]))
    assert weight.isfinite().all()
