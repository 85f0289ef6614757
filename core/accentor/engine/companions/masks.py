"""Circuits applied: a model that computes through some channels only, and what is left of a feature then."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from accentor.engine.companions.attribution import objective_of
from accentor.engine.companions.circuits import Circuit
from accentor.engine.companions.inputs import BATCH, FeatureLike, Images, canvases, in_batches, read_feature
from accentor.engine.layers import PREACTIVATION
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError
from accentor.spec import LayerInfo

Ablation = Literal["zero", "mean"]


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What is left of a feature within a circuit: its values on B images.

    Attributes
    ----------
    full
        In the whole network, float [B].
    within
        With all channels of the circuit's layers ablated but the circuit's, float [B].
    without
        With all channels of these layers ablated, float [B].
    """

    full: Tensor
    within: Tensor
    without: Tensor

    @property
    def share(self) -> float:
        """How much of what the layers add the circuit keeps: mean(within − without) / mean(full − without).

        1 for all of it, 0 for nothing, above 1 if what is ablated held the feature down.
        """
        return float((self.within - self.without).mean() / (self.full - self.without).mean())

    @property
    def correlation(self) -> float:
        """Pearson's correlation of full and within over the images, −1..1; NaN for one image or a constant value."""
        return float(torch.corrcoef(torch.stack([self.full, self.within]))[0, 1]) if len(self.full) > 1 else math.nan


@contextmanager
def masked(model: Model, circuit: Circuit | Mapping[str, Tensor], *, ablate: Ablation = "zero") -> Iterator[Model]:
    """Let the model compute through a circuit's channels only, for as long as the context lasts.

    All channels of the circuit's layers that are not in it are set to zero, or to their mean, at every position. Other
    layers are not touched. Whatever runs the model inside the context is masked, gradients and accentuations too.

    Parameters
    ----------
    model
        As it was before, once the context ends.
    circuit
        A circuit, or by layer boolean [units]: true for what is kept.
    ablate
        ``zero``; or ``mean``, over the images that the circuit was found on.

    Raises
    ------
    UnknownLayerError
        If the model has no such layer.
    InvalidRequestError
        If a mask does not fit its layer or is not boolean, or the means are not known; on running the model, if one of
        the layers runs more than once.
    """
    masks = circuit.masks if isinstance(circuit, Circuit) else dict(circuit)
    means = circuit.means if isinstance(circuit, Circuit) else {}
    if ablate not in get_args(Ablation):
        raise InvalidRequestError(f"ablate is {ablate!r}: expected zero or mean")
    if ablate == "mean" and not means.keys() >= masks.keys():
        raise InvalidRequestError("the mean activations are not known: make the circuit from images, or ablate='zero'")
    for layer, mask in masks.items():
        _check_mask(model, layer, mask)
    ran: set[str] = set()
    handles = [model.module.register_forward_pre_hook(lambda *_: ran.clear())]
    try:
        for layer, mask in masks.items():
            fill = means[layer] if ablate == "mean" else torch.zeros(len(mask))
            ablation = _Ablated(mask.to(model.device), fill.to(model.device), model.card.layer(layer), ran)
            handles.append(_hook(model, ablation))
        yield model
    finally:
        for handle in handles:
            handle.remove()


def faithfulness(
    model: Model,
    images: Images,
    feature: FeatureLike,
    circuit: Circuit,
    *,
    ablate: Ablation = "zero",
    size: int | None = None,
    batch: int = BATCH,
) -> Faithfulness:
    """Measure what is left of a feature when the model computes through a circuit only.

    Parameters
    ----------
    model
        Left as it was.
    images
        A path, the bytes of an image file, a PIL image or a float tensor [C, H, W] in 0..1; or several of these.
    feature
        A feature or its string form.
    circuit
        Of this or another feature.
    ablate
        As in `masked`.
    size, batch
        As in `circuit`.

    Raises
    ------
    RequestError
        If an image, the feature or the circuit is not right; the detail says what is.
    """
    resolved = read_feature(model, feature)
    nothing = Circuit({layer: torch.zeros_like(mask) for layer, mask in circuit.masks.items()}, {}, circuit.means)
    found: list[list[Tensor]] = [[], [], []]
    for _, inputs in in_batches(model, canvases(model, images, size), batch):
        objective = objective_of(model, resolved, len(inputs))

        def value(inputs: Tensor = inputs, objective: Any = objective) -> Tensor:
            with model.frozen(), torch.no_grad():
                values: Tensor = objective(model.activations(inputs, objective.layers))
            return values.flatten().cpu()

        found[0].append(value())
        for index, kept in ((1, circuit), (2, nothing)):
            with masked(model, kept, ablate=ablate):
                found[index].append(value())
    return Faithfulness(*(torch.cat(values) for values in found))


@dataclass(frozen=True, eq=False)
class _Ablated:
    """Sets the channels of a layer that are not in the mask to their fill, once in each pass."""

    mask: Tensor
    fill: Tensor
    layer: LayerInfo
    ran: set[str]

    def __call__(self, values: Tensor) -> Tensor:
        maps = self.layer.layout == "CHW" and not self.layer.channels_last
        if self.layer.name in self.ran or values.shape[1 if maps else -1] != len(self.mask):
            raise InvalidRequestError(f"{self.layer.name} runs more than once in a pass: mask a layer that runs once")
        self.ran.add(self.layer.name)
        shape = (-1, 1, 1) if maps else (-1,)
        return torch.where(self.mask.to(values.device).view(shape), values, self.fill.to(values).view(shape))


def _hook(model: Model, ablation: _Ablated) -> RemovableHandle:
    """Apply an ablation to what its module gives, or to what it receives if that is the layer."""
    modules: dict[str, nn.Module] = dict(model.module.named_modules())
    name = ablation.layer.name
    if name in modules:
        return modules[name].register_forward_hook(lambda _, __, output: ablation(output))
    receiver = modules[name.removesuffix(PREACTIVATION)]
    return receiver.register_forward_pre_hook(lambda _, received: (ablation(received[0]), *received[1:]))


def _check_mask(model: Model, layer: str, mask: Tensor) -> None:
    units = model.card.layer(layer).units
    if mask.dtype != torch.bool or tuple(mask.shape) != (units,):
        raise InvalidRequestError(
            f"the mask of {layer} has shape {list(mask.shape)} and {mask.dtype}: expected [{units}] and torch.bool"
        )
