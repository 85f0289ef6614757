"""What the companions are given, read as accentuation reads it: features checked, images on a canvas."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from accentor.engine.accentuate import FeatureLike, as_feature
from accentor.engine.canvas import ImageLike, fit_canvas
from accentor.engine.crops import whole_image
from accentor.engine.features import inline
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError
from accentor.spec import Feature, Recipe

__all__ = ["BATCH", "FeatureLike", "ImageLike", "Images", "canvases", "in_batches", "is_single", "read_feature"]

BATCH = 16
"""Images in one forward pass unless the caller says otherwise."""

Images = ImageLike | Iterable[ImageLike]
"""One image, or several: a list, or anything that gives one after the other."""


def read_feature(model: Model, feature: FeatureLike) -> Feature:
    """Return a feature or its string form as the model resolves it: labels as indices, files as vectors.

    Raises
    ------
    UnknownLayerError, UnitOutOfRangeError, InvalidFeatureError
        With what was given and what there is.
    """
    return model.card.resolve(inline(as_feature(feature), model.card))


def is_single(images: Images) -> bool:
    """Tell whether this is one image rather than several."""
    return isinstance(images, str | Path | bytes | Image.Image | Tensor)


def _each(images: Images) -> Iterator[ImageLike]:
    if isinstance(images, str | Path | bytes | Image.Image | Tensor):
        yield images
    else:
        yield from images


def canvases(model: Model, images: Images, size: int | None) -> Iterator[Tensor]:
    """Give the images one after the other as float [C, H, W] in 0..1 on the canvas, each read when it is asked for.

    ``size`` is the longer side in pixels; none: as in an accentuation of the model.

    Raises
    ------
    InvalidRequestError
        If there is none.
    InvalidImageError
        If one cannot be read.
    """
    longer_side = size or model.card.canvas_size(Recipe())
    count = 0
    for image in _each(images):
        yield fit_canvas(image, longer_side, model.card.channels)
        count += 1
    if not count:
        raise InvalidRequestError("no image was given: expected at least one")


def in_batches(model: Model, pictures: Iterator[Tensor], batch: int = BATCH) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Give the canvases in batches, each with the whole images [B, C, S, S] as the model takes them, on its device."""
    if batch < 1:
        raise InvalidRequestError(f"the batch is {batch} images: expected at least 1")
    waiting: list[Tensor] = []
    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == batch:
            yield waiting, _as_input(model, waiting)
            waiting = []
    if waiting:
        yield waiting, _as_input(model, waiting)


def _as_input(model: Model, pictures: Sequence[Tensor]) -> Tensor:
    side = model.card.input_size
    whole = (
        whole_image(1, (one.shape[1], one.shape[2]), side, model.device).of(one[None].to(model.device))
        for one in pictures
    )
    return torch.cat(list(whole))
