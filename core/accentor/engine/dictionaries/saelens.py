"""Checkpoints of SAELens: a folder with ``cfg.json`` and ``sae_weights.safetensors``.

Read as SAELens 6 computes its codes (``SAE.encode``); older configurations are understood as SAELens 6 converts them.
Source: sae_lens/saes/{standard,topk,jumprelu,gated,batchtopk}_sae.py and loading/pretrained_sae_loaders.py, 6.54.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from accentor.dictionaries import SAELENS_CONFIG as CONFIG
from accentor.engine.dictionaries.dictionary import LAYER
from accentor.engine.dictionaries.files import Options, read_tensors
from accentor.engine.dictionaries.kinds import EncoderDictionary
from accentor.errors import InvalidFeatureError

WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
"""Written beside the weights while training goes on: the factor that activations are multiplied with first."""
SCALED = "expected_average_only_in"
SMALLEST_NORM = 1e-8
"""SAELens' lower bound of a decoder row's norm where it folds norms into the encoder."""

Weights = dict[str, Tensor]
Config = Mapping[str, Any]


def read_saelens(folder: Path, options: Options) -> EncoderDictionary:
    """Read a SAELens checkpoint.

    Parameters
    ----------
    folder
        With ``cfg.json`` and ``sae_weights.safetensors``.
    options
        The layer: none takes ``hook_name`` of the configuration.

    Returns
    -------
    EncoderDictionary
        standard: relu; topk; jumprelu; gated and batchtopk: as the jumprelu that they equal. In float32.

    Raises
    ------
    InvalidFeatureError
        If it cannot be read, or is of an architecture or normalisation that is no affine encoder.
    """
    options.refuse_activation(folder, f"says itself in {CONFIG} what its activation is")
    config = _read_config(folder / CONFIG)
    _, raw = read_tensors(folder / WEIGHTS)
    weights = {key: tensor.float() for key, tensor in raw.items()}
    architecture = _architecture(config)
    _check(folder, config, architecture, weights)
    _scale(folder, config, weights)
    hook = _said(config, "hook_name") or config.get("hook_point")
    read = _READERS[architecture](weights, config)
    return EncoderDictionary(
        name=options.name or folder.name,
        layer=options.layer_or(hook if isinstance(hook, str) and LAYER.fullmatch(hook) else None, folder),
        details={"format": "SAELens", "architecture": architecture},
        center=weights["b_dec"] if config.get("apply_b_dec_to_input", True) else None,
        offset=weights["b_dec"],
        **read,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidFeatureError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InvalidFeatureError(f"{path} is no SAELens configuration: expected an object")
    return config


def _said(config: Config, key: str) -> Any:
    metadata = config.get("metadata")
    return metadata[key] if isinstance(metadata, Mapping) and key in metadata else config.get(key)


def _architecture(config: Config) -> str:
    if config.get("activation_fn", config.get("activation_fn_str")) == "topk":
        return "topk"
    return str(config.get("architecture", "standard"))


def _check(folder: Path, config: Config, architecture: str, weights: Weights) -> None:
    if architecture not in _READERS:
        raise InvalidFeatureError(
            f"{folder} is a SAELens {architecture!r}, which is no encoder of one layer's activations: "
            f"expected {', '.join(_READERS)}"
        )
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if activation not in ("relu", "topk"):
        raise InvalidFeatureError(f"{folder} has the activation {activation!r}, expected relu or topk")
    needed = {"W_enc", "W_dec", "b_dec"} | _NEEDED.get(architecture, {"b_enc"})
    if missing := sorted(needed - weights.keys()):
        raise InvalidFeatureError(f"{folder / WEIGHTS} lacks {', '.join(missing)}, which a {architecture!r} has")
    units, features = config.get("d_in"), config.get("d_sae")
    if list(weights["W_enc"].shape) != [units, features]:
        raise InvalidFeatureError(
            f"{folder}: W_enc has shape {list(weights['W_enc'].shape)}, {CONFIG} says [{units}, {features}]"
        )


def _scale(folder: Path, config: Config, weights: Weights) -> None:
    """Fold the one normalisation that is a factor, s: W(s x - c) + b = sW(x - c/s) + b; refuse the others."""
    how = config.get("normalize_activations") or "none"
    if how is True:
        how = SCALED
    if how == "none":
        return
    if how != SCALED:
        raise InvalidFeatureError(
            f"{folder} normalises activations by {how!r}, with numbers that are not in the weights or differ from "
            "input to input: its codes are no function of one direction; expected none"
        )
    factor = _factor(folder / SCALER)
    weights["W_enc"] = weights["W_enc"] * factor
    weights["W_dec"] = weights["W_dec"] / factor
    weights["b_dec"] = weights["b_dec"] / factor
    if "topk_threshold" in weights and config.get("rescale_acts_by_decoder_norm", False):
        weights["topk_threshold"] = weights["topk_threshold"] / factor


def _factor(path: Path) -> float:
    if not path.exists():
        raise InvalidFeatureError(
            f"{path.parent} scales activations by {SCALED!r} with a factor that is not in the folder ({path.name}): "
            "fold it in with SAELens' fold_activation_norm_scaling_factor, and save again"
        )
    factor = _read_config(path).get("scaling_factor")
    if not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise InvalidFeatureError(f"{path} has the scaling factor {factor!r}, expected a positive number")
    return float(factor)


def _affine(weights: Weights, scale: Tensor | None = None) -> dict[str, Tensor]:
    """Return W, b and D, the codes multiplied with ``scale`` [features] and the decoder divided by it."""
    vectors, bias, decoder = weights["W_enc"].T, weights["b_enc"], weights["W_dec"]
    if scale is not None:
        vectors, bias, decoder = vectors * scale[:, None], bias * scale, decoder / scale[:, None]
    return {"vectors": vectors, "bias": bias, "decoder": decoder}


def _norms(weights: Weights, config: Config) -> Tensor | None:
    if not config.get("rescale_acts_by_decoder_norm", False):
        return None
    norms: Tensor = weights["W_dec"].norm(dim=1)
    return norms.clamp(min=SMALLEST_NORM)


def _standard(weights: Weights, config: Config) -> dict[str, Any]:  # noqa: ARG001
    return {**_affine(weights), "activation": "relu"}


def _topk(weights: Weights, config: Config) -> dict[str, Any]:
    k = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")
    if not isinstance(k, int):
        raise InvalidFeatureError(f"{CONFIG} of a SAELens topk has k {k!r}, expected a whole number")
    return {**_affine(weights, _norms(weights, config)), "activation": "topk", "k": k}


def _jumprelu(weights: Weights, config: Config) -> dict[str, Any]:  # noqa: ARG001
    threshold = weights["threshold"] if "threshold" in weights else weights["log_threshold"].exp()
    return {**_affine(weights), "activation": "jumprelu", "threshold": threshold.clamp(min=0.0)}


def _batchtopk(weights: Weights, config: Config) -> dict[str, Any]:
    """Read a training checkpoint as SAELens saves it for inference: a jumprelu with one threshold for all."""
    affine = _affine(weights, _norms(weights, config))
    threshold = weights["topk_threshold"].clamp(min=0.0).expand(len(affine["vectors"]))
    return {**affine, "activation": "jumprelu", "threshold": threshold}


def _gated(weights: Weights, config: Config) -> dict[str, Any]:  # noqa: ARG001
    """Read a gated encoder as a jumprelu.

    With u = W(x - c): u + b_gate > 0 is e^r u + b_mag > b_mag - e^r b_gate, a threshold of the magnitude.
    """
    factor = weights["r_mag"].exp()
    return {
        "vectors": weights["W_enc"].T * factor[:, None],
        "bias": weights["b_mag"],
        "decoder": weights["W_dec"],
        "activation": "jumprelu",
        "threshold": (weights["b_mag"] - factor * weights["b_gate"]).clamp(min=0.0),
    }


_READERS: dict[str, Callable[[Weights, Config], dict[str, Any]]] = {
    "standard": _standard,
    "topk": _topk,
    "jumprelu": _jumprelu,
    "gated": _gated,
    "batchtopk": _batchtopk,
    "matryoshka_batchtopk": _batchtopk,
}
_NEEDED: dict[str, set[str]] = {
    "gated": {"b_gate", "b_mag", "r_mag"},
    "batchtopk": {"b_enc", "topk_threshold"},
    "matryoshka_batchtopk": {"b_enc", "topk_threshold"},
}


def is_saelens(folder: Path) -> bool:
    """Tell whether the folder holds a SAELens checkpoint."""
    return folder.is_dir() and (folder / CONFIG).exists() and (folder / WEIGHTS).exists()
