"""Pictures of an atlas, made from the results of jobs; and what was measured on them, kept beside these."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence

from accentor.engine.accentuation import SWEEP_ARTEFACT
from accentor.engine.atlas.evaluating import Kept
from accentor.engine.atlas.pictures import PictureStore
from accentor.engine.atlas.planning import Wanted
from accentor.engine.models import Model
from accentor.engine.outputs.files import FRAME_MS
from accentor.errors import NotFoundError
from accentor.spec import Recipe, Result
from accentor.storage import ObjectStore
from accentor.storage.keys import artefact_key, result_key


class StoredPictures(PictureStore):
    """The pictures in a folder; one that is not there yet is made from its job's result, if there is one."""

    def __init__(self, folder: Path, model: Model, recipe: Recipe, seed: int, objects: ObjectStore) -> None:
        super().__init__(folder, model, recipe, seed)
        self._objects = objects
        self._absent: set[str] = set()

    def record(self, wanted: Wanted) -> dict[str, Any] | None:
        """Return the numbers of an accentuation that is there, or has a result."""
        known = super().record(wanted)
        key = self.key(wanted)
        if known is not None or key in self._absent:
            return known
        try:
            self._make(wanted, key)
        except NotFoundError:
            self._absent.add(key)
        return super().record(wanted)

    def _make(self, wanted: Wanted, key: str) -> None:
        result = Result.model_validate_json(self._objects.get(result_key(key)))
        with Image.open(io.BytesIO(self._objects.get(artefact_key(key, SWEEP_ARTEFACT)))) as sweep:
            frames = frames_of(sweep)
        with Image.open(io.BytesIO(self._objects.get(artefact_key(key, "opacity.png")))) as opacity:
            self.write(wanted, frames, opacity.convert("L"), result)


class KeptBesideResults(Kept):
    """What was measured, with the result of the first of the pictures that it was measured on: both go together."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def get(self, name: str, key: str) -> Mapping[str, Any] | None:
        """Read the object."""
        try:
            kept: Mapping[str, Any] = json.loads(self._objects.get(self._place(name, key)))
        except NotFoundError:
            return None
        return kept

    def put(self, name: str, key: str, measured: Mapping[str, Any]) -> None:
        """Write the object."""
        data = json.dumps(measured).encode()
        self._objects.put(self._place(name, key), data, content_type="application/json")

    def _place(self, name: str, key: str) -> str:
        return artefact_key(key, f"coherence-{name}.json")


def frames_of(sweep: Image.Image) -> list[Image.Image]:
    """Return the frames of an animation in which one that is like the frame before it only lengthens that."""
    found = []
    for frame in ImageSequence.Iterator(sweep):
        picture = frame.convert("RGB")
        found += [picture] * max(1, round(frame.info.get("duration", FRAME_MS) / FRAME_MS))
    return found
