"""Thumbnails packed into sheets: one WebP for 64 of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image, ImageOps

TILE_PX = 64
ACROSS = 8
PER_SHEET = ACROSS * ACROSS
QUALITY = 72
BLANK = (0x88, 0x88, 0x88)


@dataclass(frozen=True)
class Source:
    """What a thumbnail is made of: a picture, and the frame of it."""

    path: Path
    left: int = 0
    width: int | None = None

    def read(self) -> Image.Image:
        """Return the thumbnail, cut to a square."""
        with Image.open(self.path) as picture:
            right = picture.width if self.width is None else self.left + self.width
            frame = picture.convert("RGB").crop((self.left, 0, right, picture.height))
        return ImageOps.fit(frame, (TILE_PX, TILE_PX), Image.Resampling.BILINEAR)


def write_sheets(folder: Path, sources: Iterable[Source | None]) -> int:
    """Write ``FOLDER/0.webp``, ``1.webp``, … in the sources' order; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for tiles in _groups(sources):
        sheet = Image.new("RGB", (ACROSS * TILE_PX, -(-len(tiles) // ACROSS) * TILE_PX), BLANK)
        for place, source in enumerate(tiles):
            if source is not None:
                sheet.paste(source.read(), (place % ACROSS * TILE_PX, place // ACROSS * TILE_PX))
        sheet.save(folder / f"{count}.webp", quality=QUALITY, method=2)
        count += 1
    return count


def _groups(sources: Iterable[Source | None]) -> Iterator[list[Source | None]]:
    left = iter(sources)
    while group := list(islice(left, PER_SHEET)):
        yield group
