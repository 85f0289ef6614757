"""Ways to accentuate: our recipes, faccent's settings, and adversarial steps in pixel space as a reference."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from accentor.engine import Pair, accentuate_pairs
from accentor.engine.evaluate import adversarial_at_distance
from accentor.engine.opacity import opacity_map
from accentor.spec import Recipe
from suites import Suite, stacked

FACCENT: Mapping[str, Mapping[str, Any]] = {
    "faccent, best": {"parameterization": "fourier", "steps": 50, "crops": 16, "regularization": 0.3},
    "faccent, default": {"parameterization": "phase", "steps": 100, "crops": 16, "regularization": 1.0},
}
"""faccent 1.0.3: its best setting by eye (method of Hamblin et al.), and its own defaults."""
FACCENT_TIMEOUT_S = 6 * 3600


@dataclass(frozen=True, eq=False)
class Picture:
    """What a method made of a case: pixels [3, S, S], its map [S, S] if it has one, and its seconds."""

    pixels: Tensor
    opacity: Tensor | None
    seconds: float | None


def run_recipe(suite: Suite, recipe: Recipe) -> list[Picture]:
    """Accentuate every case with one of our recipes, one pair at a time."""
    pictures: list[Picture] = []
    for case in suite.cases:
        pair = Pair(case.pixels, case.feature, case.seed)
        for _, ending in accentuate_pairs(suite.model, [pair], recipe, micro_batch=1):
            if isinstance(ending, Exception):
                raise ending
            pictures.append(Picture(ending.pixels, ending.opacity, ending.seconds))
    return pictures


def run_faccent(
    suite: Suite, setting: Mapping[str, Any], package: Path, environment: Mapping[str, str] | None = None
) -> list[Picture]:
    """Accentuate every case with faccent, in a process of its own; its environment is this one's if none is given."""
    job = {
        "source": suite.source,
        "weights": suite.weights,
        "device": "cpu",
        "units": [case.unit for case in suite.cases],
        "seeds": [case.seed for case in suite.cases],
        "settings": [{**setting, "layer": suite.model.card.regularization_layer}] * len(suite.cases),
    }
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "job.safetensors", Path(folder) / "out.safetensors"
        save_file({"images": stacked(suite.cases)}, given, metadata={"job": json.dumps(job)})
        runner = Path(__file__).with_name("run_faccent.py")
        command = [sys.executable, str(runner), str(package), str(given), str(made)]
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=FACCENT_TIMEOUT_S, check=False, env=environment
        )
        if done.returncode:
            raise RuntimeError(f"faccent ended with {done.returncode}: {done.stderr[-2000:]}")
        found = load_file(made)
    return [_picture(found, index) for index in range(len(suite.cases))]


def run_adversarial(suite: Suite, pictures: Sequence[Picture]) -> list[Picture]:
    """Take a pixel-space step from each seed, as long in L2 as the way to this picture of it."""
    images: list[Tensor] = []
    for case, picture in zip(suite.cases, pictures, strict=True):
        distance = (picture.pixels - case.pixels).norm()[None]
        images.append(adversarial_at_distance(suite.model, [case.feature], case.pixels[None], distance)[0])
    return [Picture(image, None, None) for image in images]


def _picture(found: Mapping[str, Tensor], index: int) -> Picture:
    opacity = opacity_map(found[f"gradient.{index}"][None])[0]
    return Picture(found[f"pixels.{index}"], opacity, found[f"seconds.{index}"].item())


def has_faccent(package: Path | None) -> bool:
    """Tell whether faccent is in this folder."""
    return package is not None and (package / "faccent" / "render.py").is_file()


def at_rest(pictures: Sequence[Picture]) -> Tensor:
    """Return the pictures' pixels [N, 3, S, S]."""
    return torch.stack([picture.pixels for picture in pictures])
