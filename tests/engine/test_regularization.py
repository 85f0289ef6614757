"""The regularisers, their weight and the ball: by hand, against plain float64 formulas, and at the seed."""

import numpy as np
import pytest
import torch

from accentor.engine.regularization import Regularizer, balance, latent_distance, project, reject

KINDS = ["l2", "l1", "cosine", "pearson", "orthogonal"]
SHAPES = [(5, 3, 4), (7, 5), (5,)]


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_channel(activations):
    """Return numpy [B, positions, C] in double precision."""
    values = activations.detach().double().numpy()
    match values.ndim:
        case 4:
            return values.transpose(0, 2, 3, 1).reshape(len(values), -1, values.shape[1])
        case 3:
            return values
        case _:
            return values[:, None]


def expected_distance(kind, here, there, direction=None):
    """Return the distances [B] by the formulas of the docstring, one crop at a time."""
    h, h0 = by_channel(here), by_channel(there)
    match kind:
        case "l2":
            return np.linalg.norm(h - h0, axis=2).mean(axis=1)
        case "l1":
            return np.abs(h - h0).sum(axis=2).mean(axis=1)
        case "cosine":
            return np.array(
                [
                    1 - (a * b).sum() / np.linalg.norm(a.ravel()) / np.linalg.norm(b.ravel())
                    for a, b in zip(h, h0, strict=True)
                ]
            )
        case "pearson":
            return np.array([1 - np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(h, h0, strict=True)])
        case "orthogonal":
            v = by_channel(direction)
            v = v / np.linalg.norm(v, axis=2, keepdims=True)
            d = h - h0
            return np.linalg.norm(d - (d * v).sum(axis=2, keepdims=True) * v, axis=2).mean(axis=1)


def test_distance_by_hand():
    there = torch.zeros(2, 2, 1, 2) + 5.0
    here = there.clone()
    here[0, :, 0, 0] += torch.tensor([3.0, -4.0])  # 5 at one of two positions
    here[1, :, 0, 1] += torch.tensor([0.0, 2.0])
    here[1, :, 0, 0] += torch.tensor([1.0, 0.0])
    torch.testing.assert_close(latent_distance(here, there, 2), torch.tensor([[2.5], [1.5]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(latent_distance(here, there, 2, "l1"), torch.tensor([[3.5], [1.5]]), atol=1e-4, rtol=0)
    first = torch.zeros(2, 2, 1, 1)
    first[:, 0] = -7.0
    away = latent_distance(here, there, 2, "orthogonal", first)
    torch.testing.assert_close(away, torch.tensor([[2.0], [1.0]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_distance_follows_its_formula(kind, shape, layout):
    here, there, direction = (draw(6, *shape, seed=seed) for seed in range(3))
    if len(shape) == 3:
        here, there = here.to(memory_format=layout), there.to(memory_format=layout)
    ours = latent_distance(here, there, 3, kind, direction)
    assert ours.shape == (3, 2)
    np.testing.assert_allclose(ours.flatten().numpy(), expected_distance(kind, here, there, direction), rtol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_value(kind, shape):
    """The closed forms against differences, in double precision, near the seed and far from it."""
    there, direction = draw(4, *shape, dtype=torch.float64), draw(4, *shape, seed=1, dtype=torch.float64)
    weight = draw(2, 2, seed=3, dtype=torch.float64)

    def weighed(here):
        return (weight * latent_distance(here, there, 2, kind, direction)).sum()

    for far in (1.0, 0.01):
        here = (there + far * draw(4, *shape, seed=2, dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(weighed, here, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("there", [draw(4, 3, 5, 5), torch.zeros(4, 3, 5, 5), torch.full((4, 3, 5, 5), 3.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_seed_it_is_zero_and_pulls_nowhere(kind, dtype, there):
    there = there.to(dtype)
    here = there.clone().requires_grad_()
    distance = latent_distance(here, there, 2, kind, draw(4, 3, 5, 5, seed=1).to(dtype))
    assert not distance.any()
    (gradient,) = torch.autograd.grad(distance.sum(), here)
    assert not gradient.any()


@pytest.mark.parametrize(("kind", "expected"), [("l2", 1.0), ("l1", 3.0)])
def test_it_is_smoothed_below_rounding(kind, expected):
    """√(d² + ε²) − ε at d = ε, a millionth of the seed's activations: of their norm, or of each of 3 channels."""
    there = torch.full((1, 3, 4, 4), 2.0, dtype=torch.float64)
    floor = 2e-6 * (3**0.5 if kind == "l2" else 1.0)
    here = (there + 2e-6).requires_grad_()
    distance = latent_distance(here, there, 1, kind)
    assert distance.item() == pytest.approx(expected * (2**0.5 - 1) * floor, rel=1e-5)
    (gradient,) = torch.autograd.grad(distance, here)
    slope = 2**-0.5 / 16 * (3**-0.5 if kind == "l2" else 1.0)
    torch.testing.assert_close(gradient, torch.full_like(gradient, slope), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["l2", "l1", "orthogonal"])
def test_rounding_hardly_pulls(kind):
    """Half a unit in the last place away: the plain norm pulls with its whole strength, in a random direction."""
    there = draw(2, 8, 6, 6)
    here = (there * (1 + 6e-8 * draw(2, 8, 6, 6, seed=1).sign())).requires_grad_()
    far = (there + draw(2, 8, 6, 6, seed=2)).requires_grad_()
    near_pull, far_pull = (
        torch.autograd.grad(latent_distance(h, there, 2, kind).sum(), h)[0].abs().sum() for h in (here, far)
    )
    assert near_pull < 0.15 * far_pull


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", ["here", "there"])
def test_dead_activations_stay_finite(kind, dead):
    alive = draw(2, 3, 4, 4)
    here, there = (torch.zeros_like(alive), alive) if dead == "here" else (alive, torch.zeros_like(alive))
    here = here.requires_grad_()
    distance = latent_distance(here, there, 2, kind, torch.zeros_like(alive))
    (gradient,) = torch.autograd.grad(distance.sum(), here)
    assert gradient.isfinite().all()
    if kind in ("cosine", "pearson"):
        torch.testing.assert_close(distance.detach(), torch.full((2, 1), 0.5))
        assert gradient.abs().max() < (1e-6 if dead == "here" else 1.0)
    else:
        np.testing.assert_allclose(
            distance.detach().flatten().numpy(),
            expected_distance("l2" if kind == "orthogonal" else kind, here, there),
            rtol=1e-4,
        )


def test_away_from_the_seed_it_pulls_with_unit_strength():
    there = draw(2, 3, 4, 4)
    here = (there + 0.01 * draw(2, 3, 4, 4, seed=1)).requires_grad_()
    (gradient,) = torch.autograd.grad(latent_distance(here, there, 2).sum(), here)
    torch.testing.assert_close(gradient.norm(dim=1), torch.full((2, 4, 4), 1 / 16), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_near_float32(kind):
    """But for ε, 0.4 % of the seed's activations here, which moved by 30 %."""
    there, direction = draw(2, 96, 8, 8), draw(2, 96, 8, 8, seed=3)
    here = there + 0.3 * draw(2, 96, 8, 8, seed=1)
    low = [x.bfloat16().requires_grad_() for x in (here, there, direction)]
    high = [x.detach().float().requires_grad_() for x in low]
    gradients = []
    for h, h0, v in (low, high):
        distance = latent_distance(h, h0, 2, kind, v)
        assert distance.dtype == torch.float32
        gradients.append((distance.detach(), torch.autograd.grad(distance.sum(), h)[0].float()))
    tolerance = 0.05 if kind == "l1" else 0.02
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=tolerance, atol=0)
    assert (gradients[0][1] - gradients[1][1]).norm() <= tolerance * gradients[1][1].norm()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_is_summed_in_float32(layout):
    """√(‖d‖² + ε²) − ε with ε = ‖h₀‖ / 256, of differences as bfloat16 has them: nothing else is rounded to it."""
    there = draw(2, 96, 8, 8).bfloat16().to(memory_format=layout)
    here = (there + 0.3 * draw(2, 96, 8, 8, seed=1)).bfloat16().to(memory_format=layout)
    norms = (here - there).double().norm(dim=1)
    floor = there.double().square().sum(dim=(1, 2, 3), keepdim=True)[:, 0].div(64).sqrt() / 256
    expected = ((norms.square() + floor.square()).sqrt() - floor).mean(dim=(1, 2))
    distance = latent_distance(here, there, 2)[:, 0]
    torch.testing.assert_close(distance.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_do_not_mix(kind):
    names = ("a", "b")
    here, there = ({name: draw(4, 3, 2, 2, seed=i + 2 * s) for i, name in enumerate(names)} for s in (0, 1))
    regularizer = Regularizer(kind, names)
    alone = regularizer({n: h[2:] for n, h in here.items()}, {n: h[2:] for n, h in there.items()}, 1)
    loud = {name: h.clone() for name, h in there.items()}
    for activations in loud.values():
        activations[:2] *= 1e6
    assert torch.equal(regularizer(here, loud, 2)[1:], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_crops_are_their_own(kind):
    there, here = draw(4, 3, 2, 2), draw(4, 3, 2, 2, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(latent_distance(here, there, 2, kind)[1, 0], here)
    assert gradient[2].any()
    assert not gradient[[0, 1, 3]].any()


def test_reject():
    h, v = draw(3, 5, 2, 2), draw(3, 5, 1, 1, seed=1)
    v[2] = 0.0
    rest = reject(h, v)
    torch.testing.assert_close((rest * v).sum(dim=1), torch.zeros(3, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(reject(rest, -3 * v), rest, atol=1e-5, rtol=0)
    assert torch.equal(rest[2], h[2])


def test_orthogonal_to_a_channel_leaves_it_free():
    """f = mean of channel 1 of ℓ: what moves that channel alone is free, the others cost as in L2."""
    there = {"l": draw(2, 3, 4, 4)}
    free, bound = ({"l": there["l"].clone()} for _ in range(2))
    free["l"][:, 1] += 2.0
    bound["l"][:, 2] += 2.0
    values = []
    for here in (free, bound):
        here["l"].requires_grad_()
        feature = here["l"][:, 1].mean(dim=(1, 2)).view(1, 2)
        values.append(Regularizer("orthogonal", ["l"])(here, there, 1, feature).detach())
    torch.testing.assert_close(values[0], torch.zeros(1, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(values[1], torch.full((1, 2), 2.0), atol=1e-4, rtol=0)


def test_orthogonal_to_a_deeper_feature_takes_its_gradient():
    """To first order f does not change along what is left: its gradient at ℓ is the direction."""
    there = draw(4, 6, 3, 3)
    start = (there + 0.1 * draw(4, 6, 3, 3, seed=1)).requires_grad_()
    deep = torch.tanh(torch.einsum("bchw,c->bhw", start, draw(6, seed=2))).square().mean(dim=(1, 2)).view(2, 2)
    direction = torch.autograd.grad(deep.sum(), start, retain_graph=True)[0]
    ours = Regularizer("orthogonal", ["l"])({"l": start}, {"l": there}, 2, deep)
    np.testing.assert_allclose(
        ours.detach().flatten().numpy(), expected_distance("orthogonal", start, there, direction), rtol=1e-4
    )
    (pull,) = torch.autograd.grad(ours.sum(), start, retain_graph=True)
    assert (pull * direction).sum(dim=1).abs().max() < 1e-6
    torch.autograd.grad(deep.sum(), start)


def test_orthogonal_without_a_gradient_is_l2():
    here, there = {"l": draw(4, 3, 2, 2)}, {"l": draw(4, 3, 2, 2, seed=1)}
    expected = Regularizer("l2", ["l"])(here, there, 2)
    unrelated = draw(2, 2, seed=2).requires_grad_()
    here["l"].requires_grad_()
    for value in (None, draw(2, 2), unrelated):
        assert torch.equal(Regularizer("orthogonal", ["l"])(here, there, 2, value).detach(), expected)
    with torch.no_grad():
        assert torch.equal(Regularizer("orthogonal", ["l"])(here, there, 2, here["l"].mean()), expected)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_layers_weigh_alike_whatever_their_scale(kind):
    here = {"a": draw(4, 3, 2, 2), "b": draw(4, 5, 1, 1, seed=1)}
    there = {"a": draw(4, 3, 2, 2, seed=2), "b": draw(4, 5, 1, 1, seed=3)}
    scaled = [{name: h * (1e3 if name == "b" else 1.0) for name, h in side.items()} for side in (here, there)]
    ours = Regularizer(kind, ["a", "b"])(here, there, 2)
    torch.testing.assert_close(ours, Regularizer(kind, ["a", "b"])(*scaled, 2))
    order = 1 if kind == "l1" else 2
    expected = sum(
        expected_distance(kind, here[name], there[name]).reshape(2, 2)
        / np.linalg.norm(by_channel(there[name]), order, axis=2).reshape(2, -1).mean(axis=1, keepdims=True)
        for name in here
    )
    np.testing.assert_allclose(ours.numpy(), expected / 2, rtol=1e-4)


@pytest.mark.parametrize("kind", ["cosine", "pearson"])
def test_similarities_of_layers_are_averaged(kind):
    here = {"a": draw(4, 3, 2, 2), "b": draw(4, 5, 2, 1, seed=1)}
    there = {"a": draw(4, 3, 2, 2, seed=2), "b": draw(4, 5, 2, 1, seed=3)}
    expected = sum(expected_distance(kind, here[name], there[name]) for name in here) / 2
    ours = Regularizer(kind, ["a", "b"])(here, there, 2)
    np.testing.assert_allclose(ours.flatten().numpy(), expected, rtol=1e-4)


def test_one_layer_is_not_divided():
    here, there = {"l": draw(2, 3, 2, 2)}, {"l": draw(2, 3, 2, 2, seed=1)}
    assert torch.equal(Regularizer("l2", ["l"])(here, there, 1), latent_distance(here["l"], there["l"], 1))
    assert torch.equal(Regularizer("l2", ["l", "l"])(here, there, 1), latent_distance(here["l"], there["l"], 1))


def test_a_dead_layer_among_several_keeps_its_own_scale():
    here, there = {"a": draw(2, 3, 2, 2), "b": draw(2, 3, 2, 2)}, {"a": draw(2, 3, 2, 2, seed=1)}
    there["b"] = torch.zeros(2, 3, 2, 2)
    alone = latent_distance(here["b"], there["b"], 1)
    other = Regularizer("l2", ["a", "b"])({**here, "b": there["b"]}, there, 1)
    torch.testing.assert_close(Regularizer("l2", ["a", "b"])(here, there, 1) - other, alone / 2)


def test_nothing_is_kept_without_gradient():
    here, there = draw(2, 3, 2, 2), draw(2, 3, 2, 2, seed=1)
    before = here.clone(), there.clone()
    for kind in KINDS:
        assert not latent_distance(here, there, 1, kind).requires_grad
    assert torch.equal(here, before[0])
    assert torch.equal(there, before[1])


def test_balance():
    weight = balance(0.5, torch.tensor([2.0, 3.0, 1.0]), torch.tensor([4.0, 0.0, 1e-30]))
    torch.testing.assert_close(weight[:2], torch.tensor([0.25, 0.0]))
    assert weight.isfinite().all()


def test_projection():
    anchors = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    images[1] *= 0.1
    anchors[1] *= 0.1
    images[2] = anchors[2]
    nearest, outside = project(images, anchors, 0.1)
    assert outside.tolist() == [True, False, False]
    assert torch.equal(nearest[1:], images[1:])
    apart, was = nearest[0] - anchors[0], images[0] - anchors[0]
    assert apart.square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-5)
    torch.testing.assert_close(apart / apart.norm(), was / was.norm(), atol=1e-6, rtol=1e-4)
    again, moved = project(nearest, anchors, 0.1 * (1 + 1e-6))
    assert not moved.any()
    assert torch.equal(again, nearest)
