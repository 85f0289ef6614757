"""timm's networks, with their own weights and preprocessing; timm is an optional extra."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accentor.engine.models.model import Model
from accentor.engine.models.torchvision_source import NEAREST, UNTRAINED
from accentor.engine.models.weights import State, fit, fits, read_state, untrained
from accentor.errors import InvalidRequestError, InvalidWeightsError, UnknownModelError

TIMM = "timm"
DEFAULT = "DEFAULT"
IMAGENET = "imagenet-1k"
SAFE_FILES = ("model.safetensors", "open_clip_model.safetensors")
"""Names under which timm's weights lie on the Hugging Face hub, without pickles."""

_FAILURES = (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError)
"""What timm raises about options, sizes and weights that do not go together."""


def timm_names() -> list[str]:
    """Return the names of timm's networks; none if timm is not installed."""
    try:
        import timm
    except ImportError:
        return []
    names: list[str] = timm.list_models()
    return names


def load_timm(
    architecture: str, weights: str, device: torch.device, name: str, input_size: int | None, options: dict[str, Any]
) -> Model:
    """Load a network of timm's; see `load_model`."""
    config = _config(architecture)
    if weights.endswith(".safetensors"):
        state: State | None = read_state(Path(weights))
    elif weights == UNTRAINED:
        state = None
    else:
        tagged = architecture if weights == DEFAULT else f"{architecture.partition('.')[0]}.{weights}"
        config = _config_of_weights(architecture, tagged, weights)
        state, architecture = _published(config, tagged), tagged
    network = _load(architecture, state, weights, config, _options(architecture, input_size, options))
    own: Mapping[str, Any] = network.pretrained_cfg
    channels = int(options.get("in_chans", own["input_size"][0]))
    return Model(
        network.to(device).eval(),
        input_size=input_size or own["input_size"][-1],
        mean=_by_channel(own["mean"], channels),
        std=_by_channel(own["std"], channels),
        labels=_labels(own, getattr(network, "num_classes", 0)),
        name=name,
        source=f"{TIMM}:{architecture}",
    )


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UnknownModelError("timm is not installed: pip install 'accentor[timm]'") from error
    return timm


def _config(architecture: str) -> Any:
    """Return timm's configuration of a network's weights and preprocessing."""
    timm = _timm()
    if ":" in architecture or "/" in architecture or not timm.is_model(architecture):
        names = timm.list_models()
        nearest = difflib.get_close_matches(architecture, names, n=NEAREST, cutoff=0.0)
        raise UnknownModelError(f"timm has no model {architecture!r}; the nearest names are {', '.join(nearest)}")
    try:
        return timm.get_pretrained_cfg(architecture)
    except _FAILURES as error:
        raise UnknownModelError(f"timm has no weights {architecture!r}: {error}") from error


def _config_of_weights(architecture: str, tagged: str, weights: str) -> Any:
    timm = _timm()
    known = timm.list_pretrained(f"{architecture.partition('.')[0]}.*")
    if weights != DEFAULT and tagged not in known:
        tags = [one.partition(".")[2] for one in known]
        raise InvalidWeightsError(
            f"timm:{architecture} has no weights {weights!r}: expected a .safetensors file, "
            f"{', '.join([DEFAULT, *tags, UNTRAINED])}; pickled files are never loaded"
        )
    return timm.get_pretrained_cfg(tagged)


def _published(config: Any, architecture: str) -> State:
    """Return weights of timm's from the cache of the Hugging Face hub, or downloaded; safetensors only."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    advice = "give a .safetensors file instead"
    if not config.hf_hub_id:
        raise InvalidWeightsError(f"timm:{architecture} has no weights on the Hugging Face hub: {advice}")
    repository, _, revision = str(config.hf_hub_id).partition("@")
    reason: Exception | None = None
    for file in SAFE_FILES:
        try:
            return read_state(Path(hf_hub_download(repository, file, revision=revision or None)))
        except Exception as error:  # noqa: BLE001 - the hub's client lets those of its connection through
            reason = reason or error
            if isinstance(error, LocalEntryNotFoundError) or not isinstance(error, EntryNotFoundError):
                break
    raise InvalidWeightsError(f"the weights of timm:{architecture} cannot be had ({reason}): {advice}") from reason


def _options(architecture: str, input_size: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the network is built with; its input size only where the network depends on it."""
    if input_size is None:
        return dict(options)
    sized = {"img_size": input_size, **options}
    try:
        with torch.device("meta"):
            _timm().create_model(architecture, pretrained=False, **sized)
    except TypeError:
        return dict(options)
    except _FAILURES as error:
        raise InvalidRequestError(f"timm:{architecture} cannot be built with {sized}: {error}") from error
    return sized


def _load(architecture: str, state: State | None, origin: str, config: Any, options: dict[str, Any]) -> Any:
    """Build the network and give it the weights, adapted by timm where they are of another form, size or channels."""
    network = _build(architecture, options)
    if state is None:
        return network
    classes = options.get("num_classes", config.num_classes)
    if fits(network, state) or classes not in (0, config.num_classes):
        fit(network, state, origin)
        return network
    adapted = {"state_dict": dict(state)}
    try:
        return _build(architecture, {**options, "pretrained": True, "pretrained_cfg_overlay": adapted})
    except InvalidRequestError as error:
        raise InvalidWeightsError(f"{origin} does not fit timm:{architecture}: {error.__cause__}") from error


def _build(architecture: str, options: dict[str, Any]) -> nn.Module:
    try:
        network: nn.Module = untrained(lambda: _timm().create_model(architecture, **options))
    except _FAILURES as error:
        shown = {key: value for key, value in options.items() if key != "pretrained_cfg_overlay"}
        raise InvalidRequestError(f"timm:{architecture} cannot be built with {shown}: {error}") from error
    return network


def _by_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return the values for so many channels: those given if there are as many, else their mean for each."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _labels(config: Mapping[str, Any], classes: int) -> Sequence[str] | None:
    """Return ImageNet's labels where the weights are for all classes of one of its subsets."""
    data = _timm().data
    if classes == 0 or classes != config["num_classes"]:
        return None
    if named := config.get("label_names"):
        return [str(label) for label in named]
    subset = data.infer_imagenet_subset(dict(config))
    if subset is None:
        return None
    if subset == IMAGENET:
        from torchvision.models import SqueezeNet1_0_Weights

        labels: Sequence[str] = SqueezeNet1_0_Weights.DEFAULT.meta["categories"]
        return labels
    info = data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(info.num_classes())]
