"""Couplings against Lucid's definitions, written out with loops over the pairs."""

import pytest
import torch

from accentor.engine.couplings import Alignment, Diversity
from accentor.errors import InvalidRequestError

SHAPES = {"CHW": (4, 3, 5), "HWC": (3, 5, 4), "NC": (15, 4), "C": (4,)}


@pytest.fixture(params=SHAPES)
def layout(request):
    return request.param


@pytest.fixture
def activations(layout):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 2, *SHAPES[layout], generator=generator).requires_grad_()


def channels_first(one, layout):
    """[C, P] of one pair's activations at one crop."""
    match layout:
        case "CHW":
            return one.reshape(4, -1)
        case "C":
            return one[:, None]
        case _:
            return one.reshape(-1, 4).T


def lucids_diversity(activations, layout, crop):
    flat = [channels_first(one[crop].double(), layout) for one in activations]
    grams = [one @ one.T for one in flat]
    grams = [gram / gram.square().sum().sqrt() for gram in grams]
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    return sum((grams[i] * grams[j]).sum() for i, j in pairs) / 6


def lucids_alignment(activations, crop, decay):
    total = 0.0
    for apart in (1, 2, 3, 4):
        for i in range(6 - apart):
            gap = activations[i, crop].double() - activations[i + apart, crop].double()
            total = total + gap.square().mean() / decay**apart
    return total


def test_diversity(activations, layout):
    values = Diversity("L", weight=3.0)(activations, layout)
    expected = torch.stack([-3.0 * lucids_diversity(activations, layout, crop) for crop in (0, 1)])
    torch.testing.assert_close(values.sum(dim=0).double(), expected, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad(one.sum(), activations)[0] for one in (values, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert ours.any() or layout == "C"


def test_alignment(activations, layout):
    values = Alignment("L", decay=3.0, weight=0.5)(activations, layout)
    expected = torch.stack([-0.5 * lucids_alignment(activations, crop, 3.0) for crop in (0, 1)])
    torch.testing.assert_close(values.sum(dim=0).double(), expected, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad(one.sum(), activations)[0] for one in (values, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_alignment_of_a_pair_is_its_half_of_the_distances():
    here = torch.tensor([0.0, 1.0, 3.0])[:, None, None]
    values = Alignment("L", decay=2.0)(here, "C")[:, 0]
    near, far, all_the_way = 1.0 / 2, 4.0 / 2, 9.0 / 4
    expected = [-(near + all_the_way) / 2, -(near + far) / 2, -(far + all_the_way) / 2]
    assert values.tolist() == pytest.approx(expected)


def test_diversity_is_best_when_channels_differ():
    same, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    alike = torch.stack([same, 5 * same])[:, None]
    apart = torch.stack([same, other])[:, None]
    assert Diversity("L")(alike, "C").flatten().tolist() == pytest.approx([-0.5, -0.5])
    assert not Diversity("L")(apart, "C").any()


def test_one_pair_alone_is_not_coupled():
    one = torch.randn(1, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert not Diversity("L")(one, "CHW").any()
    assert not Alignment("L")(one, "CHW").any()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e25])
@pytest.mark.parametrize("coupling", [Diversity("L"), Alignment("L")], ids=["diversity", "alignment"])
def test_a_pair_that_is_not_finite_is_coupled_to_nothing(activations, layout, coupling, broken):
    """The others stay coupled to one another, each in its place; so does its own second crop, which is as it was."""
    spoilt = activations.detach().clone()
    spoilt[2, 0].flatten()[1] = broken
    spoilt.requires_grad_()
    ours, whole = (coupling(one, layout) for one in (spoilt, activations))
    others = [0, 1, 3, 4, 5]
    if isinstance(coupling, Diversity):
        expected = coupling(activations[others], layout) * 5 / 6
    else:
        gaps = {
            (i, j): (activations[i] - activations[j]).flatten(1).square().mean(dim=1) for i in others for j in others
        }
        expected = -0.5 * torch.stack(
            [sum(gaps[i, j] / 2.0 ** abs(i - j) for j in others if 0 < abs(i - j) <= 4) for i in others]
        )
    torch.testing.assert_close(ours[others, 0], expected[:, 0])
    torch.testing.assert_close(ours[:, 1], whole[:, 1])
    assert ours[2, 0] == 0
    slope, right = (
        torch.autograd.grad(one.sum(), x)[0] for one, x in ((ours[:, 0], spoilt), (expected[:, 0], activations))
    )
    torch.testing.assert_close(slope, right)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Diversity("L", weight=-1.0),
        lambda: Alignment("L", weight=float("nan")),
        lambda: Alignment("L", decay=0.0),
        lambda: Alignment("L", decay=float("nan")),
    ],
)
def test_contradictory_couplings(wrong):
    with pytest.raises(InvalidRequestError, match="expected a number"):
        wrong()
