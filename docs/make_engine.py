"""Make the pictures of four pages from the reference model and its scenes: ``python docs/make_engine.py [PAGE]…``.

The pages are docs/features.md, recipes.md, models.md and dictionaries.md.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import accentor
from accentor.engine import Accentuation, Model, accentuate, fit_dictionary
from accentor.engine.reference import sample_paths
from accentor.engine.reference.scenes import render_scene
from accentor.spec import Recipe, Spatial

IMAGES = Path(__file__).parent / "images"
TILE, GAP, LABEL, QUALITY = 200, 6, 22, 82
SCENE = 0
POSITIONS = ((1, 2), (4, 2), (5, 5))
CONCEPTS = (0, 1, 2, 3)
FITTED_SCENES = 200

Labelled = tuple[str, Image.Image]


def sheet(tiles: Sequence[Labelled], columns: int) -> Image.Image:
    """Return pictures in rows of so many, each with its label below, on white."""
    width, height = TILE + GAP, TILE + LABEL + GAP
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (width * columns - GAP, height * rows - GAP), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    for index, (label, picture) in enumerate(tiles):
        x, y = width * (index % columns), height * (index // columns)
        page.paste(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + TILE / 2, y + TILE + LABEL / 2), label, fill="black", font=font, anchor="mm")
    return page


def run(model: Model, feature: Any, scene: int = SCENE, **settings: Any) -> Accentuation:
    """Accentuate a feature in a sample scene with ``natural``, or with what differs."""
    recipe = Recipe.model_validate({"size": 256, "snapshots": 1} | settings)
    return accentuate(model, sample_paths()[scene], feature, recipe)


def features(model: Model) -> Image.Image:
    """Return one scene under features of every kind."""
    halves = np.zeros((88, 14, 14), dtype="float32")
    halves[3, :, :7], halves[12, :, 7:] = 1.0, 1.0
    shown: Mapping[str, Any] = {
        "logit:stripes": "logit:stripes",
        "-logit:red": "-logit:red",
        "logit:star": "logit:star",
        "stripes - dots": "logit:stripes - logit:dots",
        "star * red": "logit:star * logit:red",
        "channel:block3:7": "channel:block3:7",
        "neuron:block3:7@1,5": "neuron:block3:7@1,5",
        "spatial: left 3, right 12": Spatial(layer="block2", target=halves),
        "likeness:block3/dot^2": "likeness:block3/dot^2",
    }
    results = {label: run(model, feature) for label, feature in shown.items()}
    seed = next(iter(results.values())).seed_image
    return sheet([("seed", seed), *((label, one.image) for label, one in results.items())], 5)


def recipes(model: Model) -> Image.Image:
    """Return one scene and one feature under recipes that differ in one thing."""
    free = {"start": "noise", "regularization": 0.0}
    shown: Mapping[str, dict[str, Any]] = {
        "natural": {},
        "pixel, learning rate 0.2": {"parameterization": "pixel", "learning_rate": 0.2},
        "phase": {"parameterization": "phase"},
        "phase, border 0.25": {"parameterization": "phase", "border": 0.25},
        "from noise, fourier": free,
        "from noise, phase (MACO)": free | {"parameterization": "phase"},
        "regularization 0": {"regularization": 0.0},
        "regularization 1": {"regularization": 1.0},
        "l1": {"regularizer": "l1"},
        "cosine 0.1": {"regularizer": "cosine", "regularization": 0.1},
        "orthogonal": {"regularizer": "orthogonal"},
        "ball 0.05": {"regularization": 0.0, "ball": 0.05},
        "decay 0.8": {"decay": 0.8},
        "jitter": {"augmentation": "jitter"},
    }
    results = {label: run(model, "logit:stripes", **settings) for label, settings in shown.items()}
    seed = results["natural"].seed_image
    return sheet([("seed", seed), *((label, one.image) for label, one in results.items())], 5)


def models(model: Model) -> Image.Image:
    """Return one channel at three of a layer's positions, each with its cell outlined."""
    layer = model.card.layer("block3")
    rows, columns = layer.grid_shape or (1, 1)
    tiles: list[Labelled] = []
    for row, column in POSITIONS:
        result = run(model, f"neuron:block3:7@{row},{column}")
        picture = result.image.copy()
        y, x = layer.pixel_of(row, column, of=(picture.height, picture.width))
        half_y, half_x = picture.height / rows / 2, picture.width / columns / 2
        ImageDraw.Draw(picture).rectangle((x - half_x, y - half_y, x + half_x, y + half_y), outline="black", width=2)
        tiles += [("seed", result.seed_image)] * (not tiles) + [(f"neuron:block3:7@{row},{column}", picture)]
    return sheet(tiles, len(tiles))


def dictionaries(model: Model) -> Image.Image:
    """Return concepts that were fitted, each in the scene that excites it most, before and after."""
    from accentor.engine.evaluate import most_exciting

    scenes = [Image.fromarray(render_scene(seed, size=112).image) for seed in range(FITTED_SCENES)]
    concepts = fit_dictionary(model, scenes, "block4", size=32)
    tiles: list[Labelled] = []
    below: list[Labelled] = []
    recipe = Recipe(size=256, snapshots=1)
    for unit in CONCEPTS:
        feature = concepts.feature(unit)
        (strongest,) = most_exciting(model, feature, scenes, 1)
        result = accentuate(model, scenes[strongest], feature, recipe)
        tiles.append((f"concept {unit}: {result.before:.2f}", result.seed_image))
        below.append((f"{result.after:.2f}", result.what))
    return sheet([*tiles, *below], len(CONCEPTS))


PAGES: Mapping[str, Callable[[Model], Image.Image]] = {
    "features": features,
    "recipes": recipes,
    "models": models,
    "dictionaries": dictionaries,
}


def main() -> None:
    """Write the pictures of the pages that are named, or of all."""
    model = accentor.load_model("reference", device="cpu")
    for page in sys.argv[1:] or PAGES:
        PAGES[page](model).save(IMAGES / f"engine-{page}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
