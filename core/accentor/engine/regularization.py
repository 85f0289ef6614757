"""The regulariser R: how far an image has gone from its seed, seen by early layers; its weight λ; and the L2 ball.

Every distance is 0 and pulls nowhere at the seed itself, and is smooth below rounding: the plain norm's gradient there
is a unit vector in the direction of rounding noise. Gradients are closed forms, found in the forward pass.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import grad
from torch.autograd.function import Function, once_differentiable
from torch.linalg import vector_norm

Kind = Literal["l2", "l1", "cosine", "pearson", "orthogonal"]

NORM_FLOOR = 1e-6
"""Differences below this share of the seed's own activations are rounding (float32) and pull nowhere."""

SMALLEST = 1e-18
"""Keeps roots of squares away from 0 where the seed's activations are all zero."""

Sloped = tuple[Tensor, Tensor | None]
"""A distance [B], and its gradient with respect to the activations where it is wanted."""


class Regularizer:
    """R of N pairs: ``regularizer(here, there, count)`` gives [N, T], differentiable with respect to ``here``.

    Of several layers R is the mean of their distances, each divided by the size of the seed's activations there (the
    mean of their norm over the pair's crops and positions), since layers differ in scale; cosine and Pearson have none.

    Parameters
    ----------
    kind
        The recipe's ``regularizer``; the formulas are those of `latent_distance`.
    layers
        ℓ, dotted names.
    """

    def __init__(self, kind: Kind, layers: Sequence[str]) -> None:
        self.kind = kind
        self.layers = frozenset(layers)
        self._names = tuple(dict.fromkeys(layers))

    def __call__(
        self, here: Mapping[str, Tensor], there: Mapping[str, Tensor], count: int, value: Tensor | None = None
    ) -> Tensor:
        """Return R [N, T].

        Parameters
        ----------
        here, there
            Activations [N · T, ...] by layer, of the images and of their seeds.
        count
            N.
        value
            f [N, T], of the activations ``here``: used by ``orthogonal`` alone, whose direction is ∂f/∂h. Without it,
            without gradients, or at a layer that f does not depend on, the distance is plain L2.
        """
        directions = self._directions(here, value)
        distances = [
            latent_distance(here[name], there[name], count, self.kind, directions.get(name)) for name in self._names
        ]
        if len(distances) == 1:
            return distances[0]
        sizes = [self._size(there[name], count) for name in self._names]
        return torch.stack([distance / size for distance, size in zip(distances, sizes, strict=True)]).mean(dim=0)

    def _directions(self, here: Mapping[str, Tensor], value: Tensor | None) -> dict[str, Tensor]:
        """Return ∂f/∂h by layer; the graph of f is kept."""
        if self.kind != "orthogonal" or value is None or not (torch.is_grad_enabled() and value.requires_grad):
            return {}
        inputs = [here[name] for name in self._names]
        slopes = grad(value.sum(), inputs, retain_graph=True, allow_unused=True)
        return {name: slope for name, slope in zip(self._names, slopes, strict=True) if slope is not None}

    def _size(self, there: Tensor, count: int) -> Tensor:
        """Return the mean norm [N, 1] of the seed's activations; 1 where they are all zero, or have no scale."""
        if self.kind in ("cosine", "pearson"):
            return there.new_ones(count, 1, dtype=torch.float32)
        order = 1 if self.kind == "l1" else 2
        norms = vector_norm(there.detach(), order, dim=_channel_axis(there), dtype=torch.float32)
        size = norms.view(count, -1).mean(dim=1, keepdim=True)
        return torch.where(size > 0, size, 1.0)


def latent_distance(
    activations: Tensor, seed_activations: Tensor, count: int, kind: Kind = "l2", direction: Tensor | None = None
) -> Tensor:
    """Return R [N, T], the distance of h = h_ℓ(τx) from h₀ = h_ℓ(τx₀) in one layer.

    ==============  =====================================================================================
    ``l2``          mean over positions of ‖h − h₀‖₂ over channels (Hamblin et al., arXiv 2402.10039)
    ``l1``          mean over positions of ‖h − h₀‖₁ over channels
    ``cosine``      1 − cos(h, h₀) of the whole crop, all channels and positions; found as ½ ‖ĥ − ĥ₀‖²
    ``pearson``     1 − the correlation of all values of the crop: the same with their mean taken off
    ``orthogonal``  as ``l2``, of what is orthogonal to the unit direction v at each position: (I − v vᵀ)(h − h₀)
    ==============  =====================================================================================

    All are those of the reference (faccent 1.0.3), whose correlation runs over all crops together. Differences below
    `NORM_FLOOR` of the seed's activations (half a unit of rounding, where that is more) are smoothed away.

    Parameters
    ----------
    activations, seed_activations
        [N · T, C, H, W], [N · T, tokens, C] or [N · T, C] at the regularisation layer; float32 or bfloat16.
    count
        N.
    kind
        Which distance.
    direction
        For ``orthogonal``: ∂f/∂h of the activations' shape, or any that broadcasts to it, of whatever length. It is
        e_k for a channel of ℓ itself and v for a direction there. Where it is zero, and if none is given, nothing is
        taken out.

    Returns
    -------
    Tensor
        [N, T], float32 (float64 for activations of that type).
    """
    here, there = activations.detach(), seed_activations.detach()
    sloped = torch.is_grad_enabled() and activations.requires_grad
    match kind:
        case "cosine" | "pearson":
            distance, slope = _dissimilarity(here, there, centred=kind == "pearson", sloped=sloped)
        case "l1":
            distance, slope = _mean_l1(here - there, there, sloped=sloped)
        case "l2" | "orthogonal":
            apart = here - there
            if kind == "orthogonal" and direction is not None:
                apart = reject(apart, direction.detach())
            distance, slope = _mean_l2(apart, there, sloped=sloped)
    if slope is not None:
        distance = _WithSlope.apply(activations, distance, slope)
    return distance.view(count, -1)


def reject(activations: Tensor, direction: Tensor) -> Tensor:
    """Return h − v (vᵀ h) at each position, with v = direction / ‖direction‖ over channels; h where it is zero."""
    axis = _channel_axis(activations)
    length = vector_norm(direction, dim=axis, keepdim=True)
    unit = torch.where(length > 0, direction / length.clamp_min(torch.finfo(length.dtype).tiny), 0.0)
    along = (activations * unit).sum(dim=axis, keepdim=True, dtype=_wide(activations))
    return activations - (along * unit).to(activations.dtype)


def balance(alpha: float, feature_pull: Tensor, seed_pull: Tensor) -> Tensor:
    """Return λ [N] = α · Σ|∂f/∂θ| / Σ|∂R/∂θ|; 0 where the regulariser does not pull at all, NaN of NaN.

    Both pulls are to be measured away from the seed, one step of f alone from it: at the seed the reference's
    Σ|∂R/∂θ| is rounding noise, and ours is 0. On a line through the seed the L2 and L1 distances pull alike at all
    small distances, so that α keeps its meaning: the seed's pull at the start as a share of the feature's.
    """
    tiny = torch.finfo(seed_pull.dtype).tiny
    return torch.where(seed_pull == 0, 0.0, alpha * feature_pull / seed_pull.clamp_min(tiny))


def project(images: Tensor, anchors: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the nearest images within an L2 ball around the anchors, and which were outside.

    x ← x₀ + (x − x₀) · min(1, r / ‖x − x₀‖), with the norm as root mean square over all values of an image.

    Parameters
    ----------
    images, anchors
        x and x₀, [N, C, H, W] in 0..1.
    radius
        r, in 0..1.

    Returns
    -------
    tuple of Tensor
        [N, C, H, W] in 0..1, and bool [N].
    """
    apart = images - anchors
    length = apart.flatten(1).square().mean(dim=1).sqrt()
    outside = length > radius
    share = torch.where(outside, radius / length.clamp_min(radius), 1.0)
    nearest = torch.addcmul(anchors, apart, share[:, None, None, None])
    return torch.where(outside[:, None, None, None], nearest, images), outside


def _mean_l2(apart: Tensor, there: Tensor, *, sloped: bool) -> Sloped:
    """Return mean_p √(‖d_p‖² + ε²) − ε, and its gradient d / (√(‖d_p‖² + ε²) · positions), made in d's own memory."""
    squares = _sum_of_squares(apart)
    positions = squares[0].numel()
    floor = _floor(there, positions).view(-1, *[1] * (squares.dim() - 1))
    root = (squares + floor.square()).sqrt_()
    distance = (squares / (root + floor)).flatten(1).mean(dim=1)
    return distance, apart.mul_((1 / (root * positions)).to(apart.dtype)) if sloped else None


def _mean_l1(apart: Tensor, there: Tensor, *, sloped: bool) -> Sloped:
    """Return Σ_c √(d_c² + ε²) − ε, its mean over positions, and its gradient; ε is shared by the channels."""
    wide = apart.to(_wide(apart))
    positions = wide[0].numel() // wide.shape[_channel_axis(wide)]
    floor = _floor(there, wide[0].numel()).view(-1, *[1] * (wide.dim() - 1))
    squares = wide.square()
    root = (squares + floor.square()).sqrt_()
    distance = squares.div_(root + floor).flatten(1).sum(dim=1) / positions
    return distance, wide.div_(root.mul_(positions)).to(apart.dtype) if sloped else None


def _dissimilarity(here: Tensor, there: Tensor, *, centred: bool, sloped: bool) -> Sloped:
    """Return ½ ‖a − b‖² of the two crops' unit vectors a and b, and its gradient (a − b − a ⟨a, a − b⟩) / ‖h‖.

    It is ½ where one of the crops is all zero, whose gradient is 0, and 0 where both are.
    """
    dead = _floor(there, 1)[:, None].square()
    (a, length), (b, _) = (_unit(h, dead, centred=centred) for h in (here, there))
    apart = a - b
    distance = apart.square().sum(dim=1) / 2
    if not sloped:
        return distance, None
    slope = apart.sub_(a * (a * apart).sum(dim=1, keepdim=True)).div_(length)
    return distance, torch.where(length.square() > 2 * dead, slope, 0.0).view(here.shape).to(here.dtype)


def _unit(activations: Tensor, dead: Tensor, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Return h / ‖h‖ [B, values] and ‖h‖ [B, 1], which is no smaller than that of a dead crop."""
    flat = activations.flatten(1).to(_wide(activations))
    flat = flat - flat.mean(dim=1, keepdim=True) if centred else flat
    length = (flat.square().sum(dim=1, keepdim=True) + dead).sqrt_()
    return flat / length, length


def _floor(there: Tensor, parts: int) -> Tensor:
    """Return ε [B]: the share of ‖h₀‖ that is rounding, per root of so many equal parts."""
    share = max(NORM_FLOOR, torch.finfo(there.dtype).eps / 2)
    size = vector_norm(there, dim=tuple(range(1, there.dim()))).to(_wide(there))
    floor: Tensor = share * (size.square() / parts).clamp_min(SMALLEST).sqrt_()
    return floor


def _sum_of_squares(values: Tensor) -> Tensor:
    """Return the sum over channels, kept as an axis; torch's norm is faster where they lie side by side, only there."""
    axis = _channel_axis(values)
    if values.stride(axis) == 1:
        norm: Tensor = vector_norm(values, dim=axis, keepdim=True, dtype=_wide(values))
        return norm.square_()
    return values.square().sum(dim=axis, keepdim=True, dtype=_wide(values))


def _channel_axis(activations: Tensor) -> int:
    return 2 if activations.dim() == 3 else 1


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


class _WithSlope(Function):
    """Passes on a distance [B] whose gradient with respect to the activations is known already."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, distance: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return distance.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient.view(-1, *[1] * (slope.dim() - 1)).to(slope.dtype), None, None
