"""Activations to fit a dictionary to: some positions of every image, streamed through the model."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from accentor.engine.canvas import ImageLike, fit_canvas
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError
from accentor.images import open_image
from accentor.spec import LayerInfo, ModelCard

IMAGES_AT_ONCE = 16
"""Images that go through the model together."""


def sample_activations(
    model: Model, images: Sequence[ImageLike], layer: str, positions: int, generator: torch.Generator
) -> Tensor:
    """Return activations at random positions of every image.

    Each image is scaled until its shorter side fits the network's input, and cropped at the centre.

    Parameters
    ----------
    model
        From `load_model`.
    images
        As for `accentuate`. They are read one after the other, and not kept.
    layer
        The layer's dotted name.
    positions
        Positions taken from all images together, at most; the same number from each, without repetition.
    generator
        Chooses the positions; on the CPU.

    Returns
    -------
    Tensor
        [images, positions per image, units], float32 on the CPU.

    Raises
    ------
    InvalidRequestError
        If there are no images, or fewer positions than images.
    """
    if not images or positions < len(images):
        raise InvalidRequestError(
            f"{positions} positions of {len(images)} images: expected one position of every image, at least"
        )
    model.card.layer(layer)
    with model.frozen(), torch.no_grad():
        parts = [
            _at_positions(activations, positions // len(images), generator)
            for activations in _stream(model, images, layer)
        ]
    return torch.cat(parts)


def _stream(model: Model, images: Sequence[ImageLike], layer: str) -> Iterator[Tensor]:
    for start in range(0, len(images), IMAGES_AT_ONCE):
        batch = [_square(image, model.card) for image in images[start : start + IMAGES_AT_ONCE]]
        captured = model.activations(torch.stack(batch).to(model.device), frozenset([layer]))
        yield positions_of(captured[layer], model.card.layer(layer)).float().cpu()


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


def _square(image: ImageLike, card: ModelCard) -> Tensor:
    """Return the image as the network takes it [C, S, S], in 0..1: its shorter side scaled to S, its centre kept."""
    side = card.input_size
    opened = image if isinstance(image, Tensor) else open_image(image)
    height, width = opened.shape[-2:] if isinstance(opened, Tensor) else (opened.height, opened.width)
    pixels = fit_canvas(opened, max(side, round(side * max(height, width) / min(height, width))), card.channels)
    top, left = (pixels.shape[1] - side) // 2, (pixels.shape[2] - side) // 2
    return pixels[:, top : top + side, left : left + side]
