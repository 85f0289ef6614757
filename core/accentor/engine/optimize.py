"""The optimisation: gradient ascent on a feature from a seed, near the seed in an early layer.

x* = argmax_x  E_τ[ f(τ(x)) ] − λ · E_τ[ ‖ h_ℓ(τ(x)) − h_ℓ(τ(x₀)) ‖ ]   (Hamblin et al., arXiv 2402.10039)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad

from accentor.engine.crops import Augmentation, Views, whole_image
from accentor.engine.features import Objective
from accentor.engine.models import Model
from accentor.engine.parameterization import Parameterization, parameterize
from accentor.engine.regularization import balance, latent_distance
from accentor.errors import NotDifferentiableError
from accentor.spec import Recipe

OnStep = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Problem:
    """N pairs of one canvas size: maximise the objective from the seeds [N, 3, H, W]."""

    model: Model
    objective: Objective
    seeds: Tensor
    recipe: Recipe

    @property
    def layer(self) -> str:
        """ℓ, the regularisation layer."""
        return self.recipe.regularization_layer or self.model.card.regularization_layer

    def measure(self, views: Views, images: Tensor, anchors: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return f [N, T] and R [N, T] over the views; R is 0 without anchors, which are images without gradient."""
        count = len(images)
        if anchors is None:
            value = self.objective(self.model.activations(views.of(images), self.objective.layers))
            return value, torch.zeros_like(value)
        with torch.no_grad():
            there = self.model.activations(views.of(anchors), frozenset({self.layer}))[self.layer]
        here = self.model.activations(views.of(images), self.objective.layers | {self.layer})
        return self.objective(here), latent_distance(here[self.layer], there, count)


@dataclass(frozen=True)
class Frame:
    """The images [N, 3, H, W] after a step, with f [N] and R [N] on the clean images."""

    step: int
    images: Tensor
    value: Tensor
    distance: Tensor


@dataclass(frozen=True)
class Outcome:
    """Frames from the seed to the result, and Σ|∂f/∂x| [N, 3, H, W] over the steps."""

    frames: tuple[Frame, ...]
    accumulated: Tensor


def optimize(
    problem: Problem, augmentation: Augmentation, *, weight: Tensor | None = None, on_step: OnStep | None = None
) -> Outcome:
    """Ascend the objective from the seeds.

    Parameters
    ----------
    problem
        What is maximised, and from where.
    augmentation
        Gives the crops and the noise of every step.
    weight
        λ [N]; none: balanced once, as soon as the image has left the seed. There R has no gradient but rounding.
    on_step
        Called after each step with its number, from 1, and f [N] over its crops, still on the device.

    Raises
    ------
    NotDifferentiableError
        If the objective has no gradient with respect to the image.
    """
    recipe = problem.recipe
    theta = parameterize(recipe, problem.seeds)
    anchors = theta.image().detach() if theta.exact else problem.seeds
    regularized = anchors if recipe.regularization > 0 or weight is not None else None
    adam = torch.optim.Adam(theta.parameters, lr=recipe.learning_rate)
    accumulated = torch.zeros_like(problem.seeds)
    frames = [_clean_frame(problem, 0, problem.seeds, anchors)]
    kept = _snapshot_steps(recipe)
    for step in range(recipe.steps):
        x = theta.image()
        pixels = x.detach().requires_grad_()
        f, distance = problem.measure(augmentation.views(step), pixels, regularized)
        df = _gradient(f, pixels, keep=regularized is not None)
        dr = _gradient(distance, pixels) if regularized is not None else None
        if dr is not None and weight is None and (step > 0 or not theta.exact):
            weight = balance(recipe.regularization, _pull(df, x, theta), _pull(dr, x, theta))
        ascent = df if dr is None or weight is None else df - weight[:, None, None, None] * dr
        accumulated += df.abs()
        adam.zero_grad()
        torch.autograd.backward(x, -ascent)
        adam.step()
        if step + 1 in kept:
            frames.append(_clean_frame(problem, step + 1, theta.image().detach(), anchors))
        if on_step is not None:
            on_step(step + 1, f.detach().mean(dim=1))
    return Outcome(tuple(frames), accumulated)


def _gradient(values: Tensor, pixels: Tensor, *, keep: bool = False) -> Tensor:
    """Return the gradient of E_τ[values] [N, T] with respect to each pair's pixels."""
    if not values.requires_grad:
        raise NotDifferentiableError("the feature has no gradient with respect to the image at this layer")
    (gradient,) = grad(values.mean(dim=1).sum(), pixels, retain_graph=keep)
    return gradient


def _pull(gradient: Tensor, x: Tensor, theta: Parameterization) -> Tensor:
    """Return Σ|∂/∂θ| [N] of what has this gradient with respect to x."""
    parts = grad(x, theta.parameters, gradient, retain_graph=True)
    return torch.stack([part.abs().flatten(1).sum(dim=1) for part in parts]).sum(dim=0)


def _clean_frame(problem: Problem, step: int, images: Tensor, anchors: Tensor) -> Frame:
    view = whole_image(len(images), (images.shape[2], images.shape[3]), problem.model.card.input_size, images.device)
    with torch.no_grad():
        value, distance = problem.measure(view, images, anchors)
    return Frame(step, images, value[:, 0], distance[:, 0])


def _snapshot_steps(recipe: Recipe) -> frozenset[int]:
    count = max(recipe.snapshots, 1)
    return frozenset(round(recipe.steps * (i + 1) / count) for i in range(count)) - {0}
