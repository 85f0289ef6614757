"""The steps of an atlas, one after the other; each keeps what it made, so that a build that was interrupted goes on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from accentor.atlas import (
    Atlas,
    DepthPoint,
    ErrorEntry,
    FeatureEntry,
    Frame,
    Histogram,
    ImageEntry,
    ImageFeature,
    Shown,
    publish,
)
from accentor.engine.atlas.agreement import AGREES, agreement
from accentor.engine.atlas.evaluating import Evaluator
from accentor.engine.atlas.layout import directions_of, nearest_of, positions_of
from accentor.engine.atlas.pictures import PictureStore, Wanted
from accentor.engine.atlas.ranks import Ranks
from accentor.engine.atlas.selecting import Choice, choose, sizes_of
from accentor.engine.dictionaries import Dictionary, channels_of
from accentor.engine.models import Model
from accentor.engine.running import OnStep
from accentor.engine.scan import Item, Scan, scan_in_shards
from accentor.engine.scan.rows import ImageRow
from accentor.images import open_image
from accentor.spec import Feature, Logit, Recipe

CACHE = ".cache"
STRENGTHS = (-1.0, 0.0, 0.5, 1.0)
BINS = 32
IMAGE_FEATURES = 4
"""Features accentuated for an image's own page."""
RANDOM = 4
"""Random images that coherence is compared with."""
MAX_ERRORS = 48
THUMBNAIL_PX = 128
SHARD = 256
MAX_GAPS = 50


@dataclass(frozen=True)
class AtlasOptions:
    """What an atlas shows.

    Attributes
    ----------
    top_k
        Images of each feature, beside those over its range.
    images
        Images whose `IMAGE_FEATURES` top features are all accentuated, evenly spread over the dataset.
    limit
        Only the first so many features.
    seed
        Random seed of the crops and the noise.
    title
        Of the site.
    micro_batch
        Pairs optimised at once; none: found by the engine.
    """

    top_k: int = 6
    images: int = 16
    limit: int | None = None
    seed: int = 0
    title: str | None = None
    micro_batch: int | None = None


@dataclass
class Told:
    """What is called while it goes on: a line for a person, images scanned, a step of an accentuation, a picture."""

    say: Callable[[str], None] = lambda _: None
    on_scan: Callable[[int], None] = lambda _: None
    on_step: OnStep | None = None
    on_picture: Callable[[int, int], None] = lambda _done, _total: None


def build_atlas(
    model: Model,
    features: Dictionary | str,
    items: Sequence[Item],
    out: Path,
    recipe: Recipe,
    options: AtlasOptions | None = None,
    *,
    dataset: str = "dataset",
    told: Told | None = None,
) -> Path:
    """Build an atlas of a dictionary over images, and return its first page.

    What each step makes is kept in ``out/.cache`` under its content: run again it goes on, and with more images or
    features only what is new is computed.

    Parameters
    ----------
    model
        From `load_model`.
    features
        A dictionary, or the name of a layer: all its channels.
    items
        Images; their ids are paths.
    out
        Folder of the site.
    recipe
        Of the accentuations; without strengths of its own those of `STRENGTHS` are kept.
    options
        What is shown.
    dataset
        What the images are called.
    told
        Who is told how far it is.

    Raises
    ------
    RequestError
        If the dictionary is not one of this model's layer, the recipe does not go with it, or no image can be read.
    """
    dictionary = channels_of(model, features) if isinstance(features, str) else features
    dictionary.check(model.card)
    build = Build(model, dictionary, items, out, sweeping(recipe), options or AtlasOptions(), dataset, told or Told())
    return build.run()


def sweeping(recipe: Recipe) -> Recipe:
    """Return the recipe with strengths for the slider, the seed among them, and snapshots to see how it ended."""
    strengths = recipe.strengths or STRENGTHS
    changes = {"strengths": tuple(sorted({0.0, *strengths})), "snapshots": max(recipe.snapshots, 4)}
    return Recipe.model_validate(recipe.model_dump() | changes)


@dataclass
class Build:
    """One build."""

    model: Model
    dictionary: Dictionary
    items: Sequence[Item]
    out: Path
    recipe: Recipe
    options: AtlasOptions
    dataset: str
    told: Told
    failures: dict[str, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)

    def run(self) -> Path:
        """Do all steps."""
        self.model.card.check_recipe(self.recipe)
        self.told.say(f"scan: {len(self.items)} images, {self.dictionary.size} features")
        self.told.say(f"select: {self.scan.seen} images were read")
        steps = (("accentuate", self.pictures, self._wanted), ("second seed", self.again, self._wanted_again))
        for step, store, wanted in steps:
            there = [store.record(one) is not None for one in wanted()]
            self.told.say(f"{step}: {there.count(False)} pictures to make, {there.count(True)} are there")
            self._accentuate(store, wanted(), there.count(False))
        self.told.say(f"evaluate and publish: {len(self.units)} features")
        return publish(self._atlas(), self.out)

    @cached_property
    def cache(self) -> Path:
        """Where the steps keep what they made."""
        return self.out / CACHE

    @cached_property
    def pictures(self) -> PictureStore:
        """The accentuations."""
        return PictureStore(self.cache / "pictures", self.model, self.recipe, self.options.seed)

    @cached_property
    def again(self) -> PictureStore:
        """The first image of each feature with another random seed, to see whether both agree."""
        recipe = Recipe.model_validate(self.recipe.model_dump() | {"strengths": (0.0, 1.0)})
        return PictureStore(self.cache / "again", self.model, recipe, self.options.seed + 1)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe's settings that are not the default."""
        given, usual = (recipe.model_dump(mode="json") for recipe in (self.recipe, Recipe()))
        return {name: value for name, value in given.items() if value != usual[name]}

    @cached_property
    def units(self) -> list[int]:
        """Indices of the features that are shown: the first ones that can be used."""
        usable = [unit for unit in range(self.dictionary.size) if unit not in self.broken]
        return usable[: self.options.limit]

    @cached_property
    def broken(self) -> set[int]:
        """Indices of the features that are zero or not finite."""
        return set(self.dictionary.report().dead)

    @cached_property
    def scan(self) -> Scan:
        """What the features do over the images."""
        return scan_in_shards(
            self.model,
            self.dictionary,
            self.items,
            self.cache / "scan",
            shard=SHARD,
            top_k=max(self.options.top_k, 1),
            code="pre",
            on_progress=self.told.on_scan,
        )

    @cached_property
    def ranks(self) -> Ranks:
        """Where a value lies among those of the images."""
        return Ranks(self.scan.sampled.values)

    @cached_property
    def rows(self) -> dict[int, ImageRow]:
        """What the scan says of each image that could be read."""
        return {row.image: row for row in self.scan.rows}

    @cached_property
    def choices(self) -> dict[int, list[Choice]]:
        """The images of each feature."""
        sizes = sizes_of(list(self.scan.rows), len(self.items))
        return {unit: choose(self.scan, unit, self.options.top_k, sizes) for unit in self.units}

    @cached_property
    def whole(self) -> dict[int, list[int]]:
        """The images whose top features are all accentuated, with those."""
        rows = list(self.scan.rows)
        step = max(1, len(rows) // self.options.images) if self.options.images else 1
        shown = set(self.units)
        return {
            row.image: [unit for unit in row.features if unit in shown][:IMAGE_FEATURES]
            for row in rows[::step][: self.options.images]
        }

    @cached_property
    def labels(self) -> Sequence[str] | None:
        """The features' labels: of the model's last layer its classes."""
        card = self.model.card
        last = card.layers[-1].name == self.dictionary.layer and self.dictionary.kind == "channels"
        if self.dictionary.labels is None and last and card.labels and len(card.labels) == self.dictionary.size:
            return card.labels
        return self.dictionary.labels

    @cached_property
    def mistakes(self) -> list[ImageRow]:
        """The misclassified images that are shown, the surest mistakes first."""
        wrong = sorted(self.scan.rows.misclassified, key=lambda row: -(row.probability or 0.0))
        return wrong[:MAX_ERRORS]

    def sha256(self, image: int) -> str:
        """Return the digest of an image's file."""
        if image not in self.digests:
            with Path(self.items[image].id).open("rb") as file:
                self.digests[image] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.digests[image]

    def want(self, feature: Feature, image: int) -> Wanted:
        """Return the accentuation of a feature in an image."""
        return Wanted(feature, Path(self.items[image].id), self.sha256(image))

    def _wanted(self) -> Iterator[Wanted]:
        for unit in self.units:
            feature = self.dictionary.feature(unit)
            for choice in self.choices[unit]:
                yield self.want(feature, choice.image)
        known = {(unit, choice.image) for unit in self.units for choice in self.choices[unit]}
        for image, own in self.whole.items():
            for unit in own:
                if (unit, image) not in known:
                    yield self.want(self.dictionary.feature(unit), image)
        for row in self.mistakes:
            for index in (row.prediction, row.label):
                if index is not None:
                    yield self.want(Logit(unit=index), row.image)

    def _wanted_again(self) -> Iterator[Wanted]:
        for unit in self.units:
            if self.choices[unit]:
                yield self.want(self.dictionary.feature(unit), self.choices[unit][0].image)

    def _accentuate(self, store: PictureStore, wanted: Iterator[Wanted], total: int) -> None:
        todo = (one for one in wanted if store.record(one) is None)
        made = store.make(todo, self.told.on_step, self.options.micro_batch) if total else ()
        for done, (one, error) in enumerate(made, start=1):
            if error is not None:
                self.failures[store.stem(one)] = f"{error.code}: {error.detail}"
            self.told.on_picture(done, total)

    def _atlas(self) -> Atlas:
        gaps = [f"{skipped.id} could not be read: {skipped.reason}" for skipped in self.scan.skipped]
        if self.broken:
            gaps.append(f"{len(self.broken)} features of the dictionary are zero or not finite")
        if self.failures:
            gaps.append(f"{len(self.failures)} pictures could not be made: {next(iter(self.failures.values()))}")
        if len(self.units) < self.dictionary.size:
            gaps.append(f"{len(self.units)} of {self.dictionary.size} features are shown")
        more = [f"and {len(gaps) - MAX_GAPS} more"] if len(gaps) > MAX_GAPS else []
        return Atlas(
            title=self.options.title or f"{self.dictionary.name} of {self.model.card.name} over {self.dataset}",
            model=self.model.card.name,
            layer=self.dictionary.layer,
            dictionary=self.dictionary.name,
            dataset=self.dataset,
            features=self._features(),
            pictures=self.cache / "pictures",
            recipe=self.recipe.model_dump(mode="json", exclude_none=True),
            images=[self._image(row) for row in self.scan.rows],
            errors=[self._error(row) for row in self.mistakes],
            gaps=gaps[:MAX_GAPS] + more,
        )

    def _features(self) -> Iterator[FeatureEntry]:
        directions = directions_of(self.dictionary, self.scan, self.units)
        positions = positions_of(directions).tolist()
        nearest = nearest_of(directions).tolist()
        readable = [Path(self.items[image].id) for image in self.rows]
        step = max(1, len(readable) // RANDOM)
        evaluator = Evaluator(self.cache / "evaluated", self.model, readable[::step][:RANDOM])
        for place, unit in enumerate(self.units):
            feature = self.dictionary.feature(unit)
            shown = tuple(self._shown(feature, choice, unit) for choice in self.choices[unit])
            mean, depths = self._evidence(evaluator, feature, unit)
            yield FeatureEntry(
                index=unit,
                name=self._name(unit),
                label=self.labels[unit] if self.labels else "",
                x=positions[place][0],
                y=positions[place][1],
                nearest=tuple(self.units[other] for other in nearest[place]),
                mean=_number(self.scan.mean[unit]),
                std=_number(self.scan.std[unit]),
                density=min(1.0, _number(self.scan.fires[unit])),
                dead=int(self.scan.fired[unit]) == 0,
                histogram=self._histogram(unit),
                coherence=mean,
                depths=depths,
                shown=shown,
            )

    def _name(self, unit: int) -> str:
        named = str(self.dictionary.feature(unit))
        return named if named.startswith("channel:") else f"dictionary:{self.dictionary.name}#{unit}"

    def _evidence(
        self, evaluator: Evaluator, feature: Feature, unit: int
    ) -> tuple[float | None, tuple[DepthPoint, ...]]:
        tops = [choice for choice in self.choices[unit] if choice.percentile is None]
        wanted = [self.want(feature, choice.image) for choice in tops]
        made = [(one, picture) for one in wanted if (picture := self.pictures.frame(one, 1.0)) is not None]
        found = evaluator.evaluate(
            feature,
            [picture for _, picture in made],
            [one.path for one in wanted],
            [[self.pictures.stem(one) for one, _ in made], [one.sha256 for one in wanted]],
        )
        return found.mean, tuple(
            DepthPoint(layer=layer, coherence=own, natural=natural, random=random)
            for layer, own, natural, random in found.depths
        )

    def _shown(self, feature: Feature, choice: Choice, unit: int | None, chosen: str | None = None) -> Shown:
        wanted = self.want(feature, choice.image)
        given: dict[str, Any] = {
            "image": choice.image,
            "value": choice.value,
            "box": choice.box,
            "chosen": chosen or ("top" if choice.percentile is None else "percentile"),
            "percentile": choice.percentile,
        }
        record, stem = self.pictures.record(wanted), self.pictures.stem(wanted)
        if record is None:
            return Shown(**given, failure=self.failures.get(stem, "it was not made"))
        frames = tuple(
            Frame(
                strength=strength,
                value=value,
                distance=distance,
                percentile=None if unit is None else self.ranks.percentile(unit, value),
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
            marks=(*record["marks"], *(("seeds-disagree",) if self._disagree(wanted) else ())),
            job={
                "model": self.model.card.name,
                "feature": str(feature) if unit is None else self._name(unit),
                "image": wanted.sha256,
                "seed": self.options.seed,
                "recipe": self.settings,
            },
        )

    def _disagree(self, wanted: Wanted) -> bool:
        ways = [(store.frame(wanted, 0.0), store.frame(wanted, 1.0)) for store in (self.pictures, self.again)]
        (before, after), (other_before, other_after) = ways
        if before is None or after is None or other_before is None or other_after is None:
            return False
        return agreement((before, after), (other_before, other_after)) < AGREES

    def _histogram(self, unit: int) -> Histogram | None:
        values = self.scan.sampled.values[:, unit]
        values = values[values.isfinite()]
        if not len(values):
            return None
        low, high = values.min().item(), values.max().item()
        high = high if high > low else low + 1.0
        counts = values.double().histc(BINS, low, high).int().tolist()
        return Histogram(low=low, high=high, counts=tuple(counts))

    def _class(self, index: int | None) -> str:
        labels = self.model.card.labels
        return "" if index is None else labels[index] if labels else str(index)

    def _image(self, row: ImageRow) -> ImageEntry:
        shown = set(self.units)
        return ImageEntry(
            index=row.image,
            name=Path(row.id).name,
            label=self._class(row.label) or str(self.items[row.image].label or ""),
            predicted=self._class(row.prediction),
            sha256=self.sha256(row.image),
            thumbnail=self._thumbnail(row.image),
            features=tuple(
                ImageFeature(
                    feature=unit,
                    value=value,
                    percentile=self.ranks.percentile(unit, value),
                    shown=self._of_image(row, unit, value),
                )
                for unit, value in zip(row.features, row.values, strict=True)
                if unit in shown
            ),
        )

    def _of_image(self, row: ImageRow, unit: int, value: float) -> Shown | None:
        if unit not in self.whole.get(row.image, ()) or any(one.image == row.image for one in self.choices[unit]):
            return None
        return self._shown(self.dictionary.feature(unit), Choice(row.image, value), unit, "image")

    def _thumbnail(self, image: int) -> str:
        name = f"thumbnails/{self.sha256(image)}.webp"
        path = self.cache / "pictures" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = open_image(Path(self.items[image].id)).convert("RGB")
            picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BILINEAR)
            part = path.with_suffix(".part")
            picture.save(part, format="WEBP", quality=80)
            part.replace(path)
        return name

    def _error(self, row: ImageRow) -> ErrorEntry:
        def side(unit: int | None) -> Shown | None:
            return None if unit is None else self._shown(Logit(unit=unit), Choice(row.image, 0.0), None, "error")

        return ErrorEntry(
            image=row.image,
            truth=self._class(row.label),
            predicted=self._class(row.prediction),
            probability=row.probability,
            shown_truth=side(row.label),
            shown_predicted=side(row.prediction),
        )


def _number(value: Tensor) -> float:
    return value.nan_to_num(0.0, 0.0, 0.0).item()
