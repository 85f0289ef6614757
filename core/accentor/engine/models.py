"""Models: a network with everything accentuation needs to know of it, and where to load one from."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from accentor.engine.layers import activations, frozen, trace
from accentor.errors import InvalidRequestError, InvalidWeightsError, UnknownModelError
from accentor.spec import LayerInfo, ModelCard

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

STRIDE_OF_REGULARIZATION = 4
REFERENCE = "reference"
TORCHVISION = "torchvision"
UNTRAINED = "untrained"
SOURCES = "reference, torchvision:NAME"


class Model:
    """A network in evaluation, with its preprocessing, labels and layers.

    The network itself is never changed: hooks, modes and gradient flags are as they were after every use.

    Parameters
    ----------
    module
        Takes images [B, 3, S, S], normalised; usually gives logits [B, K].
    input_size
        S, in pixels.
    mean, std
        Per-channel normalisation of images in 0..1.
    labels
        Names of the K logits.
    regularization_layer
        The default ℓ; none: the first block at a quarter of the input's resolution.
    name, source
        What it is called, and where it is from.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        labels: Sequence[str] | None = None,
        regularization_layer: str | None = None,
        name: str = "model",
        source: str = "module",
    ) -> None:
        self.module = module
        self.device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._mean = torch.tensor(mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, -1, 1, 1)
        _check_finite(module)
        blank = torch.zeros(1, len(mean), input_size, input_size, device=self.device)
        layers, self._calls, outputs = trace(module, blank)
        self._order = tuple(layer.name for layer in layers)
        self.card = ModelCard(
            name=name,
            source=source,
            digest=_digest(module, [source, input_size, *mean, *std, *((layer.name, layer.type) for layer in layers)]),
            input_size=input_size,
            labels=tuple(labels) if labels is not None and len(labels) == outputs else None,
            outputs=outputs,
            regularization_layer=regularization_layer or default_regularization_layer(module, layers, input_size),
            layers=tuple(layers),
        )

    def activations(self, images: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        """Return the activations at the named layers for images [B, 3, S, S] in 0..1, running no deeper than needed."""
        return activations(self.module, (images - self._mean) / self._std, names, self._order, self._calls)

    def to(self, device: str | torch.device) -> "Model":
        """Return this model on another device: itself if it is there already, else a copy."""
        target = read_device(device)
        if target == self.device or (target.index is None and target.type == self.device.type):
            return self
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module).to(target)
        twin.device = target
        twin._mean, twin._std = self._mean.to(target), self._std.to(target)
        return twin

    def depth(self, names: frozenset[str]) -> int:
        """Return how many layers finish before the last of these does; the output counts as the last."""
        return max((self._order.index(name) if name in self._order else len(self._order)) for name in names)

    def frozen(self) -> Any:
        """Return a context in which the network is in evaluation mode without parameter gradients."""
        return frozen(self.module)


def load_model(
    source: str | nn.Module, *, weights: str | Path | None = None, device: str | None = None, name: str | None = None
) -> Model:
    """Load a model to accentuate features of.

    Parameters
    ----------
    source
        ``reference``, the network that ships with Accentor; ``torchvision:NAME``; or a network of your own, taken to
        want ImageNet's normalisation at 224 px (otherwise build a `Model`).
    weights
        For torchvision: ``DEFAULT``, another name of torchvision's, ``untrained``, or a safetensors file with the state
        dict (float16 is cast to float32). Other pickled weights are never loaded.
    device
        Where it is to run, such as ``cuda:0``; none: the GPU if there is one.
    name
        What it is called; none: its source.

    Raises
    ------
    UnknownModelError
        If there is no such model; the nearest names are given.
    InvalidWeightsError
        If the weights cannot be read, do not fit, or are not finite.
    """
    target = read_device(device) if device is not None else best_device()
    if isinstance(source, nn.Module):
        return Model(source, name=name or type(source).__name__, source=type(source).__qualname__).to(target)
    kind, _, rest = source.partition(":")
    if kind == TORCHVISION and rest:
        return _load_torchvision(rest, str(weights or "DEFAULT"), target, name or source)
    if source == REFERENCE:
        if weights is not None:
            raise InvalidWeightsError(f"the reference model has weights of its own; {str(weights)!r} was given")
        return _load_reference(target, name or source)
    raise UnknownModelError(f"no model is called {source!r}: expected {SOURCES}")


def available_models() -> list[str]:
    """Return the names that `load_model` knows."""
    from torchvision import models

    return [REFERENCE, *(f"{TORCHVISION}:{name}" for name in models.list_models(module=models))]


def read_device(name: str | torch.device) -> torch.device:
    """Return the device of this name; `InvalidRequestError` if this machine does not have it."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidRequestError(f"there is no device {str(name)!r} here: expected cpu, cuda, cuda:N …") from error
    return device


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_regularization_layer(module: nn.Module, layers: Sequence[LayerInfo], input_size: int) -> str:
    """Return an early layer to measure the distance to the seed in.

    The first block (a module with children) at a quarter of the input's resolution, the stage around it where
    torchvision's ResNets name one ``layer1``; failing that the last layer at that resolution, or at a third of the
    depth.
    """
    quarter = [
        layer.name for layer in layers if layer.grid and round(input_size / layer.grid[0]) == STRIDE_OF_REGULARIZATION
    ]
    modules = dict(module.named_modules())
    blocks = [name for name in quarter if next(modules[name].children(), None) is not None]
    if "layer1" in blocks:
        return "layer1"
    if blocks:
        return blocks[0]
    return quarter[-1] if quarter else layers[len(layers) // 3].name


def _load_reference(device: torch.device, name: str) -> Model:
    from accentor.engine import reference

    return Model(
        reference.load_reference().to(device),
        input_size=reference.INPUT_SIZE,
        mean=reference.MEAN,
        std=reference.STD,
        labels=reference.LABELS,
        regularization_layer=reference.REGULARIZATION_LAYER,
        name=name,
        source=REFERENCE,
    )


def _load_torchvision(architecture: str, weights: str, device: torch.device, name: str) -> Model:
    from torchvision import models

    if architecture not in models.list_models(module=models):
        raise UnknownModelError(
            f"torchvision has no classification model {architecture!r}; "
            f"the nearest names are {', '.join(_nearest(architecture, models.list_models(module=models)))}"
        )
    published = models.get_model_weights(architecture)
    is_file = weights.endswith(".safetensors")
    if not is_file and weights != UNTRAINED and weights not in published.__members__:
        raise InvalidWeightsError(
            f"torchvision:{architecture} has no weights {weights!r}: expected a .safetensors file, "
            f"{', '.join(published.__members__)} or {UNTRAINED}; pickled files are never loaded"
        )
    chosen = published[weights if weights in published.__members__ else "DEFAULT"]
    preset = chosen.transforms()
    network = models.get_model(architecture, weights=None)
    if is_file:
        _fit(network, _read_state(Path(weights)), weights)
    elif weights != UNTRAINED:
        _fit(network, _published_state(chosen, architecture), f"torchvision:{architecture} {weights}")
    return Model(
        network.to(device),
        input_size=preset.crop_size[0],
        mean=preset.mean,
        std=preset.std,
        labels=chosen.meta.get("categories"),
        name=name,
        source=f"{TORCHVISION}:{architecture}",
    )


def _published_state(weights: "WeightsEnum", architecture: str) -> Mapping[str, Tensor]:
    """Return torchvision's own weights, from its cache or downloaded, unpickling nothing but tensors."""
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise InvalidWeightsError(
            f"the weights {weights.name} of torchvision:{architecture} cannot be had ({error}): "
            "give a .safetensors file instead"
        ) from error
    return state


def _read_state(path: Path) -> Mapping[str, Tensor]:
    try:
        state: Mapping[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidWeightsError(f"{path} cannot be read as safetensors: {error}") from error
    return state


def _fit(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict into the network it belongs to, in the network's precision."""
    expected = network.state_dict()
    if missing := [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]:
        raise InvalidWeightsError(f"{origin} lacks {len(missing)} tensors of the architecture, first {missing[0]!r}")
    if unknown := [key for key in state if key not in expected]:
        raise InvalidWeightsError(
            f"{origin} holds {len(unknown)} tensors of another architecture, first {unknown[0]!r}"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise InvalidWeightsError(
                f"{origin}: {key} has shape {list(tensor.shape)}, expected {list(expected[key].shape)}"
            )
    network.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in state.items()}, strict=False)


def _check_finite(module: nn.Module) -> None:
    for key, tensor in module.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise InvalidWeightsError(f"{key} holds values that are not finite (NaN or infinity)")


def _digest(module: nn.Module, settings: Sequence[object]) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for key, tensor in module.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, names, n=5, cutoff=0.0)
