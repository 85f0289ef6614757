"""What is said of features, images and errors: from a plan, its pictures, and what was measured on them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from accentor.atlas import (
    DepthPoint,
    ErrorEntry,
    FeatureEntry,
    Frame,
    Histogram,
    ImageEntry,
    ImageFeature,
    Shown,
)
from accentor.engine.atlas.agreement import AGREES, agreement
from accentor.engine.atlas.evaluating import Evaluator
from accentor.engine.atlas.layout import directions_of, nearest_of, positions_of
from accentor.engine.atlas.pictures import PictureStore
from accentor.engine.atlas.planning import Plan, Wanted
from accentor.engine.atlas.selecting import Choice
from accentor.engine.scan import Item
from accentor.engine.scan.rows import ImageRow
from accentor.errors import RequestError
from accentor.images import open_image
from accentor.spec import Feature, Logit, Recipe
from accentor.spec.atlases import told_strength

BINS = 32
RANDOM = 4
"""Random images that coherence is compared with."""
THUMBNAIL_PX = 128


@dataclass
class Entries:
    """What is said of each.

    Attributes
    ----------
    again
        The first image of each feature with another random seed, to see whether both agree.
    evaluator
        Measures coherence; see `random_images`.
    failure
        Says why a picture is not there.
    """

    plan: Plan
    pictures: PictureStore
    again: PictureStore
    evaluator: Evaluator
    failure: Callable[[Wanted], str]

    def feature(self, unit: int) -> FeatureEntry:
        """Return what is said of a feature, but for its place on the map."""
        plan, scan = self.plan, self.plan.scan
        feature = plan.feature(unit)
        shown = tuple(
            self._shown(feature, choice, unit, is_first=place == 0) for place, choice in enumerate(plan.choices(unit))
        )
        mean, depths = self._evidence(unit)
        return FeatureEntry(
            index=unit,
            name=plan.name(unit),
            label=plan.labels[unit] if plan.labels else "",
            mean=_number(scan.mean[unit]),
            std=_number(scan.std[unit]),
            density=min(1.0, _number(scan.fires[unit])),
            dead=int(scan.fired[unit]) == 0,
            histogram=self._histogram(unit),
            coherence=mean,
            depths=depths,
            shown=shown,
        )

    def image(self, row: ImageRow) -> ImageEntry:
        """Return what is said of an image."""
        plan = self.plan
        own = frozenset(plan.own_of_image(row.image))
        label = plan.items[row.image].label
        return ImageEntry(
            index=row.image,
            name=Path(row.id).name,
            label=self._class(row.label) or str(label or ""),
            is_class=row.label is not None or label is None,
            predicted=self._class(row.prediction),
            sha256=plan.digest(row.image),
            thumbnail=self._thumbnail(row.image),
            features=tuple(
                ImageFeature(
                    feature=unit,
                    value=value,
                    percentile=plan.ranks.percentile(unit, value),
                    shown=self._shown(plan.feature(unit), Choice(row.image, value), unit, "image")
                    if unit in own
                    else None,
                )
                for unit, value in plan.top_of_image(row)
            ),
        )

    def error(self, row: ImageRow) -> ErrorEntry:
        """Return what is said of a misclassified image."""

        def side(unit: int | None) -> Shown | None:
            return None if unit is None else self._shown(Logit(unit=unit), Choice(row.image), None, "error")

        return ErrorEntry(
            image=row.image,
            truth=self._class(row.label),
            predicted=self._class(row.prediction),
            probability=row.probability,
            shown_truth=side(row.label),
            shown_predicted=side(row.prediction),
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe's settings that are not the default."""
        given, usual = (recipe.model_dump(mode="json") for recipe in (self.pictures.recipe, Recipe()))
        return {name: value for name, value in given.items() if value != usual[name]}

    def _evidence(self, unit: int) -> tuple[float | None, tuple[DepthPoint, ...]]:
        feature = self.plan.feature(unit)
        tops = [choice for choice in self.plan.choices(unit) if choice.percentile is None]
        wanted = [self.plan.want(feature, choice.image) for choice in tops]
        made = [(one, picture) for one in wanted if (picture := self._told(self.pictures, one)) is not None]
        found = self.evaluator.evaluate(self.plan.dictionary.feature(unit), made, wanted, self.pictures.key)
        return found.mean, tuple(
            DepthPoint(layer=layer, coherence=own, natural=natural, random=random)
            for layer, own, natural, random in found.depths
        )

    def _shown(
        self, feature: Feature, choice: Choice, unit: int | None, chosen: str | None = None, *, is_first: bool = False
    ) -> Shown:
        wanted = self.plan.want(feature, choice.image)
        given: dict[str, Any] = {
            "image": choice.image,
            "value": choice.value,
            "box": choice.box,
            "chosen": chosen or ("top" if choice.percentile is None else "percentile"),
            "percentile": choice.percentile,
            "fires": choice.fires,
        }
        record, stem = self.pictures.record(wanted), self.pictures.stem(wanted)
        if record is None:
            return Shown(**given, failure=self.failure(wanted))
        frames = tuple(
            Frame(
                strength=strength,
                value=value,
                distance=distance,
                percentile=None if unit is None else self.plan.ranks.percentile(unit, value),
            )
            for strength, value, distance in record["frames"]
        )
        return Shown(
            **given,
            strip=f"{stem}.webp",
            where=f"{stem}-where.webp",
            width=record["width"],
            height=record["height"],
            frames=frames,
            marks=(*record["marks"], *(("seeds-disagree",) if is_first and self._disagree(wanted) else ())),
            job={
                "model": self.plan.card.name,
                "feature": str(feature) if unit is None or feature.references else self.plan.name(unit),
                "image": wanted.sha256,
                "seed": self.plan.options.seed,
                "recipe": self.settings,
            },
        )

    def _told(self, store: PictureStore, wanted: Wanted) -> Tensor | None:
        strength = told_strength(self.pictures.recipe.strengths)
        return None if strength is None else store.frame(wanted, strength)

    def _disagree(self, wanted: Wanted) -> bool:
        ways = [(store.frame(wanted, 0.0), self._told(store, wanted)) for store in (self.pictures, self.again)]
        (before, after), (other_before, other_after) = ways
        if before is None or after is None or other_before is None or other_after is None:
            return False
        return agreement((before, after), (other_before, other_after)) < AGREES

    def _histogram(self, unit: int) -> Histogram | None:
        values = self.plan.scan.sampled.values[:, unit]
        values = values[values.isfinite()]
        if not len(values):
            return None
        low, high = values.min().item(), values.max().item()
        high = high if high > low else low + 1.0
        counts = values.double().histc(BINS, low, high).int().tolist()
        return Histogram(low=low, high=high, counts=tuple(counts))

    def _class(self, index: int | None) -> str:
        labels = self.plan.card.labels
        return "" if index is None else labels[index] if labels else str(index)

    def _thumbnail(self, image: int) -> str | None:
        name = f"thumbnails/{self.plan.digest(image)}.webp"
        path = self.pictures.folder / name
        if not path.exists():
            try:
                picture = open_image(self.plan.items[image].read()).convert("RGB")  # type: ignore[arg-type]
            except RequestError:
                return None
            picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BILINEAR)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            picture.save(part, format="WEBP", quality=80)
            part.replace(path)
        return name


def placed(plan: Plan, entries: Iterable[FeatureEntry]) -> Iterator[FeatureEntry]:
    """Yield features with their places on the map, and those most like them."""
    directions = directions_of(plan.dictionary, plan.scan, plan.units)
    positions = positions_of(directions).tolist()
    nearest = nearest_of(directions).tolist()
    places = {unit: place for place, unit in enumerate(plan.units)}
    for entry in entries:
        place = places[entry.index]
        x, y = positions[place]
        near = tuple(plan.units[other] for other in nearest[place])
        yield entry.model_copy(update={"x": x, "y": y, "nearest": near})


def random_images(plan: Plan) -> list[tuple[Item, str]]:
    """Return images that stand for any, each with its sha256."""
    return [(plan.items[row.image], plan.digest(row.image)) for row in plan.drawn(RANDOM)]


def _number(value: Tensor) -> float:
    return value.nan_to_num(0.0, 0.0, 0.0).item()
