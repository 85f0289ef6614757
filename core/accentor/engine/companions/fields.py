"""Gradient receptive fields: the part of the input that a unit can see, and sees."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from accentor.engine.accentuation import to_picture
from accentor.engine.canvas import fit_canvas
from accentor.engine.companions.grids import check_grid, on_grid
from accentor.engine.companions.inputs import BATCH, ImageLike, Images, canvases, in_batches
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError, NotDifferentiableError, UnitOutOfRangeError
from accentor.images import open_image
from accentor.spec import LayerInfo

SHARE = 0.995
RANDOM_INPUTS = 16


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What one position of a layer sees.

    Attributes
    ----------
    layer, position, unit
        Whose field it is; with no unit, all channels at the position.
    gradient
        Mean over the inputs of |∂ unit/∂ input|, summed over the colours; float [S, S], in pixels of the model's input.
    box
        (top, left, bottom, right) in pixels of the model's input, bottom and right exclusive.
    share
        The part of the gradient that the box holds at least.
    """

    layer: str
    position: tuple[int, int]
    unit: int | None
    gradient: Tensor
    box: tuple[int, int, int, int]
    share: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the box, in pixels of the model's input."""
        top, left, bottom, right = self.box
        return bottom - top, right - left

    def box_in(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the box (top, left, bottom, right) in pixels of an image of this size, whole pixels that hold it."""
        side = len(self.gradient)
        top, left, bottom, right = self.box
        return (
            top * height // side,
            left * width // side,
            -(-bottom * height // side),
            -(-right * width // side),
        )


def receptive_field(
    model: Model,
    layer: str,
    position: tuple[int, int] | None = None,
    images: Images | None = None,
    *,
    unit: int | None = None,
    share: float = SHARE,
    generator: torch.Generator | None = None,
    batch: int = BATCH,
) -> ReceptiveField:
    """Measure what a unit sees: E_x |∂ h_unit(x)/∂x| at one position of a layer.

    Parameters
    ----------
    model
        Left as it was.
    layer
        One with positions: [C, h, w], or tokens in a square.
    position
        Row and column; none: the centre (h // 2, w // 2).
    images
        What the mean is taken over; none: 16 images of even noise.
    unit
        The channel; none: all channels, added up with random weights N(0, 1) so that they do not cancel.
    share
        The part of the gradient that the box holds at least, 0..1: each of its sides cuts off (1 − share)/4 at most.
        With 1 it is the exact support.
    generator
        Of noise and weights, on the CPU; none: seeded with 0.
    batch
        Images in one forward pass.

    Raises
    ------
    UnknownLayerError, UnitOutOfRangeError
        If the model has no such layer, position or unit.
    InvalidRequestError
        If the layer has no positions, or the share is not above 0 and at most 1.
    NotDifferentiableError
        If the gradient is zero on all inputs: the unit is dead on them.
    """
    if not 0 < share <= 1:
        raise InvalidRequestError(f"the share is {share:g}: expected above 0, at most 1")
    place = _place(model.card.layer(layer), position, unit)
    random = generator or torch.Generator().manual_seed(0)
    side = model.card.input_size
    total, count = torch.zeros(side, side, dtype=torch.float64), 0
    for pixels in _inputs(model, images, random, batch):
        gradient = _slope(model, pixels, layer, place, unit, random)
        total += gradient.abs().sum(dim=(0, 1)).double().cpu()
        count += len(gradient)
    if not total.any():
        raise NotDifferentiableError(
            f"the gradient of {layer} at {place} is zero on all {count} inputs: give images that excite the unit"
        )
    return ReceptiveField(layer, place, unit, (total / count).float(), smallest_box(total, share), share)


def smallest_box(mass: Tensor, share: float) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right) of what is left of [H, W] when each side cuts off (1 − share)/4 at most."""
    spare = (1 - share) / 4 * mass.sum()

    def cut(line: Tensor) -> int:
        return int((line.cumsum(0) <= spare).sum())

    rows, columns = mass.sum(dim=1), mass.sum(dim=0)
    return cut(rows), cut(columns), len(rows) - cut(rows.flip(0)), len(columns) - cut(columns.flip(0))


def crop_to_unit(image: ImageLike, field: ReceptiveField) -> Image.Image:
    """Return the part of an image that the unit sees, in the image's own pixels, if the model is shown all of it.

    Parameters
    ----------
    image
        A path, the bytes of an image file, a PIL image or a float tensor [C, H, W] in 0..1.
    field
        From `receptive_field`.

    Raises
    ------
    InvalidImageError
        If the image cannot be read.
    """
    picture = to_picture(_checked(image)) if isinstance(image, Tensor) else open_image(image)
    top, left, bottom, right = field.box_in(picture.height, picture.width)
    return picture.crop((left, top, right, bottom))


def _checked(image: Tensor) -> Tensor:
    """Return the tensor as it is, or refuse it as no image."""
    channels = len(image) if image.dim() == 3 else 3
    return fit_canvas(image, max(image.shape[1:], default=1), channels)


def _inputs(model: Model, images: Images | None, random: torch.Generator, batch: int) -> Iterator[Tensor]:
    if images is None:
        side = model.card.input_size
        yield torch.rand(RANDOM_INPUTS, model.card.channels, side, side, generator=random)
    else:
        yield from (inputs for _, inputs in in_batches(model, canvases(model, images, None), batch))


def _slope(
    model: Model, pixels: Tensor, layer: str, place: tuple[int, int], unit: int | None, random: torch.Generator
) -> Tensor:
    """Return ∂ unit/∂ input [B, C, S, S]."""
    inputs = pixels.detach().to(model.device).requires_grad_()
    with model.frozen(), torch.enable_grad():
        values = model.activations(inputs, frozenset({layer}))[layer]
        there = on_grid(values, model.card.layer(layer))[:, :, place[0], place[1]]
        weights = torch.randn(there.shape, generator=random).to(there) if unit is None else None
        chosen = there[:, unit] if weights is None else there * weights
        if not chosen.requires_grad:
            raise NotDifferentiableError(f"{layer} has no gradient with respect to the image")
        (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
    return gradient


def _place(layer: LayerInfo, position: tuple[int, int] | None, unit: int | None) -> tuple[int, int]:
    """Return the position, by default the centre, checked with the unit against the layer."""
    rows, columns = check_grid(layer)
    row, column = position or (rows // 2, columns // 2)
    if not (0 <= row < rows and 0 <= column < columns):
        raise UnitOutOfRangeError(
            f"{layer.name} has {rows} rows and {columns} columns, counted from 0; position {row},{column} was asked for"
        )
    if unit is not None and not 0 <= unit < layer.units:
        raise UnitOutOfRangeError(f"{layer.name} has units 0 to {layer.units - 1}; {unit} was asked for")
    return row, column
