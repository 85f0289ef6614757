"""Make the pictures of ``docs/companions.md`` from the sample scenes: ``python docs/make_companions.py``."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from accentor.engine import load_model
from accentor.engine.companions import attribution_maps, attribution_ranges, crop_to_unit, receptive_field
from accentor.engine.models import Model
from accentor.engine.reference import sample_paths

FOLDER = Path(__file__).parent / "images"
TILE = 192
GAP = 6
QUALITY = 82
LAYERS = ("block1", "block2", "block3")
SHOWN = (0, 1, 2, 3)
FIELD_SCENE = 4


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Return pictures in rows, each on a tile of one size with its aspect kept, on white."""
    step = TILE + GAP
    page = Image.new("RGB", (step * len(rows[0]) - GAP, step * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(picture.resize((TILE, TILE), Image.Resampling.BICUBIC), (x * step, y * step))
    return page


def maps(model: Model) -> Image.Image:
    """Return scenes, their maps of stripes over grey, and the positive part on white, on one scale."""
    paths = sample_paths()
    scale = attribution_ranges(model, paths, "logit:stripes", "block3")
    found = attribution_maps(model, [paths[index] for index in SHOWN], "logit:stripes", "block3")
    return sheet(
        [
            [Image.open(paths[index]).convert("RGB") for index in SHOWN],
            [one.overlay(scale) for one in found],
            [one.overlay(scale, part="positive", base="white") for one in found],
        ]
    )


def fields(model: Model) -> Image.Image:
    """Return a scene with the boxes of three layers' centres, and the crops."""
    path = sample_paths()[FIELD_SCENE]
    scene = Image.open(path).convert("RGB")
    marked, crops = scene.copy(), []
    for layer in LAYERS:
        field = receptive_field(model, layer)
        top, left, bottom, right = field.box_in(scene.height, scene.width)
        ImageDraw.Draw(marked).rectangle((left, top, right - 1, bottom - 1), outline="black", width=2)
        crops.append(crop_to_unit(path, field))
    return sheet([[marked, *crops]])


def main() -> None:
    """Write the pictures."""
    model = load_model("reference", device="cpu")
    for name, picture in (("maps", maps(model)), ("fields", fields(model))):
        picture.save(FOLDER / f"companions-{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
