"""Adversarial steps in pixel space: as strong, or as far from the seed, as an accentuation, and without its meaning.

Both ascend the feature on the whole image along the gradient of every image divided by its own L2 norm.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

from accentor.engine.evaluate.values import clean_views, objective_of
from accentor.engine.features import Objective
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError
from accentor.spec import Feature

STEP_RMS = 0.25 / 255
"""Length of a step towards a value: the root mean square change per value of a pixel."""
BALL_STEPS = 20
BALL_STRIDE = 2.5
"""Projected steps for a distance d: each is 2.5 d / steps long (Madry et al., arXiv 1706.06083)."""
RANGE_ROUNDS = 4
"""Times that a picture cut to 0..1 is brought back to its distance."""
BISECTIONS = 20


def adversarial_at_value(
    model: Model, features: Sequence[Feature], seeds: Tensor, values: Tensor, max_steps: int = 200
) -> Tensor:
    """Change each seed's pixels until its feature has the value.

    Parameters
    ----------
    model, features
        One feature per seed.
    seeds
        [N, 3, H, W] in 0..1.
    values
        f [N] to reach; a seed that is above its value already is returned as it is.
    max_steps
        Steps after which a seed is given up, and returned as far as it came.

    Returns
    -------
    Tensor
        [N, 3, H, W] in 0..1; each at its value, found by bisection of the way to a step beyond it.
    """
    _check(features, seeds, values, "values")
    targets = values.to(model.device)
    with model.frozen():
        measure = _measure(model, objective_of(model, features))
        start, length = seeds.to(model.device), STEP_RMS * seeds[0].numel() ** 0.5
        reached = start.clone()
        for _ in range(max_steps):
            value, gradient = measure(reached)
            below = value < targets
            if not bool(below.any()):
                break
            stepped = (reached + length * _unit(gradient)).clamp(0.0, 1.0)
            reached = torch.where(below.view(-1, 1, 1, 1), stepped, reached)
        return _bisect(measure, start, reached, targets).cpu()


def adversarial_at_distance(
    model: Model, features: Sequence[Feature], seeds: Tensor, distances: Tensor, steps: int = BALL_STEPS
) -> Tensor:
    """Raise each seed's feature as far as changes of its pixels of this L2 norm can.

    Parameters
    ----------
    model, features
        One feature per seed.
    seeds
        [N, 3, H, W] in 0..1.
    distances
        ‖x − x₀‖₂ [N], over all values of all pixels.
    steps
        Projected gradient steps.

    Returns
    -------
    Tensor
        [N, 3, H, W] in 0..1, at these distances; nearer where the range or a gradient of zero keeps them.
    """
    _check(features, seeds, distances, "distances")
    reach = distances.to(model.device).view(-1, 1, 1, 1)
    start = seeds.to(model.device)
    images = start.clone()
    with model.frozen():
        measure = _measure(model, objective_of(model, features))
        for _ in range(steps):
            _, gradient = measure(images)
            images = images + BALL_STRIDE / steps * reach * _unit(gradient)
            for _ in range(RANGE_ROUNDS):
                images = (start + reach * _unit(images - start)).clamp(0.0, 1.0)
    return images.cpu()


def _measure(model: Model, objective: Objective) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return what gives f [N] of whole images and ∂f/∂x."""

    @torch.enable_grad()
    def measure(images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.detach().requires_grad_()
        value = objective(model.activations(clean_views(model, pixels), objective.layers))[:, 0]
        (gradient,) = torch.autograd.grad(value.sum(), pixels)
        return value.detach(), gradient

    return measure


def _bisect(measure: Callable[[Tensor], tuple[Tensor, Tensor]], below: Tensor, above: Tensor, values: Tensor) -> Tensor:
    """Return a point between two images at which the feature has the value."""
    low, high = torch.zeros_like(values), torch.ones_like(values)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        value, _ = measure(torch.lerp(below, above, middle.view(-1, 1, 1, 1)))
        low, high = torch.where(value < values, middle, low), torch.where(value < values, high, middle)
    return torch.lerp(below, above, high.view(-1, 1, 1, 1))


def _norm(images: Tensor) -> Tensor:
    lengths: Tensor = vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return lengths


def _unit(gradient: Tensor) -> Tensor:
    return gradient / _norm(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)


def _check(features: Sequence[Feature], seeds: Tensor, wanted: Tensor, name: str) -> None:
    if seeds.dim() != 4 or not len(features) == len(seeds) == len(wanted) > 0:
        raise InvalidRequestError(
            f"{len(features)} features, seeds of shape {list(seeds.shape)} and {len(wanted)} {name}: expected equally"
            " many, at least one, and seeds [N, 3, H, W]"
        )
