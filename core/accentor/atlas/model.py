"""What an atlas is made of: features, the images they are shown in, images with their features, and errors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from accentor.spec.atlases import told_strength

Mark = Literal["dead-on-seed", "not-converged", "seeds-disagree"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Percentile = Annotated[float, Field(ge=0.0, le=100.0)]


class Entry(BaseModel):
    """A part of an atlas: never changed, and all its numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Frame(Entry):
    """A feature's picture at one strength: 0 is the seed, 1 the result, below 0 suppressed."""

    strength: float
    value: float = Field(description="The feature's value on the clean picture.")
    percentile: Percentile | None = Field(None, description="Where the value lies among those of the dataset.")
    distance: float = Field(0.0, description="Distance to the seed in the regularisation layer.")


class Shown(Entry):
    """A feature in one image: why the image was chosen, and the pictures over all strengths."""

    image: int = Field(ge=0, description="Index of the image.")
    chosen: Literal["top", "percentile", "image", "error"] = "top"
    percentile: Percentile | None = None
    fires: bool | None = Field(None, description="Whether the feature fires on the image; none: it is not told.")
    value: float | None = Field(None, description="The feature's value in the scan; none: it was not scanned.")
    box: tuple[Share, Share, Share, Share] | None = Field(
        None, description="Where the feature is highest: left, top, width, height, as shares of the image."
    )
    strip: str | None = Field(None, description="WebP of the frames side by side; none: it could not be made.")
    where: str | None = Field(None, description="WebP whose alpha is the opacity map.")
    width: int = Field(0, ge=0, description="Of one frame, in pixels.")
    height: int = Field(0, ge=0)
    frames: tuple[Frame, ...] = Field((), description="By strength, the strip's order.")
    marks: tuple[Mark, ...] = ()
    failure: str | None = Field(None, description="Why there are no pictures.")
    job: dict[str, Any] | None = Field(None, description="The request that makes the same accentuation.")


class Histogram(Entry):
    """How often the feature takes which value over the dataset, in bins of one width."""

    low: float
    high: float
    counts: tuple[int, ...] = Field(min_length=1)


class DepthPoint(Entry):
    """Coherence at one layer, with what it is for natural images that excite the feature, and for random ones."""

    layer: str
    coherence: float
    natural: float | None = None
    random: float | None = None


class FeatureEntry(Entry):
    """A feature: its statistics over the dataset, and the images it is shown in."""

    index: int = Field(ge=0, description="Its index in the dictionary.")
    name: str = Field(description="Its string form.")
    label: str = ""
    x: float = 0.0
    y: float = 0.0
    nearest: tuple[int, ...] = Field((), description="Indices of the features most like it, the nearest first.")
    mean: float = 0.0
    std: float = Field(0.0, ge=0.0)
    density: Share | None = Field(None, description="Share of the images on which it fires.")
    dead: bool = Field(default=False, description="Whether it fires on no image.")
    histogram: Histogram | None = None
    coherence: float | None = None
    depths: tuple[DepthPoint, ...] = ()
    shown: tuple[Shown, ...] = ()

    @property
    def gain_at(self) -> float | None:
        """The strength that its gain is told at, and its thumbnail is of; see `told_strength`."""
        strengths, others = (
            [frame.strength for one in shown for frame in one.frames] for shown in (self._top, self.shown)
        )
        return told_strength(strengths or others)

    @property
    def gain(self) -> float | None:
        """Mean rise of its value at `gain_at` over its top images, in standard deviations over the dataset."""
        values = [(one, {frame.strength: frame.value for frame in one.frames}) for one in self._top]
        rises = [
            told[self.gain_at] - seed
            for one, told in values
            if self.gain_at in told and (seed := told.get(0.0, one.value)) is not None
        ]
        return sum(rises) / len(rises) / self.std if rises and self.std else None

    @property
    def _top(self) -> tuple[Shown, ...]:
        return tuple(one for one in self.shown if one.chosen == "top")

    @property
    def failures(self) -> int:
        """How many of its pictures could not be made."""
        return sum(one.failure is not None for one in self.shown)


class ImageFeature(Entry):
    """A feature that is high on an image."""

    feature: int = Field(ge=0)
    value: float
    percentile: Percentile | None = None
    shown: Shown | None = Field(None, description="Its pictures, if the feature's own page does not have them.")


class ImageEntry(Entry):
    """An image of the dataset, with its top features."""

    index: int = Field(ge=0)
    name: str
    label: str = ""
    is_class: bool = Field(default=True, description="Whether the label is one of the model's classes.")
    predicted: str = ""
    sha256: str = ""
    thumbnail: str | None = None
    features: tuple[ImageFeature, ...] = ()

    @property
    def misclassified(self) -> bool:
        """Whether it is taken for another class than its label."""
        return self.is_class and self.label != self.predicted and bool(self.label and self.predicted)


class ErrorEntry(Entry):
    """A misclassified image: the predicted and the true class accentuated from the same seed."""

    image: int = Field(ge=0)
    truth: str
    predicted: str
    probability: Share | None = None
    shown_truth: Shown | None = None
    shown_predicted: Shown | None = None


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """An atlas to publish.

    ``features`` is read once, in order, so that it may be a generator; ``pictures`` is the folder that the names in
    ``strip``, ``where`` and ``thumbnail`` lie in; ``misclassified`` is how many images are,
    none: those of ``errors``, which are shown; ``gaps`` says what is missing, for a person.
    """

    title: str
    model: str
    layer: str
    dictionary: str
    dataset: str
    features: Iterable[FeatureEntry]
    pictures: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    images: Sequence[ImageEntry] = ()
    errors: Sequence[ErrorEntry] = ()
    misclassified: int | None = None
    gaps: Sequence[str] = ()
    made_at: datetime | None = None
