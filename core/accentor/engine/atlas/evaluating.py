"""How coherent a feature's pictures are by depth, with natural and random images for comparison; kept by content."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from accentor.engine.atlas.pictures import STRIP_VERSION
from accentor.engine.atlas.planning import Wanted
from accentor.engine.canvas import ImageLike, fit_canvas
from accentor.engine.evaluate import circuit_layers, coherence, coherence_of_natural
from accentor.engine.models import Model
from accentor.engine.scan import Item
from accentor.errors import RequestError
from accentor.spec import Feature, canonical_json, sha256_hex

EVALUATION_VERSION = 4
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
        """Return the coherence of pictures [3, H, W], known by their content keys, with the natural images.

        Images that can no longer be read are left out; what is measured without them is not kept.
        """
        if len(made) < LEAST or len(natural) < LEAST:
            return Evidence(None, ())
        keys = [key_of(one) for one, _ in made]
        known = [EVALUATION_VERSION, STRIP_VERSION, keys, [one.sha256 for one in natural], self._digests]
        name = sha256_hex(canonical_json(known))
        kept = self._kept.get(name, keys[0])
        if kept is not None:
            return Evidence(kept["mean"], tuple(tuple(depth) for depth in kept["depths"]))
        excited = self._read([one.item for one in natural])
        found = self._measure(feature, [picture for _, picture in made], excited)
        if len(excited) == len(natural) and len(self._others) == len(self._random):
            self._kept.put(name, keys[0], {"mean": found.mean, "depths": found.depths})
        return found

    def _measure(self, feature: Feature, pictures: Sequence[Tensor], excited: Sequence[Tensor]) -> Evidence:
        layers = circuit_layers(self._model, feature)
        if not layers or len(excited) < LEAST:
            return Evidence(None, ())
        natural = torch.stack(list(excited))
        shown = torch.stack([self._square(picture) for picture in pictures])
        try:
            own = coherence(self._model, feature, shown, natural, layers)
            ceiling = coherence_of_natural(self._model, feature, natural, layers)
            others = torch.stack(self._others) if self._others else None
            floor = {} if others is None else coherence(self._model, feature, others, natural, layers)
        except RequestError:
            return Evidence(None, ())
        depths = tuple(
            (
                layer,
                own[layer].cosine,
                _finite(ceiling[layer].cosine),
                _finite(floor[layer].cosine) if floor else None,
            )
            for layer in layers
            if _finite(own[layer].cosine) is not None
        )
        return Evidence(sum(depth[1] for depth in depths) / len(depths) if depths else None, depths)

    @cached_property
    def _others(self) -> list[Tensor]:
        return self._read(self._random)

    def _read(self, items: Sequence[Item]) -> list[Tensor]:
        """Return the images that are still there."""
        found = []
        for item in items:
            with suppress(RequestError):
                found.append(self._square(item.read()))
        return found

    def _square(self, image: ImageLike) -> Tensor:
        side = self._model.card.input_size
        pixels = fit_canvas(image, side, self._model.card.channels)
        return functional.interpolate(pixels[None], (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
