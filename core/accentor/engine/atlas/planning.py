"""What an atlas shows, and the accentuations that it takes: the same whoever works it out, from a scan."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nsmallest

import torch

from accentor.engine.atlas.ranks import Ranks
from accentor.engine.atlas.selecting import Choice, choose
from accentor.engine.dictionaries import Dictionary
from accentor.engine.scan import Item, Scan
from accentor.engine.scan.rows import ImageRow
from accentor.engine.scan.sample import priority
from accentor.spec import Feature, Logit, ModelCard
from accentor.spec.atlases import DEFAULT_ERRORS, IMAGE_FEATURES
from accentor.spec.datasets import DatasetCard

MAX_GAPS = 50
LEFT_OUT_NAMED = 10
"""Members that a dataset is without, named one by one; all are counted."""


@dataclass(frozen=True)
class AtlasOptions:
    """What an atlas shows.

    Attributes
    ----------
    top_k
        Images of each feature, beside those over its range.
    images
        Images whose `IMAGE_FEATURES` top features are all accentuated, drawn from the dataset; see `Plan.drawn`.
    errors
        Misclassified images, the surest mistakes first, whose predicted and true class are accentuated.
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
    errors: int = DEFAULT_ERRORS
    limit: int | None = None
    seed: int = 0
    title: str | None = None
    micro_batch: int | None = None


@dataclass(frozen=True)
class Wanted:
    """An accentuation that the atlas needs: a feature in an image with this sha256."""

    feature: Feature
    item: Item
    sha256: str


@dataclass
class Plan:
    """What is shown.

    Attributes
    ----------
    items
        The images that were scanned, by their indices.
    digest
        Returns the sha256 of an image's file.
    feature
        Returns a feature as its jobs name it.
    known_broken
        `broken`, where that was found out before.
    lost
        Images that were scanned and are gone or changed since, and why; they are not shown.
    dataset
        What the images are of, where that tells what it left out.
    """

    card: ModelCard
    dictionary: Dictionary
    scan: Scan
    items: Sequence[Item]
    options: AtlasOptions
    digest: Callable[[int], str]
    feature: Callable[[int], Feature]
    known_broken: frozenset[int] | None = None
    lost: Mapping[int, str] = field(default_factory=dict)
    dataset: DatasetCard | None = None
    _choices: dict[int, list[Choice]] = field(default_factory=dict)

    @cached_property
    def units(self) -> list[int]:
        """Indices of the features that are shown: the first ones that can be used."""
        usable = [unit for unit in range(self.dictionary.size) if unit not in self.broken]
        return usable[: self.options.limit]

    @cached_property
    def shown(self) -> frozenset[int]:
        """The same as a set."""
        return frozenset(self.units)

    @cached_property
    def broken(self) -> frozenset[int]:
        """Indices of the features that are zero or not finite."""
        return frozenset(self.dictionary.report().dead) if self.known_broken is None else self.known_broken

    @cached_property
    def ranks(self) -> Ranks:
        """Where a value lies among those of the images."""
        return Ranks(self.scan.sampled.values)

    @cached_property
    def rows(self) -> dict[int, ImageRow]:
        """What the scan says of each image that could be read and is not lost."""
        return {row.image: row for row in self.scan.rows if row.image not in self.lost}

    @cached_property
    def whole(self) -> dict[int, list[int]]:
        """The images whose top features are all accentuated, with those."""
        return {
            row.image: [unit for unit, _ in self.top_of_image(row)[:IMAGE_FEATURES]]
            for row in self.drawn(self.options.images)
        }

    @cached_property
    def labels(self) -> Sequence[str] | None:
        """The features' labels: of the model's last layer its classes."""
        last = self.card.layers[-1].name == self.dictionary.layer and self.dictionary.kind == "channels"
        own = self.card.labels
        if self.dictionary.labels is None and last and own and len(own) == self.dictionary.size:
            return own
        return self.dictionary.labels

    @cached_property
    def misclassified(self) -> list[ImageRow]:
        """The misclassified images, the surest mistakes first."""
        wrong = [row for row in self.rows.values() if row.misclassified]
        return sorted(wrong, key=lambda row: -(row.probability or 0.0))

    @property
    def mistakes(self) -> list[ImageRow]:
        """Those of the misclassified images that are shown."""
        return self.misclassified[: self.options.errors]

    @cached_property
    def unknown(self) -> list[str | int]:
        """The images' labels that the model, which has classes, does not know."""
        unread = [
            self.items[row.image].label
            for row in self.rows.values()
            if row.label is None and row.prediction is not None
        ]
        return [label for label in unread if label is not None]

    def gaps(self, missing: Sequence[str] = (), lost_later: Mapping[int, str] | None = None) -> list[str]:
        """Return what the atlas does not show, for a person: ``missing`` is a part, single images come last.

        ``lost_later`` are images that were lost while their pictures were made; see `lost`.
        """
        gaps: list[str] = []
        if self.broken:
            gaps.append(f"{len(self.broken)} features of the dictionary are zero or not finite")
        if self.unknown:
            count = len(self.unknown)
            gaps.append(f"images whose label is none of the model's classes: {count}, such as {self.unknown[0]!r}")
        if len(self.units) < self.dictionary.size:
            gaps.append(f"{len(self.units)} of {self.dictionary.size} features are shown")
        gaps += missing
        left_out = self.dataset.skipped_members[:LEFT_OUT_NAMED] if self.dataset else ()
        if self.dataset and self.dataset.skipped:
            gaps.append(f"{self.dataset.skipped} members of the dataset were left out when it was made")
        if lost := {**self.lost, **(lost_later or {})}:
            gaps.append(f"{len(lost)} of {self.scan.seen} images are gone or have changed since they were scanned")
        if skipped := self.scan.skipped:
            gaps.append(f"{len(skipped)} of {self.scan.seen + len(skipped)} images could not be read")
        gaps += [f"{one.id} was left out: {one.reason}" for one in left_out]
        gaps += lost.values()
        gaps += [f"{one.id} could not be read: {one.reason}" for one in skipped]
        more = [f"and {len(gaps) - MAX_GAPS} more"] if len(gaps) > MAX_GAPS else []
        return [*gaps[:MAX_GAPS], *more]

    def drawn(self, count: int) -> list[ImageRow]:
        """Return so many images, drawn by a hash of what they are called: of a dataset that grew mostly the same."""
        drawn = nsmallest(count, self.rows.values(), key=lambda row: priority(row.id))
        return sorted(drawn, key=lambda row: row.image)

    def choices(self, unit: int) -> list[Choice]:
        """Return the images of a feature."""
        if unit not in self._choices:
            self._choices[unit] = choose(self.scan, unit, self.options.top_k, self.rows)
        return self._choices[unit]

    def top_of_image(self, row: ImageRow) -> list[tuple[int, float]]:
        """Return the features shown that are highest on an image, with their values, the highest first.

        The scan keeps the top ones of the whole dictionary; of its part those on the images that it sampled.
        """
        place = self._sampled.get(row.image)
        if place is None or len(self.units) == self.dictionary.size:
            return [(unit, value) for unit, value in zip(row.features, row.values, strict=True) if unit in self.shown]
        values = self.scan.sampled.values[place, self.units].nan_to_num(nan=-torch.inf)
        best = values.topk(min(len(row.features), len(self.units)))
        return [(self.units[unit], float(value)) for unit, value in zip(best.indices, best.values, strict=True)]

    def name(self, unit: int) -> str:
        """Return what a feature is called."""
        named = str(self.dictionary.feature(unit))
        return named if named.startswith("channel:") else f"dictionary:{self.dictionary.name}#{unit}"

    def want(self, feature: Feature, image: int) -> Wanted:
        """Return the accentuation of a feature in an image."""
        return Wanted(feature, self.items[image], self.digest(image))

    def of_feature(self, unit: int) -> list[Wanted]:
        """Return the accentuations of a feature, those of its page."""
        feature = self.feature(unit)
        return [self.want(feature, choice.image) for choice in self.choices(unit)]

    def own_of_image(self, image: int) -> list[int]:
        """Return the features that are accentuated for an image's page, and not for their own."""
        return [
            unit for unit in self.whole.get(image, ()) if all(choice.image != image for choice in self.choices(unit))
        ]

    def of_mistake(self, row: ImageRow) -> Iterator[Wanted]:
        """Yield the accentuations of both classes of a misclassified image."""
        for index in (row.prediction, row.label):
            if index is not None:
                yield self.want(Logit(unit=index), row.image)

    def wanted(self) -> Iterator[Wanted]:
        """Yield all accentuations."""
        for unit in self.units:
            yield from self.of_feature(unit)
        for image in self.whole:
            for unit in self.own_of_image(image):
                yield self.want(self.feature(unit), image)
        for row in self.mistakes:
            yield from self.of_mistake(row)

    def wanted_again(self) -> Iterator[Wanted]:
        """Yield the first accentuation of each feature, which is made with another random seed too."""
        for unit in self.units:
            yield from self.of_feature(unit)[:1]

    @cached_property
    def _sampled(self) -> dict[int, int]:
        return {int(image): place for place, image in enumerate(self.scan.sampled.images)}
