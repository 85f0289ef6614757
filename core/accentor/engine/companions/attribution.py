"""Activation × gradient: what each channel of a layer adds to a feature's value, to first order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accentor.engine.companions.grids import per_channel
from accentor.engine.companions.inputs import FeatureLike, read_feature
from accentor.engine.features import Objective
from accentor.engine.models import Model
from accentor.errors import InvalidFeatureError, InvalidRequestError, NotDifferentiableError


@dataclass(frozen=True)
class Slopes:
    """A feature on B images: f [B], and by layer the activations and ∂f/∂activations, both [B, ...], detached.

    A layer that the feature does not depend on is missing from both.
    """

    values: Tensor
    activations: dict[str, Tensor]
    gradients: dict[str, Tensor]


def slopes(model: Model, images: Tensor, objective: Objective, layers: Sequence[str]) -> Slopes:
    """Measure a feature and its gradient at several layers in one forward and one backward pass.

    Parameters
    ----------
    model
        Left as it was.
    images
        [B, C, S, S] in 0..1 at the model's input size.
    objective
        f of N pairs with N · T = B: one feature an image, or one feature for T images.
    layers
        Dotted module names, each checked.

    Raises
    ------
    UnknownLayerError
        If the model has no layer of one of these names.
    NotDifferentiableError
        If the feature has no gradient with respect to the images.
    """
    if not layers:
        raise InvalidRequestError("no layer was named: expected at least one")
    for layer in layers:
        model.card.layer(layer)
    pixels = images.detach().to(model.device).requires_grad_()
    with model.frozen(), torch.enable_grad():
        captured = model.activations(pixels, objective.layers | frozenset(layers))
        values = objective(captured).flatten()
        if not values.requires_grad:
            raise NotDifferentiableError("the feature has no gradient with respect to the image at this layer")
        reached = [layer for layer in layers if captured[layer].requires_grad]
        found = torch.autograd.grad(values.sum(), [captured[layer] for layer in reached], allow_unused=True)
    gradients = {layer: one for layer, one in zip(reached, found, strict=True) if one is not None}
    return Slopes(values.detach(), {layer: captured[layer].detach() for layer in gradients}, gradients)


def attribution_vectors(
    model: Model, images: Tensor, feature: FeatureLike | Objective, layers: Sequence[str]
) -> dict[str, Tensor]:
    """Return by layer the attribution of every channel: Σ over positions of activation × ∂f/∂activation.

    Where the rest of the network is linear from the layer to f, a layer's attributions sum to f (but for biases). On
    layers of tokens the positions are all tokens, the class token too: logits are read from it.

    Parameters
    ----------
    model
        Left as it was.
    images
        [B, C, S, S] in 0..1 at the model's input size; an image's vectors do not depend on the others.
    feature
        f: a feature or its string form, the same for all images; or an `Objective` of N pairs with N · T = B.
    layers
        Dotted module names that f depends on.

    Returns
    -------
    dict
        By layer, [B, units], detached, on the model's device.

    Raises
    ------
    UnknownLayerError, InvalidFeatureError
        If the model has no such layer or feature, or the feature does not depend on the layer.
    InvalidRequestError
        If the images are not of the model's input size, or no layer is named.
    """
    _check_batch(images, model.card.input_size)
    objective = feature if isinstance(feature, Objective) else objective_of(model, feature, len(images))
    measured = slopes(model, images, objective, layers)
    check_reached(measured, layers)
    return {
        layer: per_channel(measured.activations[layer] * measured.gradients[layer], model.card.layer(layer))
        for layer in layers
    }


def objective_of(model: Model, feature: FeatureLike, count: int) -> Objective:
    """Return f as the objective of this many images, checked against the model."""
    return Objective([read_feature(model, feature)] * count, model.card, model.device)


def check_reached(measured: Slopes, layers: Sequence[str]) -> None:
    """Raise `InvalidFeatureError` if the feature has no gradient at one of the layers."""
    if unreached := [layer for layer in layers if layer not in measured.gradients]:
        raise InvalidFeatureError(
            f"the feature does not depend on {', '.join(unreached)}: "
            "expected layers before the one that the feature reads, or that one"
        )


def _check_batch(images: Tensor, side: int) -> None:
    if images.dim() != 4 or tuple(images.shape[-2:]) != (side, side) or not len(images):
        raise InvalidRequestError(
            f"the images are a tensor of shape {list(images.shape)}: expected [B, C, {side}, {side}] with B at least 1"
        )
