"""The loop against the method's formulas written out for one image, one crop and the pixel form."""

import pytest
import torch
from torch.nn.functional import interpolate

from accentor.engine import optimize as loop
from accentor.engine.color import decorrelate, recorrelate
from accentor.engine.crops import Augmentation, Stream
from accentor.engine.features import Objective
from accentor.engine.optimize import Problem, optimize
from accentor.engine.regularization import balance
from accentor.spec import Logit, Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(
    learning_rate=0.05,
    decay=1.0,
    opacity_every=1,
    parameterization="pixel",
    steps=6,
    crops=1,
    crop_size=(1.0, 1.0),
    noise_std=0.0,
    noise_range=0.0,
    size=40,
    snapshots=6,
    regularization=0.0,
)


@pytest.fixture
def seed_image():
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return interpolate(small, (40, 40), mode="bilinear")


def written_out(model, net, seed_image, recipe):
    """Return the images after every step, Σ|∂f/∂x|, and λ."""

    def view(x):
        small = interpolate(x, (32, 32), mode="bilinear", antialias=True, align_corners=True)
        return (small - model._mean) / model._std

    def total(values):
        return values.abs().sum()

    theta = (5 * decorrelate(torch.logit(seed_image, eps=1e-6))).requires_grad_()
    adam = torch.optim.Adam([theta], lr=recipe.learning_rate)
    there = net.early(view(seed_image)).detach()
    images, accumulated, weight = [], 0.0, None
    for step in range(recipe.steps):
        x = recorrelate(theta / 5).sigmoid()
        f = net(view(x))[0, 1]
        distance = (net.early(view(x)) - there).norm(dim=1).mean()
        df, dx = torch.autograd.grad(f, [theta, x], retain_graph=True)
        dr = torch.autograd.grad(distance, theta)[0] if step else torch.zeros_like(df)
        if step == 1:
            weight = recipe.regularization * total(df) / total(dr)
        accumulated = accumulated + dx.abs()
        theta.grad = -(df - (weight or 0.0) * dr)
        adam.step()
        images.append(recorrelate(theta / 5).sigmoid().detach())
    return images, accumulated, weight


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loop_is_the_formula(tiny, tiny_net, seed_image, alpha):
    recipe = RECIPE.model_copy(update={"regularization": alpha})
    images, accumulated, _ = written_out(tiny, tiny_net, seed_image, recipe)
    augmentation = Augmentation([Stream(0, recipe, (40, 40), CPU)], recipe, (40, 40), 32)
    problem = Problem(tiny, Objective([Logit(unit=1)], tiny.card, CPU), seed_image, recipe)
    with tiny.frozen():
        outcome = optimize(problem, augmentation)
    assert [frame.step for frame in outcome.frames] == list(range(7))
    for frame, image in zip(outcome.frames[1:], images, strict=True):
        torch.testing.assert_close(frame.images, image, atol=5e-4, rtol=0)
        assert (frame.images - image).abs().mean() < 1e-5
    torch.testing.assert_close(outcome.accumulated, accumulated, rtol=1e-2, atol=1e-2 * accumulated.max().item())


def test_the_given_weight_is_used(tiny, seed_image):
    augmentation = Augmentation([Stream(0, RECIPE, (40, 40), CPU)], RECIPE, (40, 40), 32)
    problem = Problem(tiny, Objective([Logit(unit=1)], tiny.card, CPU), seed_image, RECIPE)
    distances = []
    with tiny.frozen():
        for weight in (None, torch.zeros(1), torch.full((1,), 0.1), torch.full((1,), 10.0)):
            distances.append(optimize(problem, augmentation, weight=weight).frames[-1].distance.item())
    assert distances[1] == pytest.approx(distances[0], rel=1e-3)
    assert distances[1] > distances[2] > distances[3]


class Flickering(Objective):
    """Logit 1 of every pair, which has no gradient in the first so many steps."""

    def __init__(self, model, dark):
        super().__init__([Logit(unit=1)] * len(dark), model.card, CPU)
        self.step, self.dark = 0, torch.tensor(dark)

    def __call__(self, here, seeds):
        value = super().__call__(here, seeds)
        if value.requires_grad:
            value = value * (self.step >= self.dark)[:, None]
            self.step += 1
        return value


@pytest.mark.parametrize("every", [1, 8])
def test_a_pair_without_a_gradient_at_first_is_balanced_later(tiny, seed_image, every):
    recipe = RECIPE.model_copy(update={"regularization": 3.0, "steps": 9, "opacity_every": every})

    def run(*dark, weight=None):
        streams = [Stream(0, recipe, (40, 40), CPU) for _ in dark]
        problem = Problem(tiny, Flickering(tiny, dark), seed_image.expand(len(dark), -1, -1, -1), recipe)
        with tiny.frozen():
            return optimize(problem, Augmentation(streams, recipe, (40, 40), 32), weight=weight).frames[-1]

    together = run(0, 1, 3)
    for row, dark in enumerate((0, 1, 3)):
        alone, free = run(dark), run(dark, weight=torch.zeros(1))
        torch.testing.assert_close(together.images[row], alone.images[0], atol=1e-5, rtol=0)
        assert alone.distance < 0.7 * free.distance, f"dark for {dark} steps"


@pytest.mark.parametrize(("dark", "brightness"), [(0, 1.0), (1_000, 1.0), (0, torch.nan)], ids=["sane", "dead", "nan"])
def test_a_pair_that_is_never_balanced_takes_no_backward_passes_of_its_own(
    tiny, seed_image, dark, brightness, monkeypatch
):
    """R has one of its own in the step of the first balance, the second, and in those of the opacity map."""
    taken, real = [], loop._gradient
    monkeypatch.setattr(loop, "_gradient", lambda *args, **options: taken.append(0) or real(*args, **options))
    recipe = RECIPE.model_copy(update={"regularization": 3.0, "steps": 9, "opacity_every": 8})
    streams = [Stream(0, recipe, (40, 40), CPU) for _ in range(2)]
    problem = Problem(tiny, Flickering(tiny, (0, dark)), torch.cat([seed_image, brightness * seed_image]), recipe)
    with tiny.frozen():
        optimize(problem, Augmentation(streams, recipe, (40, 40), 32))
    assert len(taken) == 9 + 2


def test_alpha_is_the_ratio_of_the_pulls():
    """Of one gradient to the other, each the sum of absolute values over all of θ."""
    df, dr = torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([[-4.0, 2.0], [1.0, 1.0]])
    weight = balance(0.5, df.abs().sum(dim=1), dr.abs().sum(dim=1))
    torch.testing.assert_close(weight, torch.tensor([0.25, 0.125]))


def test_on_step_gets_the_mean_over_the_crops(tiny, seed_image):
    recipe = RECIPE.model_copy(update={"crops": 3, "crop_size": (0.3, 0.9), "steps": 2})
    augmentation = Augmentation([Stream(0, recipe, (40, 40), CPU)], recipe, (40, 40), 32)
    problem = Problem(tiny, Objective([Logit(unit=1)], tiny.card, CPU), seed_image, recipe)
    told = []
    with tiny.frozen():
        optimize(problem, augmentation, on_step=lambda step, value, images: told.append((step, value)))
        with torch.no_grad():
            first, distance, _ = problem.measure(augmentation.views(0), seed_image, seed_image, tiny)
    assert [step for step, _ in told] == [1, 2]
    assert not told[0][1].requires_grad
    # the noise stream has moved on, but there is no noise: the crops of step 0 are the same
    torch.testing.assert_close(told[0][1], first.mean(dim=1), atol=1e-5, rtol=1e-4)
    assert not distance.any(), "the same crops for x and for x₀"
