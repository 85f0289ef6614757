"""torchvision's classification networks, with their own weights and preprocessing."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from accentor.engine.models.model import Model
from accentor.engine.models.weights import State, fit, read_state, untrained
from accentor.errors import InvalidRequestError, InvalidWeightsError, UnknownModelError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

TORCHVISION = "torchvision"
UNTRAINED = "untrained"
NEAREST = 5

_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Heads that only training uses, where the network has some; published files hold them, others need not."""


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def load_torchvision(
    architecture: str, weights: str, device: torch.device, name: str, input_size: int | None, options: dict[str, Any]
) -> Model:
    """Load a network of torchvision's; see `load_model`."""
    from torchvision import models

    if architecture not in torchvision_names():
        nearest = difflib.get_close_matches(architecture, torchvision_names(), n=NEAREST, cutoff=0.0)
        raise UnknownModelError(
            f"torchvision has no classification model {architecture!r}; the nearest names are {', '.join(nearest)}"
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
    size = input_size or preset.crop_size[0]
    network = _build(architecture, size if input_size else None, trained=weights != UNTRAINED, options=options)
    if is_file:
        _load(network, architecture, read_state(Path(weights)), size, weights)
    elif weights != UNTRAINED:
        _load(network, architecture, _published(chosen, architecture), size, f"torchvision:{architecture} {weights}")
    return Model(
        network.to(device).eval(),
        input_size=size,
        mean=preset.mean,
        std=preset.std,
        labels=chosen.meta.get("categories"),
        name=name,
        source=f"{TORCHVISION}:{architecture}",
    )


def _build(architecture: str, input_size: int | None, *, trained: bool, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    given = dict(options)
    if architecture in _AUXILIARY:
        # Their published weights are TensorFlow's: the network turns our normalisation into the one they want.
        given = {"aux_logits": False, "transform_input": True, "init_weights": not trained} | given
    if input_size is not None and architecture.startswith("vit_"):
        given["image_size"] = input_size
    if input_size is not None and architecture.startswith("maxvit_"):
        given["input_size"] = (input_size, input_size)
    try:
        network: nn.Module = untrained(lambda: models.get_model(architecture, weights=None, **given))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidRequestError(f"torchvision:{architecture} cannot be built with {given}: {error}") from error
    return network


def _load(network: nn.Module, architecture: str, state: State, size: int, origin: str) -> None:
    unused = _AUXILIARY.get(architecture, ())
    if unused and not any(key.startswith(unused) for key in network.state_dict()):
        state = {key: tensor for key, tensor in state.items() if not key.startswith(unused)}
    if architecture.startswith("vit_"):
        state = _resized(network, state, size)
    fit(network, state, origin)


def _resized(network: Any, state: State, size: int) -> State:
    """Return the state of a ViT with its position embeddings interpolated where the images are of another size."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    key = "encoder.pos_embedding"
    if key not in state or state[key].shape == network.encoder.pos_embedding.shape:
        return state
    try:
        resized: Mapping[str, Tensor] = interpolate_embeddings(size, network.patch_size, dict(state))
    except (ValueError, RuntimeError) as error:
        raise InvalidWeightsError(f"the position embeddings cannot be fitted to {size} px: {error}") from error
    return resized


def _published(weights: "WeightsEnum", architecture: str) -> State:
    """Return torchvision's own weights, from its cache or downloaded, unpickling nothing but tensors."""
    try:
        state: State = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise InvalidWeightsError(
            f"the weights {weights.name} of torchvision:{architecture} cannot be had ({error}): "
            "give a .safetensors file instead"
        ) from error
    return state
