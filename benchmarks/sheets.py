"""A sheet of pictures to look at: what every method made of the same seeds."""

from PIL import Image, ImageDraw
from torch import Tensor

from accentor.engine.accentuation import to_picture
from methods import Picture
from suites import Suite

TILE = 192
"""Side of a picture on the sheet, in pixels."""
MAP = TILE // 2
LINE = 14
"""Height of a line of text."""
CASES = 12


def sheet(suite: Suite, pictures: dict[str, list[Picture]]) -> Image.Image:
    """Return a sheet: a row per case, the seed and every method's picture, its map below in grey."""
    every = max(1, len(suite.cases) // CASES)
    chosen = range(0, len(suite.cases), every)[:CASES]
    height = LINE + TILE + MAP
    page = Image.new("RGB", (TILE * (len(pictures) + 1), height * len(chosen) + LINE), "white")
    pen = ImageDraw.Draw(page)
    for column, name in enumerate(["seed", *pictures]):
        pen.text((column * TILE + 4, 1), name, fill="black")
    for place, index in enumerate(chosen):
        top = LINE + place * height
        pen.text((4, top + 1), suite.cases[index].name, fill="black")
        _paste(page, (0, top + LINE), suite.cases[index].pixels, suite.cases[index].mask)
        for column, made in enumerate(pictures.values(), start=1):
            _paste(page, (column * TILE, top + LINE), made[index].pixels, made[index].opacity)
    return page


def _paste(page: Image.Image, at: tuple[int, int], pixels: Tensor, below: Tensor | None) -> None:
    page.paste(to_picture(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS), at)
    if below is not None:
        grey = to_picture(below[None].float()).resize((MAP, MAP), Image.Resampling.LANCZOS)
        page.paste(grey.convert("RGB"), (at[0], at[1] + TILE))
