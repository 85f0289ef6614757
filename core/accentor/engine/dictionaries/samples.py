"""Activations to fit a dictionary to: some positions of every image, streamed through the model."""

import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from accentor.engine.canvas import ImageLike
from accentor.engine.loading import Skipped, as_items, load
from accentor.engine.models import Model
from accentor.errors import InvalidImageError, InvalidRequestError
from accentor.spec import LayerInfo

IMAGES_AT_ONCE = 16
"""Images that go through the model together."""


def sample_activations(
    model: Model,
    images: Sequence[ImageLike],
    layer: str,
    positions: int,
    generator: torch.Generator,
    on_skipped: Callable[[Skipped], None] | None = None,
) -> Tensor:
    """Return activations at random positions of every image.

    Each image is scaled until its shorter side fits the network's input, and cropped at the centre.

    Parameters
    ----------
    model
        From `load_model`.
    images
        As for `accentuate`. They are read ahead of the network, and not kept.
    layer
        The layer's dotted name.
    positions
        Positions taken from all images together, at most; the same number from each, without repetition.
    generator
        Chooses the positions; on the CPU.
    on_skipped
        Told of every image that cannot be read, which is passed over; none: it is an error.

    Returns
    -------
    Tensor
        [images that were read, positions per image, units], float32 on the CPU.

    Raises
    ------
    InvalidRequestError
        If there are no images, or fewer positions than images.
    InvalidImageError
        If an image cannot be read and nobody is told, or if none can be.
    """
    if not images or positions < len(images):
        raise InvalidRequestError(
            f"{positions} positions of {len(images)} images: expected one position of every image, at least"
        )
    model.card.layer(layer)
    with model.frozen(), torch.no_grad():
        parts = [
            _at_positions(activations, positions // len(images), generator)
            for activations in _stream(model, images, layer, on_skipped or _refuse)
        ]
    if not parts:
        raise InvalidImageError(f"there is no image to fit: none of {len(images)} could be read")
    return torch.cat(parts)


def _stream(
    model: Model, images: Sequence[ImageLike], layer: str, on_skipped: Callable[[Skipped], None]
) -> Iterator[Tensor]:
    for loaded in load(as_items(images), model.card, IMAGES_AT_ONCE, os.cpu_count() or 1):
        for skipped in loaded.skipped:
            on_skipped(skipped)
        if loaded.images:
            captured = model.activations(loaded.pixels.to(model.device), frozenset([layer]))
            yield positions_of(captured[layer], model.card.layer(layer)).float().cpu()


def _refuse(skipped: Skipped) -> None:
    raise InvalidImageError(skipped.reason)


def positions_of(activations: Tensor, layer: LayerInfo) -> Tensor:
    """Return [B, positions, units] of a layer's activations, class tokens left out."""
    match layer.layout:
        case "CHW":
            return activations.flatten(2).transpose(1, 2)
        case "HWC":
            return activations.flatten(1, 2)
        case "NC":
            return activations[:, layer.class_tokens :]
        case _:
            return activations[:, None]


def _at_positions(activations: Tensor, count: int, generator: torch.Generator) -> Tensor:
    images, available, units = activations.shape
    chosen = torch.rand(images, available, generator=generator).argsort(dim=1)[:, :count]
    return activations.gather(1, chosen[:, :, None].expand(-1, -1, units))
