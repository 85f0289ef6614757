"""Attribution maps: where in an image a feature's value comes from, as gradient × activation at a layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar, overload

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from accentor.engine.canvas import LUMA
from accentor.engine.companions.attribution import check_reached, objective_of, slopes
from accentor.engine.companions.grids import check_grid, has_grid, on_grid
from accentor.engine.companions.inputs import (
    BATCH,
    FeatureLike,
    ImageLike,
    Images,
    canvases,
    in_batches,
    is_single,
    read_feature,
)
from accentor.engine.companions.ranges import MapRange, measure_range
from accentor.engine.models import Model
from accentor.engine.outputs.pictures import shown_channels, to_picture
from accentor.errors import InvalidFeatureError
from accentor.spec import Feature

PERCENTILES = (1.0, 99.0)
POSITIVE_COLOR = (0.90, 0.25, 0.05)
NEGATIVE_COLOR = (0.05, 0.35, 0.90)

Part = Literal["both", "positive", "negative"]
Base = Literal["grey", "color", "white"]
ImageT = TypeVar("ImageT", bound=ImageLike)


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """Where a feature's value comes from in one image.

    Attributes
    ----------
    feature, layer
        What was attributed, to which layer.
    value
        The feature's value on the image.
    source
        The image on the canvas, float [C, H, W] in 0..1.
    parts
        Positive and negative part at the layer's own resolution, float [2, h, w], both ≥ 0.
    """

    feature: Feature
    layer: str
    value: float
    source: Tensor
    parts: Tensor

    @cached_property
    def positive(self) -> Tensor:
        """What raises the feature, float [H, W] ≥ 0, upsampled to the image."""
        return self._upsampled[0]

    @cached_property
    def negative(self) -> Tensor:
        """What lowers the feature, float [H, W] ≥ 0, upsampled to the image."""
        return self._upsampled[1]

    @cached_property
    def signed(self) -> Tensor:
        """Positive minus negative part, float [H, W]: the sum over all channels."""
        return self.positive - self.negative

    def own_range(self, percentiles: tuple[float, float] = PERCENTILES) -> MapRange:
        """Return the range of this map alone: its picture then says nothing about how it compares with others."""
        return measure_range([self.parts], percentiles)

    def overlay(
        self, scale: MapRange, *, part: Part = "both", base: Base = "grey", opacity: float = 0.85
    ) -> Image.Image:
        """Return the map laid over the image, red-orange where it raises the feature and blue where it lowers it.

        Parameters
        ----------
        scale
            From `attribution_ranges`, to compare images; from `own_range` for this map alone.
        part
            Which part is shown.
        base
            What it is laid on: the image in grey, in colour, or white.
        opacity
            Of the colours at full strength, 0..1.
        """
        shown = torch.tensor([part != "negative", part != "positive"]).view(2, 1, 1)
        alphas = scale.strengths(self._upsampled) * shown * opacity
        return to_picture(_blend(_base(self.source, base), alphas))

    @cached_property
    def _upsampled(self) -> Tensor:
        size = (self.source.shape[1], self.source.shape[2])
        return interpolate(self.parts[None], size, mode="bilinear", align_corners=False)[0]


@overload
def attribution_maps(
    model: Model,
    images: ImageLike,
    feature: FeatureLike,
    layer: str | None = ...,
    *,
    size: int | None = ...,
    batch: int = ...,
) -> AttributionMap: ...
@overload
def attribution_maps(
    model: Model,
    images: list[ImageT] | tuple[ImageT, ...],
    feature: FeatureLike,
    layer: str | None = ...,
    *,
    size: int | None = ...,
    batch: int = ...,
) -> list[AttributionMap]: ...
def attribution_maps(
    model: Model,
    images: ImageLike | Sequence[ImageLike],
    feature: FeatureLike,
    layer: str | None = None,
    *,
    size: int | None = None,
    batch: int = BATCH,
) -> AttributionMap | list[AttributionMap]:
    """Return where in each image the feature's value comes from.

    With a = A · ∂f/∂A at the layer, channel by channel, the positive part of a position is Σ_c max(a_c, 0) and the
    negative part Σ_c max(−a_c, 0). Behind a ReLU these are the activation times the gradient's own two parts.

    Parameters
    ----------
    model
        Left as it was.
    images
        A path, the bytes of an image file, a PIL image or a float tensor [C, H, W] in 0..1; or several of these.
    feature
        A feature or its string form.
    layer
        Where the attribution is taken; none: `default_layer`.
    size
        Longer side of the canvas in pixels; none: as in an accentuation, so that map and opacity lie over each other.
    batch
        Images in one forward pass.

    Returns
    -------
    AttributionMap or list
        A list if several images were given.

    Raises
    ------
    RequestError
        If an image, the feature or the layer is not right; the detail says what is.
    """
    found = list(_stream(model, images, feature, layer, size, batch))
    return found[0] if is_single(images) else found


def attribution_ranges(
    model: Model,
    images: Images,
    feature: FeatureLike,
    layer: str | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    *,
    size: int | None = None,
    batch: int = BATCH,
) -> MapRange:
    """Return the percentile ranges of the maps of many images, read in one pass with none of them kept.

    Every position of every map counts once, at the layer's own resolution; percentiles are right to 0.1 %. The other
    parameters are those of `attribution_maps`.

    Raises
    ------
    InvalidRequestError
        If the percentiles are not 0 ≤ low < high ≤ 100, or there is no image.
    """
    return measure_range((one.parts for one in _stream(model, images, feature, layer, size, batch)), percentiles)


def default_layer(model: Model, feature: FeatureLike) -> str:
    """Return the deepest layer at which the feature has a gradient at more than one position.

    That is a channel's or direction's own layer, the layer before a neuron's, the last map before the pooling for a
    logit. It is found on an image of even noise, so that it is the same for all images.

    Raises
    ------
    InvalidFeatureError
        If there is none: the network has no maps of positions.
    """
    side = model.card.input_size
    noise = torch.rand(1, model.card.channels, side, side, generator=torch.Generator().manual_seed(0))
    objective = objective_of(model, feature, 1)
    deepest = model.depth(objective.layers)
    grids = (layer for layer in model.card.layers if has_grid(layer))
    layers = {layer.name: layer for layer in grids if model.depth(frozenset({layer.name})) <= deepest}
    gradients = slopes(model, noise, objective, list(layers)).gradients if layers else {}
    reached = [layer for layer in reversed(layers) if layer in gradients]
    for layer in reached:
        if on_grid(gradients[layer], layers[layer]).any(dim=1).sum() > 1:
            return layer
    if not reached:
        raise InvalidFeatureError(f"{feature} has no gradient at any layer with positions: there is nothing to map")
    return reached[0]


def _stream(
    model: Model, images: Images, feature: FeatureLike, layer: str | None, size: int | None, batch: int
) -> Iterator[AttributionMap]:
    resolved = read_feature(model, feature)
    chosen = layer or default_layer(model, resolved)
    info = model.card.layer(chosen)
    check_grid(info)
    for sources, inputs in in_batches(model, canvases(model, images, size), batch):
        measured = slopes(model, inputs, objective_of(model, resolved, len(inputs)), [chosen])
        check_reached(measured, [chosen])
        parts = _parts(on_grid(measured.activations[chosen] * measured.gradients[chosen], info))
        for source, value, one in zip(sources, measured.values.tolist(), parts, strict=True):
            yield AttributionMap(resolved, chosen, value, source, one)


def _parts(product: Tensor) -> Tensor:
    """Return the positive and the negative part [B, 2, h, w] of activation × gradient [B, C, h, w], over channels."""
    return torch.stack([product.clamp_min(0).sum(dim=1), (-product).clamp_min(0).sum(dim=1)], dim=1).cpu()


def _base(source: Tensor, base: Base) -> Tensor:
    """Return what the map is laid on, [3, H, W], or [1, H, W] for grey."""
    shown = shown_channels(source)
    if base == "white":
        return torch.ones_like(shown)
    if base == "grey" and len(shown) == len(LUMA):
        return torch.einsum("chw,c->hw", shown, shown.new_tensor(LUMA))[None]
    return shown


def _blend(base: Tensor, alphas: Tensor) -> Tensor:
    """Lay both colours over [3 or 1, H, W] with alphas [2, H, W]: mixed by their alphas, covering as two sheets do."""
    colors = base.new_tensor([POSITIVE_COLOR, NEGATIVE_COLOR])
    cover = 1 - (1 - alphas).prod(dim=0)
    mixed = torch.einsum("phw,pc->chw", alphas, colors) / alphas.sum(dim=0).clamp_min(1e-12)
    return base * (1 - cover) + mixed * cover
