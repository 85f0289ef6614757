"""What a feature is worth on whole, clean images; and how strong it gets on natural ones."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from accentor.engine.canvas import ImageLike, fit_canvas
from accentor.engine.crops import whole_image
from accentor.engine.features import Objective, inline
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError
from accentor.spec import Feature, Recipe, parse_feature

BATCH = 32
"""Images measured in one pass."""


def clean_views(model: Model, images: Tensor) -> Tensor:
    """Return whole images [N, C, H, W] as the model sees them: [N, C, S, S] in 0..1, without noise, differentiable."""
    height, width = images.shape[2:]
    return whole_image(len(images), (height, width), model.card.input_size, model.device).of(images.to(model.device))


def objective_of(model: Model, features: Sequence[Feature]) -> Objective:
    """Return f of these features, one per image."""
    return Objective([model.card.resolve(inline(feature)) for feature in features], model.card, model.device)


def feature_values(model: Model, features: Sequence[Feature], images: Tensor) -> Tensor:
    """Return f [N] of one feature per image, on whole images [N, C, H, W] in 0..1."""
    if len(features) != len(images):
        raise InvalidRequestError(f"{len(features)} features and {len(images)} images: expected equally many")
    values = []
    with model.frozen(), torch.no_grad():
        for start in range(0, len(images), BATCH):
            objective = objective_of(model, features[start : start + BATCH])
            views = clean_views(model, images[start : start + BATCH])
            values.append(objective(model.activations(views, objective.layers))[:, 0].cpu())
    return torch.cat(values)


def values_over(model: Model, feature: Feature | str, images: Tensor | Iterable[ImageLike]) -> Tensor:
    """Return the value [N] of one feature on every image.

    Parameters
    ----------
    model, feature
        As for `accentuate`.
    images
        [N, C, H, W] in 0..1, or any number of paths, pictures or tensors of any sizes: read one at a time, and fitted
        to the model's canvas.

    Raises
    ------
    InvalidRequestError
        If there are none.
    """
    asked = parse_feature(feature) if isinstance(feature, str) else feature
    if isinstance(images, Tensor):
        parts = [feature_values(model, [asked] * len(images), images)] if len(images) else []
    else:
        canvas, channels = model.card.canvas_size(Recipe()), model.card.channels
        parts = [feature_values(model, [asked], fit_canvas(image, canvas, channels)[None]) for image in images]
    if not parts:
        raise InvalidRequestError("no images were given: expected at least one")
    return torch.cat(parts)


def activation_quantile(
    model: Model, feature: Feature | str, images: Tensor | Iterable[ImageLike], q: float = 0.999
) -> float:
    """Return the value that a share q of natural images does not exceed: "as strong as the top 0.1 %" is q = 0.999.

    Give it as ``Recipe(stop_at=...)``. Between two images it is linear, as in ``torch.quantile``; a q that so few
    images do not resolve gives nearly the strongest of them.

    Parameters
    ----------
    model, feature
        As for `accentuate`.
    images
        As for `values_over`.
    q
        0..1.

    Raises
    ------
    InvalidRequestError
        If there are no images, or q is outside 0..1.
    """
    if not 0.0 <= q <= 1.0:
        raise InvalidRequestError(f"q is {q:g}: expected a share, 0 to 1")
    return torch.quantile(values_over(model, feature, images).double(), q).item()


def most_exciting(
    model: Model, feature: Feature | str, images: Tensor | Iterable[ImageLike], count: int
) -> tuple[int, ...]:
    """Return the indices of the images that excite the feature most, the strongest first."""
    values = values_over(model, feature, images)
    return tuple(values.argsort(descending=True, stable=True)[:count].tolist())
