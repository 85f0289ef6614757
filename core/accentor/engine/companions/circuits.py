"""Circuits: the channels through which a feature is computed, and how much of it they share with another's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accentor.engine.companions.attribution import check_reached, objective_of, slopes
from accentor.engine.companions.grids import per_channel, positions
from accentor.engine.companions.inputs import BATCH, FeatureLike, Images, canvases, in_batches, read_feature
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError, NotFiniteError

KEEP = 0.2


@dataclass(frozen=True, eq=False)
class Circuit:
    """Which channels of some layers are kept.

    Attributes
    ----------
    masks
        By layer, boolean [units]: true for the channels of the circuit.
    scores
        By layer, what they were chosen by, float [units] ≥ 0.
    means
        By layer, mean activation of each channel over images and positions, float [units]; empty if not measured.
    """

    masks: dict[str, Tensor]
    scores: dict[str, Tensor]
    means: dict[str, Tensor]

    @property
    def count(self) -> dict[str, int]:
        """By layer, how many channels are kept."""
        return {layer: int(mask.sum()) for layer, mask in self.masks.items()}


@dataclass(frozen=True)
class Overlap:
    """How much two circuits have in common, 0 (nothing) to 1 (all), by layer and over all layers.

    Attributes
    ----------
    layers, overall
        Jaccard index |a ∩ b| / |a ∪ b| of the kept channels; 1 where both keep none.
    weighted, weighted_overall
        Σ min(s, t) / Σ max(s, t) of the scores of all channels, each circuit's scaled to sum 1 over what is compared.
    """

    layers: dict[str, float]
    overall: float
    weighted: dict[str, float]
    weighted_overall: float


def circuit(
    model: Model,
    images: Images,
    feature: FeatureLike,
    layers: Sequence[str],
    keep: float = KEEP,
    *,
    threshold: float | None = None,
    across_layers: bool = False,
    size: int | None = None,
    batch: int = BATCH,
) -> Circuit:
    """Return the channels that carry a feature on some images.

    A channel's score is the mean over the images of |Σ over positions of activation × ∂f/∂activation|; channels that
    hold the feature down count as much as those that raise it.

    Parameters
    ----------
    model
        Left as it was.
    images
        A path, the bytes of an image file, a PIL image or a float tensor [C, H, W] in 0..1; or several of these.
    feature
        A feature or its string form.
    layers
        Dotted module names that the feature depends on.
    keep, threshold, across_layers
        How channels are chosen, as in `circuit_from_scores`.
    size
        Longer side of the canvas in pixels; none: as in an accentuation.
    batch
        Images in one forward pass.

    Raises
    ------
    RequestError
        If an image, the feature, a layer or the choice is not right; the detail says what is.
    """
    names = list(dict.fromkeys(layers))
    resolved = read_feature(model, feature)
    scores, means = ({name: torch.zeros(model.card.layer(name).units) for name in names} for _ in range(2))
    count = 0
    for _, inputs in in_batches(model, canvases(model, images, size), batch):
        measured = slopes(model, inputs, objective_of(model, resolved, len(inputs)), names)
        check_reached(measured, names)
        for name in names:
            here, info = measured.activations[name], model.card.layer(name)
            scores[name] += per_channel(here * measured.gradients[name], info).abs().sum(dim=0).cpu()
            means[name] += per_channel(here, info).sum(dim=0).cpu() / positions(info)
        count += len(inputs)
    chosen = circuit_from_scores(
        {name: one / count for name, one in scores.items()}, keep, threshold=threshold, across_layers=across_layers
    )
    return Circuit(chosen.masks, chosen.scores, {name: one / count for name, one in means.items()})


def circuit_from_scores(
    scores: Mapping[str, Tensor], keep: float = KEEP, *, threshold: float | None = None, across_layers: bool = False
) -> Circuit:
    """Return the channels with the largest scores.

    Parameters
    ----------
    scores
        By layer, [units]; their size counts, not their sign.
    keep
        A float: the share of the channels, above 0 and at most 1, rounded, at least one. A whole number: how many.
    threshold
        Keep what is at least this part of the layer's largest score, 0..1, instead of a share or a number.
    across_layers
        Choose among the channels of all layers together rather than layer by layer.

    Raises
    ------
    InvalidRequestError
        If there are no scores, one is not [units], or the choice is out of its range.
    NotFiniteError
        If a score is NaN or infinite.
    """
    sizes = {layer: _check_scores(layer, one) for layer, one in scores.items()}
    if not sizes:
        raise InvalidRequestError("no scores were given: expected those of at least one layer")
    if across_layers:
        flat = _choose(torch.cat(list(sizes.values())), keep, threshold)
        parts = torch.split(flat, [len(one) for one in sizes.values()])
        masks = dict(zip(sizes, parts, strict=True))
    else:
        masks = {layer: _choose(one, keep, threshold) for layer, one in sizes.items()}
    return Circuit(masks, sizes, {})


def overlap(one: Circuit, other: Circuit) -> Overlap:
    """Compare two circuits: of two features, or of one feature on two images.

    Raises
    ------
    InvalidRequestError
        If they are not of the same layers and widths.
    """
    _check_comparable(one, other)
    names = list(one.masks)
    kept, kept_too = (torch.cat([circuit.masks[name] for name in names]) for circuit in (one, other))
    all_scores, all_others = (torch.cat([circuit.scores[name] for name in names]) for circuit in (one, other))
    return Overlap(
        layers={name: _jaccard(one.masks[name], other.masks[name]) for name in names},
        overall=_jaccard(kept, kept_too),
        weighted={name: _weighted(one.scores[name], other.scores[name]) for name in names},
        weighted_overall=_weighted(all_scores, all_others),
    )


def _choose(scores: Tensor, keep: float, threshold: float | None) -> Tensor:
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise InvalidRequestError(f"the threshold is {threshold:g}: expected 0 to 1, of the largest score")
        return (scores >= threshold * scores.max()) & (scores > 0)
    count = _count_of(keep, len(scores))
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.argsort(descending=True, stable=True)[:count]] = True
    return mask


def _count_of(keep: float, units: int) -> int:
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise InvalidRequestError(f"keep is {keep!r}: expected a share (a float) or a number of channels (an int)")
    if isinstance(keep, int):
        if not 1 <= keep <= units:
            raise InvalidRequestError(f"{keep} channels are to be kept of {units}: expected 1 to {units}")
        return keep
    if not 0 < keep <= 1:
        raise InvalidRequestError(f"a share of {keep:g} is to be kept: expected above 0, at most 1")
    return max(1, round(keep * units))


def _check_scores(layer: str, scores: Tensor) -> Tensor:
    if scores.dim() != 1 or not len(scores):
        raise InvalidRequestError(f"the scores of {layer} have shape {list(scores.shape)}: expected [units]")
    if not scores.isfinite().all():
        raise NotFiniteError(f"the scores of {layer} hold NaN or infinite values")
    return scores.detach().abs().float().cpu()


def _check_comparable(one: Circuit, other: Circuit) -> None:
    shapes = [{layer: len(mask) for layer, mask in circuit.masks.items()} for circuit in (one, other)]
    if shapes[0] != shapes[1]:
        raise InvalidRequestError(f"the circuits are of layers {shapes[0]} and {shapes[1]}: expected the same")


def _jaccard(one: Tensor, other: Tensor) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def _weighted(one: Tensor, other: Tensor) -> float:
    """Return Σ min / Σ max of both, each scaled to sum 1; 1 if both are zero throughout, 0 if one of them is."""
    sums = one.sum(), other.sum()
    if not (sums[0] and sums[1]):
        return float(not (sums[0] or sums[1]))
    a, b = one / sums[0], other / sums[1]
    return float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum())
