"""The optimisation: gradient ascent on a feature from a seed, near the seed in an early layer.

x* = argmax_x  E_τ[ f(τ(x)) ] − λ · E_τ[ ‖ h_ℓ(τ(x)) − h_ℓ(τ(x₀)) ‖ ]   (Hamblin et al., arXiv 2402.10039)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from accentor.engine.couplings import Coupling
from accentor.engine.crops import Augmentation, Views, whole_image
from accentor.engine.features import Objective
from accentor.engine.models import Model
from accentor.engine.parameterization import Parameterization, parameterize
from accentor.engine.regularization import Regularizer, balance, project
from accentor.engine.schedule import kept_steps, learning_rate
from accentor.engine.stopping import Frame, Stops
from accentor.errors import NotDifferentiableError
from accentor.spec import Recipe

OnStep = Callable[[int, Tensor, Tensor], None]


class Measured(NamedTuple):
    """f, R and, in steps that the opacity map is made of, what it shows; each [N, T]."""

    value: Tensor
    distance: Tensor
    shown: Tensor | None


@dataclass(frozen=True)
class Problem:
    """N pairs of one canvas size: maximise the objective from the seeds [N, C, H, W].

    ``network`` is what the steps run through, ``model`` what clean values are measured on: the same, or the same in
    another precision.
    """

    model: Model
    objective: Objective
    seeds: Tensor
    recipe: Recipe
    network: Model | None = None
    shown: Objective | None = None
    stop_at: Tensor | None = None
    coupling: Coupling | None = None

    @cached_property
    def regularizer(self) -> Regularizer:
        """R, in the recipe's layers ℓ or the model's own."""
        return Regularizer(self.recipe.regularizer, self.model.card.regularization_layers(self.recipe))

    def measure(
        self, views: Views, images: Tensor, anchors: Tensor | None, model: Model, *, shows: bool = False
    ) -> Measured:
        """Return f, R and, where it shows, the opacity feature's f over the views; R is 0 without anchors.

        The network runs no deeper than what is returned needs.
        """
        apart = self.shown if shows else None
        compared = self.objective.seed_layers
        layers = self.objective.layers | ({self.coupling.layer} if self.coupling else frozenset())
        if apart is not None:
            compared, layers = compared | apart.seed_layers, layers | apart.layers
        with torch.no_grad():
            seeds = model.activations(views.of(self.seeds), compared) if compared else {}
            if anchors is not None:
                layers |= self.regularizer.layers
                there = model.activations(views.of(anchors), self.regularizer.layers)
        here = model.activations(views.of(images), layers, redirect=self.recipe.redirected_relu)
        value = self.objective(here, seeds)
        if self.coupling is not None:
            value = value + self._coupled(self.coupling, here, len(images))
        distance = self.regularizer(here, there, len(images), value) if anchors is not None else torch.zeros_like(value)
        shown = value if apart is None else apart(here, seeds)
        return Measured(value, distance, shown if shows else None)

    def _coupled(self, coupling: Coupling, here: Mapping[str, Tensor], count: int) -> Tensor:
        activations = here[coupling.layer]
        layout = self.model.card.layer(coupling.layer).layout
        return coupling(activations.view(count, -1, *activations.shape[1:]), layout)


@dataclass(frozen=True)
class Outcome:
    """Frames from the seed to the result; Σ|∂f/∂x| [N, C, H, W].

    ``stopped`` says after which step each pair reached its target, if it did, 0 for one whose seed is there already;
    ``reached`` is how each was then.
    """

    frames: tuple[Frame, ...]
    accumulated: Tensor
    stopped: tuple[int | None, ...]
    reached: Frame


def optimize(
    problem: Problem,
    augmentation: Augmentation,
    *,
    steps: int | None = None,
    weight: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Outcome:
    """Ascend the objective from the seeds.

    Parameters
    ----------
    problem
        What is maximised, and from where.
    augmentation
        Gives the crops and the noise of every step.
    steps
        How many; none: the recipe's.
    weight
        λ [N]; none: balanced once, as soon as f has a gradient and the image has left the seed. There R has none but
        rounding.
    on_step
        Called after each step with its number, from 1, f [N] over its crops and the images, still on the device.

    Raises
    ------
    NotDifferentiableError
        If the objective has no gradient with respect to the image.
    """
    recipe, network = problem.recipe, problem.network or problem.model
    theta = parameterize(recipe, problem.seeds, augmentation.generators)
    seeds = problem.seeds if recipe.start == "seed" else theta.image().detach()
    anchors = theta.image().detach() if theta.exact else seeds
    # A likeness, as R, is to what θ starts at: to the seed itself it would be rounding, which pulls in full strength.
    problem = replace(problem, seeds=anchors) if theta.exact else problem
    adam = torch.optim.Adam(theta.parameters, lr=recipe.learning_rate, fused=True)
    pull = _Pull(recipe, theta, weight)
    accumulated = torch.zeros_like(seeds)
    clean = _Clean(problem, anchors)
    frames = [clean.frame(0, seeds, accumulated)]
    steps = steps or recipe.steps
    kept, stops = kept_steps(recipe, steps), Stops(problem.stop_at, frames[0])
    if stops.all_ended(frames[0], ask=True):
        steps = 0
    for step in range(steps):
        x = theta.image()
        pixels = x.detach().requires_grad_()
        near = anchors if pull.acts_in(step) else None
        here = problem.measure(augmentation.views(step), pixels, near, network, shows=pull.shows(step))
        ascent, shown = pull.ascent(here, pixels, x, step)
        value = here.value.detach()
        del here  # R leaves a part of the graph of f, as large as the activations behind its layer.
        if shown is not None:
            accumulated += stops.running(shown.abs())
        adam.zero_grad()
        adam.param_groups[0]["lr"] = learning_rate(recipe, step)
        torch.autograd.backward(x, -ascent)
        adam.step()
        if recipe.ball is not None:
            theta.set_image(*project(theta.image().detach(), anchors, recipe.ball))
        if step + 1 in kept or stops:
            frame = clean.frame(step + 1, theta.image().detach(), accumulated)
            frames += [frame] if step + 1 in kept else []
            if stops.all_ended(frame, ask=step + 1 in kept):
                break
        if on_step is not None:
            on_step(step + 1, value.mean(dim=1), pixels.detach())
    return Outcome(tuple(frames), accumulated, stops.steps(), stops.reached)


class _Pull:
    """∂(f − λ R)/∂x, with λ balanced once for each pair: the first time that both f and R have a gradient."""

    def __init__(self, recipe: Recipe, theta: Parameterization, weight: Tensor | None) -> None:
        self._recipe = recipe
        self._theta = theta
        self._weight = weight
        self._waits = False
        self._wanted = recipe.regularization > 0 or weight is not None

    def acts_in(self, step: int) -> bool:
        """Tell whether R has a say: not where the image still is its seed."""
        return self._wanted and not (step == 0 and self._theta.exact)

    def shows(self, step: int) -> bool:
        """Tell whether the opacity map is made of this step: of every so many, and of the one that measures λ."""
        return step % self._recipe.opacity_every == 0 or (self.acts_in(step) and self._weight is None)

    def ascent(self, here: Measured, pixels: Tensor, x: Tensor, step: int) -> tuple[Tensor, Tensor | None]:
        """Return ∂(f − λ R)/∂x [N, C, H, W], and ∂f/∂x of what is shown in the steps that the opacity map is made of.

        Where the map is not made, one backward pass gives the whole; else f and R each take their own.
        """
        acts, apart = self.acts_in(step), here.shown is not here.value
        if here.shown is None:
            return self._whole(here, pixels, x) if acts else _gradient(here.value, pixels), None
        df = _gradient(here.value, pixels, keep=acts or apart)
        dr = _pull_of_seed(here, pixels, keep=apart) if acts else None
        shown = _gradient(here.shown, pixels) if apart else df
        if dr is None:
            return df, shown
        return df - self._balanced(df, dr, x)[:, None, None, None] * dr, shown

    def _whole(self, here: Measured, pixels: Tensor, x: Tensor) -> Tensor:
        """Return ∂(f − λ R)/∂x of one backward pass; R takes another once a waiting pair, its λ being 0, has ∂f/∂x."""
        assert self._weight is not None  # noqa: S101 - the first balance is not made here
        weight = self._weight
        whole = _gradient(here.value - weight[:, None] * here.distance, pixels, keep=self._waits)
        if not (self._waits and ((weight == 0) & whole.flatten(1).any(dim=1)).any()):
            return whole
        dr = _pull_of_seed(here, pixels)
        return whole - (self._balanced(whole, dr, x) - weight)[:, None, None, None] * dr

    def _balanced(self, df: Tensor, dr: Tensor, x: Tensor) -> Tensor:
        """Return λ [N], measured for the pairs that wait for it: their f or R had no gradient on the crops so far."""
        if self._weight is None or self._waits:
            found = balance(self._recipe.regularization, self._on_theta(df, x), self._on_theta(dr, x))
            self._weight = found if self._weight is None else torch.where(self._weight > 0, self._weight, found)
            self._waits = bool((self._weight == 0).any())
        return self._weight

    def _on_theta(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Return Σ|∂/∂θ| [N] of what has this gradient with respect to x."""
        parts = grad(x, self._theta.parameters, gradient, retain_graph=True)
        return torch.stack([part.abs().flatten(1).sum(dim=1) for part in parts]).sum(dim=0)


class _Clean:
    """Measures f, without what couples it, and R on the clean images: each shown whole, without noise."""

    def __init__(self, problem: Problem, anchors: Tensor) -> None:
        self._problem = replace(problem, coupling=None)
        self._anchors = anchors
        count, _, *size = anchors.shape
        self._view = whole_image(count, (size[0], size[1]), problem.model.card.input_size, anchors.device)

    def frame(self, step: int, images: Tensor, accumulated: Tensor) -> Frame:
        """Return the images [N, C, H, W] after a step with their values."""
        with torch.no_grad():
            value, distance, _ = self._problem.measure(self._view, images, self._anchors, self._problem.model)
        return Frame(step, images, value[:, 0], distance[:, 0], accumulated.mean(dim=1))


def _pull_of_seed(here: Measured, pixels: Tensor, *, keep: bool = False) -> Tensor:
    """Return ∂R/∂x, as that of −R, which is to rise: a redirected ReLU tells the two apart."""
    return -_gradient(-here.distance, pixels, keep=keep)


def _gradient(values: Tensor, pixels: Tensor, *, keep: bool = False) -> Tensor:
    """Return the gradient of E_τ[values] [N, T] with respect to each pair's pixels."""
    if not values.requires_grad:
        raise NotDifferentiableError("the feature has no gradient with respect to the image at this layer")
    (gradient,) = grad(values.mean(dim=1).sum(), pixels, retain_graph=keep)
    return gradient
