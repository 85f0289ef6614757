"""How coherent a feature's pictures are by depth, with natural and random images for comparison; kept by content."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from accentor.engine.atlas.pictures import STRIP_VERSION
from accentor.engine.atlas.planning import Wanted
from accentor.engine.canvas import fit_canvas
from accentor.engine.evaluate import circuit_layers, coherence, coherence_of_natural
from accentor.engine.models import Model
from accentor.engine.scan import Item
from accentor.errors import RequestError
from accentor.spec import Feature, canonical_json, sha256_hex

EVALUATION_VERSION = 2
LEAST = 2
"""Pictures that it takes to compare."""


@dataclass(frozen=True)
class Evidence:
    """A feature's coherence by layer, and its mean; empty and none if it could not be measured."""

    mean: float | None
    depths: tuple[tuple[str, float, float | None, float | None], ...]


class Kept(Protocol):
    """Where what was measured is kept, by a name that stands for its content, and the key of the first picture."""

    def get(self, name: str, key: str) -> Mapping[str, Any] | None:
        """Return what is kept under a name."""

    def put(self, name: str, key: str, measured: Mapping[str, Any]) -> None:
        """Keep what was measured."""


class KeptInFolder:
    """What was measured, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str, key: str) -> Mapping[str, Any] | None:  # noqa: ARG002
        """Read the file."""
        path = self._path(name)
        kept: Mapping[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return kept

    def put(self, name: str, key: str, measured: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Write the file beside, then give it its name."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(measured), encoding="utf-8")
        part.replace(path)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.json"


class Evaluator:
    """Measures, and keeps what was measured.

    Parameters
    ----------
    random
        Images that stand for any, each with its sha256.
    """

    def __init__(self, kept: Kept, model: Model, random: Sequence[tuple[Item, str]]) -> None:
        self._kept, self._model = kept, model
        self._random = [item for item, _ in random]
        self._digests = [digest for _, digest in random]

    def evaluate(
        self,
        feature: Feature,
        made: Sequence[tuple[Wanted, Tensor]],
        natural: Sequence[Wanted],
        key_of: Callable[[Wanted], str],
    ) -> Evidence:
        """Return the coherence of pictures [3, H, W], known by their content keys, with the natural images."""
        if len(made) < LEAST or len(natural) < LEAST:
            return Evidence(None, ())
        keys = [key_of(one) for one, _ in made]
        known = [EVALUATION_VERSION, STRIP_VERSION, keys, [one.sha256 for one in natural], self._digests]
        name = sha256_hex(canonical_json(known))
        kept = self._kept.get(name, keys[0])
        if kept is not None:
            return Evidence(kept["mean"], tuple(tuple(depth) for depth in kept["depths"]))
        found = self._measure(feature, [picture for _, picture in made], [one.item for one in natural])
        self._kept.put(name, keys[0], {"mean": found.mean, "depths": found.depths})
        return found

    def _measure(self, feature: Feature, pictures: Sequence[Tensor], natural: Sequence[Item]) -> Evidence:
        layers = circuit_layers(self._model, feature)
        if not layers:
            return Evidence(None, ())
        side = self._model.card.input_size
        try:
            shown, excited, other = (
                torch.stack([_square(image, side, self._model.card.channels) for image in images])
                for images in (pictures, natural, self._random)
            )
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


def _square(image: Tensor | Item, side: int, channels: int) -> Tensor:
    pixels = fit_canvas(image.read() if isinstance(image, Item) else image, side, channels)
    return torch.nn.functional.interpolate(pixels[None], (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
