"""How coherent a feature's pictures are by depth, with natural and random images for comparison; kept by content."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accentor.engine.canvas import fit_canvas
from accentor.engine.evaluate import circuit_layers, coherence, coherence_of_natural
from accentor.engine.models import Model
from accentor.errors import RequestError
from accentor.spec import Feature, canonical_json, sha256_hex

EVALUATION_VERSION = 1
LEAST = 2
"""Pictures that it takes to compare."""


@dataclass(frozen=True)
class Evidence:
    """A feature's coherence by layer, and its mean; empty and none if it could not be measured."""

    mean: float | None
    depths: tuple[tuple[str, float, float | None, float | None], ...]


class Evaluator:
    """Measures, and keeps what was measured in a folder."""

    def __init__(self, folder: Path, model: Model, random: Sequence[Path]) -> None:
        self._folder, self._model, self._random = folder, model, list(random)

    def evaluate(self, feature: Feature, pictures: Sequence[Tensor], natural: Sequence[Path], key: Any) -> Evidence:
        """Return the coherence of pictures [3, H, W] with the natural images; ``key`` says what the pictures are."""
        if len(pictures) < LEAST or len(natural) < LEAST:
            return Evidence(None, ())
        name = sha256_hex(canonical_json([EVALUATION_VERSION, key, [str(path) for path in self._random]]))
        path = self._folder / name[:2] / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            return Evidence(kept["mean"], tuple(tuple(depth) for depth in kept["depths"]))
        found = self._measure(feature, pictures, natural)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"mean": found.mean, "depths": found.depths}), encoding="utf-8")
        part.replace(path)
        return found

    def _measure(self, feature: Feature, pictures: Sequence[Tensor], natural: Sequence[Path]) -> Evidence:
        layers = circuit_layers(self._model, feature)
        if not layers:
            return Evidence(None, ())
        side = self._model.card.input_size
        shown, excited, other = (
            torch.stack([_square(image, side, self._model.card.channels) for image in images])
            for images in (pictures, natural, self._random)
        )
        try:
            own = coherence(self._model, feature, shown, excited, layers)
            ceiling = coherence_of_natural(self._model, feature, excited, layers)
            floor = coherence(self._model, feature, other, excited, layers)
        except RequestError:
            return Evidence(None, ())
        depths = tuple(
            (layer, own[layer].cosine, _finite(ceiling[layer].cosine), _finite(floor[layer].cosine))
            for layer in layers
            if _finite(own[layer].cosine) is not None
        )
        return Evidence(sum(depth[1] for depth in depths) / len(depths) if depths else None, depths)


def _square(image: Tensor | Path, side: int, channels: int) -> Tensor:
    pixels = fit_canvas(image, side, channels)
    return torch.nn.functional.interpolate(pixels[None], (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
