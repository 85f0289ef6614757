"""Accentuations kept as pictures under their content's key: a strip of all strengths, the opacity map, the numbers."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from accentor.engine.accentuate import accentuate_pairs
from accentor.engine.accentuation import Accentuation
from accentor.engine.atlas.planning import Wanted
from accentor.engine.models import Model
from accentor.engine.outputs.pictures import to_bytes, to_picture
from accentor.engine.running import DEAD_NOTE, OnStep, Pair
from accentor.errors import AccentorError, RequestError
from accentor.spec import JobSpec, KeyMaker, Recipe, Result

MAX_SIDE_PX = 256
"""Of a frame in a strip."""
QUALITY = 90
STRIP_VERSION = 1
LAST_SHARE = 0.25
"""A way that rises in its last quarter faster than before on average has not converged."""


class PictureStore:
    """The pictures in a folder; what is there is not made again, and a record says that a picture is whole."""

    def __init__(self, folder: Path, model: Model, recipe: Recipe, seed: int) -> None:
        self.folder, self.recipe = folder, recipe
        self._model, self._seed = model, seed
        self._keys = KeyMaker(model.card)

    def job(self, wanted: Wanted) -> JobSpec:
        """Return the job whose content key the pictures lie under."""
        return JobSpec(
            model=self._model.card.name,
            feature=wanted.feature,
            image=wanted.sha256,
            recipe=self.recipe,
            seed=self._seed,
        )

    def key(self, wanted: Wanted) -> str:
        """Return the content key of its job."""
        return self._keys.key(self.job(wanted))

    def stem(self, wanted: Wanted) -> str:
        """Return the pictures' name, without what tells them apart."""
        key = self.key(wanted)
        return f"{key[:2]}/{key}-{STRIP_VERSION}"

    def record(self, wanted: Wanted) -> dict[str, Any] | None:
        """Return the numbers of an accentuation that is there."""
        path = self.folder / f"{self.stem(wanted)}.json"
        if not path.exists():
            return None
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept

    def make(
        self, wanted: Iterable[Wanted], on_step: OnStep | None = None, micro_batch: int | None = None
    ) -> Iterator[tuple[Wanted, AccentorError | None]]:
        """Accentuate what is not there yet, yielding each when it is kept, or with the error that it ended with."""
        asked: dict[int, Wanted] = {}
        places = count()
        unread: list[tuple[Wanted, AccentorError]] = []

        def pairs() -> Iterator[Pair]:
            for one in wanted:
                try:
                    pair = Pair(one.item.read(), one.feature, self._seed)
                except RequestError as error:
                    unread.append((one, error))
                    continue
                asked[next(places)] = one
                yield pair

        for index, ending in accentuate_pairs(
            self._model, pairs(), self.recipe, micro_batch=micro_batch, on_step=on_step
        ):
            one = asked.pop(index)
            if isinstance(ending, Accentuation):
                self._keep(one, ending)
                yield one, None
            else:
                yield one, ending
        yield from unread

    def _keep(self, wanted: Wanted, result: Accentuation) -> None:
        frames = [to_picture(point.image) for point in result.sweep]
        self.write(wanted, frames, to_picture(to_bytes(result.opacity)[None]), result)

    def write(
        self, wanted: Wanted, frames: Sequence[Image.Image], opacity: Image.Image, told: Accentuation | Result
    ) -> None:
        """Keep a picture for each of the strengths, side by side, the opacity map, and what is told of them."""
        place = self.folder / self.stem(wanted)
        place.parent.mkdir(parents=True, exist_ok=True)
        size = fitted(*frames[0].size)
        strip = Image.new("RGB", (size[0] * len(frames), size[1]))
        for index, frame in enumerate(frames):
            strip.paste(_resized(frame, size), (index * size[0], 0))
        where = Image.new("RGBA", size, (255, 255, 255, 255))
        where.putalpha(_resized(opacity, size))
        strip.save(place.with_name(f"{place.name}.webp"), quality=QUALITY, method=2)
        where.save(place.with_name(f"{place.name}-where.webp"), quality=QUALITY, method=2)
        record = {
            "width": size[0],
            "height": size[1],
            "frames": [[point.strength, point.value, point.distance] for point in told.sweep],
            "marks": marks_of(told),
            "seconds": told.seconds,
        }
        part = place.with_name(f".{place.name}.part")
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(place.with_name(f"{place.name}.json"))

    def frame(self, wanted: Wanted, strength: float) -> Tensor | None:
        """Return the picture at a strength, float [3, H, W] in 0..1; none if it is not there."""
        record = self.record(wanted)
        strengths = [] if record is None else [frame[0] for frame in record["frames"]]
        if record is None or strength not in strengths:
            return None
        place, width = strengths.index(strength), record["width"]
        with Image.open(self.folder / f"{self.stem(wanted)}.webp") as strip:
            picture = strip.convert("RGB").crop((place * width, 0, (place + 1) * width, record["height"]))
        flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return flat.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255


def marks_of(result: Accentuation | Result) -> list[str]:
    """Return the reliability marks of one accentuation."""
    marks = ["dead-on-seed"] if DEAD_NOTE in result.notes else []
    points = [(point.step, point.value) for point in result.trajectory]
    return [*marks, "not-converged"] if still_rising(points) else marks


def still_rising(points: Sequence[tuple[int, float]]) -> bool:
    """Return whether the value rose in the last quarter of the steps faster than on average."""
    if len(points) < 3:
        return False
    (first, low), (last, high) = points[0], points[-1]
    step, value = min(points[1:-1], key=lambda point: abs(point[0] - (last - LAST_SHARE * (last - first))))
    gain = high - low
    return gain > 0 and math.isfinite(gain) and (high - value) / (last - step) > gain / (last - first)


def fitted(width: int, height: int) -> tuple[int, int]:
    """Return width and height within `MAX_SIDE_PX`."""
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    return (max(1, round(width * scale)), max(1, round(height * scale)))


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
