"""Circuit coherence: whether a picture is processed along the circuit that natural images take.

The attribution vector of a layer is the per-channel sum over positions of activation × gradient. Where those of a
picture are like those of natural images that excite the feature, the picture takes their path through the network;
noise-seeded visualisations leave it in early layers (Hamblin et al., arXiv 2402.10039; Geirhos et al., 2306.04719).
"""

from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from torch import Tensor

from accentor.engine.companions.attribution import attribution_vectors
from accentor.engine.evaluate.statistics import Similarity, cosine_matrix, pearson_matrix, spearman_matrix
from accentor.engine.evaluate.values import BATCH, clean_views, objective_of
from accentor.engine.layers import PREACTIVATION
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError
from accentor.spec import Feature, LayerInfo, parse_feature

MIN_LAYERS = 4
"""Layers of one nesting depth that it takes to follow a circuit through a network."""
PASSING = ("Identity", "Dropout", "Permute")
"""Types of modules that hand on what they receive: no steps along a circuit of their own."""
MIN_UNITS = 3
"""Units below which a correlation says nothing."""


def coherence(
    model: Model, feature: Feature | str, images: Tensor, natural: Tensor, layers: Sequence[str] | None = None
) -> dict[str, Similarity]:
    """Return by layer, from early to late, how alike the images' circuits are to the natural images'.

    The mean over all pairs of an image and a natural image of the similarity of their attribution vectors.

    Parameters
    ----------
    model, feature
        As for `accentuate`.
    images
        Accentuated images, or any others, [A, 3, H, W] in 0..1.
    natural
        Natural images that excite the feature, [B, 3, H, W] in 0..1; see `most_exciting`.
    layers
        Layers that the feature depends on; none: `circuit_layers`.

    Raises
    ------
    UnknownLayerError, InvalidFeatureError
        If the model has no such layer or feature, or the feature does not depend on a layer.
    InvalidRequestError
        If there are no images.
    """
    return _compare(model, feature, images, natural, layers, _mean)


def coherence_of_natural(
    model: Model, feature: Feature | str, natural: Tensor, layers: Sequence[str] | None = None
) -> dict[str, Similarity]:
    """Return by layer how alike natural images are to one another, no image to itself: the ceiling of `coherence`."""
    if len(natural) < 2:
        raise InvalidRequestError(f"{len(natural)} natural images: expected at least 2 to compare")
    return _compare(model, feature, natural, natural, layers, _mean_off_diagonal)


def circuit_layers(model: Model, feature: Feature | str) -> tuple[str, ...]:
    """Return the layers along which to follow a feature's circuit, from early to late.

    Modules that run before the feature's own layer, of the first depth of nesting at which enough of them have
    positions and do something: of a network that keeps its blocks in one module those blocks. None of them gives the
    values of one before it, which would count twice: no dropout, and no pooling of a map of one position.
    """
    asked = parse_feature(feature) if isinstance(feature, str) else feature
    end = model.depth(objective_of(model, [asked]).layers)
    before = [layer.name for layer in model.card.layers if model.depth(frozenset({layer.name})) < end]
    wide = [name for name in before if model.card.layer(name).units >= MIN_UNITS and not name.endswith(PREACTIVATION)]
    for depth in sorted({name.count(".") for name in wide}):
        found = tuple(name for name in wide if name.count(".") == depth)
        if sum(_is_step(model.card.layer(name)) for name in found) >= MIN_LAYERS:
            return _without_repeats(model, found)
    return _without_repeats(model, wide)


def _is_step(layer: LayerInfo) -> bool:
    return layer.grid_shape is not None and layer.type not in PASSING


def _without_repeats(model: Model, layers: Sequence[str]) -> tuple[str, ...]:
    """Leave out layers that give the values of one before them on an image of noise."""
    card = model.card
    noise = torch.rand(1, card.channels, *2 * [card.input_size], generator=torch.Generator().manual_seed(0))
    with model.frozen(), torch.no_grad():
        here = model.activations(noise.to(model.device), frozenset(layers))
    found: list[str] = []
    for name in layers:
        found += [] if any(_same(here[name], here[other]) for other in found) else [name]
    return tuple(found)


def _same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two activations hold the same values, in whatever order."""
    if one.numel() != other.numel() or one.max() != other.max() or one.min() != other.min():
        return False
    return torch.equal(*(activations.flatten().sort().values for activations in (one, other)))


def mean_coherence(layers: dict[str, Similarity]) -> Similarity:
    """Return the mean over layers of what `coherence` gives."""
    every = list(layers.values())
    if not every:
        raise InvalidRequestError("no layers were given: expected at least one")
    return Similarity(*(fmean(getattr(one, name) for one in every) for name in ("cosine", "pearson", "spearman")))


def _compare(
    model: Model,
    feature: Feature | str,
    images: Tensor,
    natural: Tensor,
    layers: Sequence[str] | None,
    reduce: Callable[[Tensor], float],
) -> dict[str, Similarity]:
    names = tuple(layers) if layers is not None else circuit_layers(model, feature)
    left = _vectors(model, feature, images, names)
    right = left if natural is images else _vectors(model, feature, natural, names)
    measures = (cosine_matrix, pearson_matrix, spearman_matrix)
    return {name: Similarity(*(reduce(measure(left[name], right[name])) for measure in measures)) for name in names}


def _vectors(model: Model, feature: Feature | str, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the attribution vectors [N, units] by layer."""
    if not len(images):
        raise InvalidRequestError("no images were given: expected at least one")
    parts = [
        attribution_vectors(model, clean_views(model, images[start : start + BATCH]), feature, layers)
        for start in range(0, len(images), BATCH)
    ]
    return {layer: torch.cat([part[layer].cpu() for part in parts]) for layer in layers}


def _mean(matrix: Tensor) -> float:
    return matrix.mean().item()


def _mean_off_diagonal(matrix: Tensor) -> float:
    count = len(matrix)
    return ((matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1))).item()
