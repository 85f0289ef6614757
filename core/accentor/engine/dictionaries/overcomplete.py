"""Sparse autoencoders of the library overcomplete: state dicts in files, and modules in memory.

Source: overcomplete/sae/{base,modules,dictionary,topk_sae,batchtopk_sae,jump_sae}.py, 0.3.0.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accentor.engine.dictionaries.codes import Activation
from accentor.engine.dictionaries.files import Options
from accentor.engine.dictionaries.kinds import EncoderDictionary
from accentor.errors import InvalidFeatureError

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
BATCH_NORM_EPS = 1e-5
"""What PyTorch's BatchNorm1d adds to the variance; a state dict does not hold it."""

Weights = Mapping[str, Tensor]

CONVERT = (
    "where you trust the file, load it yourself, call module.eval(), and save "
    "accentor.engine.dictionaries.from_overcomplete(module, layer) or torch.save(module.state_dict(), path)"
)


def read_overcomplete(path: Path, options: Options) -> EncoderDictionary:
    """Read the state dict of an overcomplete SAE, TopKSAE, BatchTopKSAE or JumpSAE, unpickling nothing but tensors.

    The state dict does not hold the activation: of these, it tells a JumpSAE alone from the others. It is to be saved
    after ``module.eval()``, which normalises the dictionary.

    Parameters
    ----------
    path
        Written by ``torch.save(module.state_dict(), path)``.
    options
        The layer, and the activation: ``relu`` for SAE, ``topk`` with k for TopKSAE, ``jumprelu`` with the module's
        ``running_threshold`` for BatchTopKSAE.

    Raises
    ------
    InvalidFeatureError
        If it is no state dict of these, or its encoder is not affine.
    """
    weights = _load(path)
    fields = _read(weights, str(path))
    threshold = fields["threshold"]
    activation = options.activation or ("jumprelu" if threshold is not None else None)
    if activation is None:
        raise InvalidFeatureError(
            f"{path}: state dicts of SAE, TopKSAE and BatchTopKSAE look alike: give activation='relu', 'topk' with k=, "
            "or 'jumprelu' with threshold=, the module's running_threshold",
            missing="activation",
        )
    if options.threshold is not None:
        fields["threshold"] = _at_least(torch.full((len(fields["vectors"]),), options.threshold))
    return EncoderDictionary(
        name=options.name or path.stem,
        layer=options.layer_or(None, path),
        activation=activation,
        k=options.k,
        details={"format": "overcomplete"},
        **fields,
    )


def from_overcomplete(module: nn.Module, layer: str, name: str | None = None) -> EncoderDictionary:
    """Return an overcomplete SAE, TopKSAE, BatchTopKSAE or JumpSAE in memory as a dictionary.

    Parameters
    ----------
    module
        In evaluation mode: overcomplete normalises its dictionary when it is put there.
    layer
        The layer whose activations it was trained on.
    name
        What it is called; none: as its class.

    Raises
    ------
    InvalidFeatureError
        If it is in training mode, or its encoder is not affine.
    """
    kind = type(module).__name__
    if module.training:
        raise InvalidFeatureError(f"the {kind} is in training mode: call .eval() first")
    ending = getattr(getattr(module, "encoder", None), "final_activation", None)
    if ending is not None and not isinstance(ending, nn.ReLU):
        raise InvalidFeatureError(f"the {kind}'s encoder ends in {type(ending).__name__}, expected ReLU")
    fields = _read({key: tensor.detach().cpu() for key, tensor in module.state_dict().items()}, f"the {kind}")
    activation, k = _activation_of(module, fields)
    return EncoderDictionary(
        name=name or kind,
        layer=layer,
        activation=activation,
        k=k,
        details={"format": "overcomplete", "architecture": kind},
        **fields,
    )


def _activation_of(module: Any, fields: dict[str, Any]) -> tuple[Activation, int | None]:
    if fields["threshold"] is not None:
        return "jumprelu", None
    if hasattr(module, "running_threshold"):
        if module.running_threshold is None:
            raise InvalidFeatureError("the BatchTopKSAE has no running threshold yet: train it first")
        threshold = module.running_threshold.detach().cpu().expand(len(fields["vectors"]))
        fields["threshold"] = _at_least(threshold)
        return "jumprelu", None
    return ("topk", int(module.top_k)) if hasattr(module, "top_k") else ("relu", None)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidFeatureError(
            f"{path} holds pickled objects, which are never loaded, for that could run any code; expected a state "
            f"dict of tensors: {CONVERT}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InvalidFeatureError(f"{path} cannot be read as a state dict: {error}") from error
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(value, Tensor) for value in inner.values()):
        raise InvalidFeatureError(f"{path} holds a {type(loaded).__name__}, expected a state dict of tensors")
    return {str(key): tensor for key, tensor in inner.items()}


def _read(weights: Weights, origin: str) -> dict[str, Any]:
    """Return the fields of `EncoderDictionary` that a state dict holds."""
    beside = {key for key in weights if not key.startswith(("encoder.", "dictionary."))} - {"thresholds"}
    if beside or not any(key.startswith("dictionary.") for key in weights):
        raise InvalidFeatureError(
            f"{origin} is no SAE, TopKSAE, BatchTopKSAE or JumpSAE of overcomplete: it holds "
            f"{', '.join(sorted(beside or weights)[:5])}"
        )
    vectors, bias = _encoder(weights, origin)
    thresholds = weights.get("thresholds")
    return {
        "vectors": vectors,
        "bias": bias,
        "threshold": None if thresholds is None else _at_least(thresholds.exp()),
        "decoder": _atoms(weights, "dictionary.", origin),
    }


def _encoder(weights: Weights, origin: str) -> tuple[Tensor, Tensor | None]:
    mine = {key.removeprefix("encoder."): tensor for key, tensor in weights.items() if key.startswith("encoder.")}
    if "weight" in mine and mine.keys() <= {"weight", "bias"}:
        return mine["weight"], mine.get("bias")
    if any(key.startswith("tied_to.") for key in mine):
        return _atoms(mine, "tied_to.", origin), mine.get("bias")
    if "final_block.0.weight" in mine and all(key.startswith("final_block.") for key in mine):
        return _linear_and_norm(mine, origin)
    raise InvalidFeatureError(
        f"{origin}: its encoder is not affine (it holds {', '.join(sorted(mine)[:3]) or 'nothing'}): expected "
        "the encoder linear, mlp_bn_1, tied or untied"
    )


def _linear_and_norm(mine: Weights, origin: str) -> tuple[Tensor, Tensor]:
    """Fold a batch normalisation into the linear layer before it: y = g (W x + b - m) / sqrt(v + ε) + h."""
    vectors, bias = mine["final_block.0.weight"], mine["final_block.0.bias"]
    mean, variance = mine.get("final_block.1.running_mean"), mine.get("final_block.1.running_var")
    scale, shift = mine.get("final_block.1.weight"), mine.get("final_block.1.bias")
    if mean is None or variance is None:
        if scale is not None:
            raise InvalidFeatureError(
                f"{origin}: its encoder ends in a layer normalisation, which is not affine: expected linear or mlp_bn_1"
            )
        return vectors, bias
    factor = (variance.double() + BATCH_NORM_EPS).rsqrt()
    factor = factor if scale is None else factor * scale.double()
    moved = (bias.double() - mean.double()) * factor
    return vectors.double() * factor[:, None], moved if shift is None else moved + shift.double()


def _atoms(weights: Weights, prefix: str, origin: str) -> Tensor:
    """Return the dictionary [features, units]: its rows, or convex combinations of points with a relaxation."""
    factor = weights.get(f"{prefix}multiplier", torch.zeros(())).exp()
    if f"{prefix}_weights" in weights:
        return weights[f"{prefix}_weights"] * factor
    parts = [weights.get(f"{prefix}{key}") for key in ("W", "C", "Relax")]
    if any(part is None for part in parts):
        raise InvalidFeatureError(f"{origin} has no dictionary under {prefix!r}")
    combination, points, relaxation = parts
    return (combination @ points + relaxation) * factor  # type: ignore[operator]


def _at_least(threshold: Tensor) -> Tensor:
    """Return the thresholds for which p > θ is overcomplete's max(p, 0) ≥ θ."""
    below = torch.nextafter(threshold.float(), torch.tensor(-torch.inf))
    return below.clamp(min=0.0)
