"""Draw the sample scenes that ship with the package: `python -m accentor.engine.reference.samples`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from accentor.engine.reference import SAMPLES
from accentor.engine.reference.scenes import Scene, render_scene

SAMPLE_SIZE = 256
SAMPLE_SEEDS = (28, 36, 58, 7, 59, 20, 43, 32, 15, 24, 12, 33, 22, 66, 8, 3, 50, 13, 55, 16, 39, 44, 5, 52, 19, 10)
"""Seeds of the samples, chosen by eye; all below those used in training."""


def bounding_box(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return [left, top, right, bottom] of a non-empty mask, in pixels, right and bottom exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def describe(file: str, seed: int, scene: Scene) -> dict[str, Any]:
    """Build the entry of a sample in `samples.json`."""
    objects = [
        {"shape": item.shape, "texture": item.texture, "color": item.color, "bbox": bounding_box(item.mask)}
        for item in scene.objects
    ]
    return {"file": file, "seed": seed, "size": scene.image.shape[0], "objects": objects}


def generate_samples(folder: Path = SAMPLES) -> list[Path]:
    """Render the sample scenes and their description `samples.json`.

    Parameters
    ----------
    folder
        Where to write; made if missing.

    Returns
    -------
    list
        The images written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, paths = [], []
    for number, seed in enumerate(SAMPLE_SEEDS, start=1):
        path = folder / f"scene-{number:02d}.png"
        scene = render_scene(seed, SAMPLE_SIZE)
        Image.fromarray(scene.image).save(path, optimize=True)
        entries.append(describe(path.name, seed, scene))
        paths.append(path)
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (folder / "samples.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return paths


if __name__ == "__main__":
    generate_samples()
