"""What an accentuated PNG says of itself: text chunks written with it, and the way back."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accentor.errors import InvalidImageError, what_is_wrong
from accentor.images import DAMAGE, check_size
from accentor.spec import Recipe, Sha256, resolve_recipe

PREFIX = "accentor:"
"""In front of each field's name in the keyword of its chunk, so that it meets no other program's."""

_PLAIN = frozenset({"software", "view", "key", "model", "model_digest", "feature", "device", "precision"})
"""Fields written as they are; the others are JSON."""


class Metadata(BaseModel):
    """What an accentuated PNG says of itself.

    Each field is one chunk of international text (iTXt, UTF-8) whose keyword is ``accentor:`` and the field's name;
    fields that are none have no chunk. ``Software`` and ``Description`` stand beside them for other programs.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    software: str = Field(description="the program and its version")
    view: str = Field("accentuated", description="which picture of the result this is")
    key: Sha256 | None = Field(None, description="content key of the job, if it was one")
    model: str = Field("", description="name of the model")
    model_digest: Sha256 = Field(description="sha256 over architecture, preprocessing and weights")
    feature: str = Field(description="string form of the feature")
    recipe: dict[str, Any] = Field(description="the recipe's settings")
    seed: int = Field(description="random seed of the crops and the noise")
    before: Annotated[float, Field(allow_inf_nan=False)] = Field(description="the feature's value on the clean seed")
    after: Annotated[float, Field(allow_inf_nan=False)] = Field(description="its value on the clean result")
    steps: int = Field(description="steps taken")
    stopped_at: int | None = Field(None, description="step at which the activation target was reached")
    engine_version: int
    device: str = ""
    precision: str = Field("", description="what the network's passes were computed in")
    notes: tuple[str, ...] = Field((), description="what a reader of the picture should know")

    def to_recipe(self) -> Recipe:
        """Return the recipe itself.

        Raises
        ------
        InvalidRecipeError
            If another version of Accentor wrote it, with settings that this one does not have.
        """
        return resolve_recipe(self.recipe)

    def to_png_info(self) -> PngInfo:
        """Return the text chunks for `PIL.Image.Image.save`."""
        info = PngInfo()
        info.add_itxt("Software", self.software)
        info.add_itxt("Description", f"{self.feature}: {self.before:.6g} → {self.after:.6g} ({self.view})")
        for name, value in self.model_dump(mode="json", exclude_none=True).items():
            info.add_itxt(PREFIX + name, value if name in _PLAIN else json.dumps(value, ensure_ascii=False))
        return info

    @classmethod
    def from_text(cls, text: Mapping[str, str], name: str = "the image") -> Self:
        """Return the metadata in a PNG's text chunks.

        Raises
        ------
        InvalidImageError
            If there are none, or one cannot be read: which, and why.
        """
        found = {
            keyword.removeprefix(PREFIX): str(value) for keyword, value in text.items() if keyword.startswith(PREFIX)
        }
        if not found:
            raise InvalidImageError(f"{name} carries no metadata of Accentor: expected a PNG that Accentor wrote")
        try:
            return cls.model_validate({key: _decoded(key, value) for key, value in found.items()})
        except ValidationError as error:
            faults = "; ".join(f"{PREFIX}{fault['loc'][0]}: {what_is_wrong(fault)}" for fault in error.errors())
            raise InvalidImageError(f"{name} carries damaged metadata: {faults}") from error
        except json.JSONDecodeError as error:
            raise InvalidImageError(f"{name} carries damaged metadata: {error.doc!r} is no JSON: {error}") from error


def read_metadata(source: str | Path | bytes | Image.Image) -> Metadata:
    """Return what an accentuated PNG says of itself; torch is not needed.

    Parameters
    ----------
    source
        A path, the bytes of a PNG, or a PIL image opened from one.

    Raises
    ------
    InvalidImageError
        If it is no PNG, is damaged, or does not carry Accentor's metadata.
    """
    name = str(source) if isinstance(source, str | Path) else "the image"
    return Metadata.from_text(_text_chunks(source, name), name)


def _text_chunks(source: str | Path | bytes | Image.Image, name: str) -> Mapping[str, str]:
    """Return the text chunks of a PNG, those behind the pixels too."""
    if isinstance(source, Image.Image):
        return getattr(source, "text", {})
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            check_size(image.width, image.height, name)
            return getattr(image, "text", {})
    except InvalidImageError:
        raise
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidImageError(f"{name} cannot be read as a PNG: {error}") from error


def _decoded(field: str, value: str) -> Any:
    return value if field in _PLAIN or field not in Metadata.model_fields else json.loads(value)
