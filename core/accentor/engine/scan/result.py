"""What a scan found, per feature; and two scans made one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from accentor.engine.loading import Skipped
from accentor.engine.scan.bins import quantiles
from accentor.engine.scan.ranked import EMPTY, FIRES, HEIGHT, IMAGE, NOTES, POSITION, WIDTH, Ranked
from accentor.engine.scan.rows import ImageRows
from accentor.engine.scan.sample import Sample
from accentor.errors import InvalidRequestError, UnitOutOfRangeError

Reduce = Literal["mean", "max"]
PERCENTILES = (0, 50, 90, 99, 100)


@dataclass(frozen=True)
class Settings:
    """What a scan measures: two scans are merged if they have the same.

    Attributes
    ----------
    model
        Digest of the model.
    dictionary, layer, features
        Name and layer of the dictionary, and the number of its features.
    reduce
        The value of a feature on an image: the mean or the maximum over the layer's positions.
    code
        For an encoder: ``pre`` or ``post``, before or after its activation.
    fires_above
        A feature fires on an image if its code, after an encoder's activation, is above this anywhere in it.
    top_k, top_features, sample
        Images kept per feature, features kept per image, images sampled.
    grid
        Rows and columns of the layer; none for a vector.
    side
        Of the network's input, in pixels.
    """

    model: str
    dictionary: str
    layer: str
    features: int
    reduce: Reduce
    code: Literal["pre", "post"]
    fires_above: float
    top_k: int
    top_features: int
    sample: int
    grid: tuple[int, int] | None
    side: int


@dataclass(frozen=True)
class Top:
    """An image of a feature: its value there, where it is largest, by row and column and as a point of the image.

    ``y`` and ``x`` are in pixels of the image as it was given, from its upper left corner; all four are none for a
    layer without positions.
    """

    image: int
    value: float
    row: int | None
    column: int | None
    y: float | None
    x: float | None


class Placed(NamedTuple):
    """The image at a percentile of a feature's values: its value there, and whether it fires on it."""

    image: int
    value: float
    fires: bool


@dataclass(frozen=True)
class Scan:
    """Statistics of every feature, over all images that could be read.

    Attributes
    ----------
    settings
        What was measured.
    seen
        Number of images read.
    skipped
        Images that could not be read.
    top, bottom
        Images of the largest values; the image of the smallest, negated.
    count, total, squares, fired
        [features]: finite values, their sum, the sum of their squares; images on which the feature fires.
    histogram
        [features, bins], see `bins`.
    sampled
        A sample of the images with all their values.
    rows
        What is said of every image; empty where it was handed on instead.
    """

    settings: Settings
    seen: int
    skipped: tuple[Skipped, ...]
    top: Ranked
    bottom: Ranked
    count: Tensor
    total: Tensor
    squares: Tensor
    fired: Tensor
    histogram: Tensor
    sampled: Sample
    rows: ImageRows = field(default_factory=ImageRows)

    @property
    def images(self) -> int:
        """Number of images, read or not."""
        return self.seen + len(self.skipped)

    @property
    def mean(self) -> Tensor:
        """Mean value of each feature over the images."""
        return (self.total / self.count).float()

    @property
    def std(self) -> Tensor:
        """Standard deviation over the images."""
        mean = self.total / self.count
        return (self.squares / self.count - mean.square()).clamp(min=0).sqrt().float()

    @property
    def smallest(self) -> Tensor:
        """Smallest value of each feature; inf if none was finite."""
        return -self.bottom.values[:, 0]

    @property
    def largest(self) -> Tensor:
        """Largest value of each feature; -inf if none was finite."""
        return self.top.values[:, 0]

    @property
    def fires(self) -> Tensor:
        """Share of the images on which each feature fires."""
        return (self.fired.double() / max(self.seen, 1)).float()

    @property
    def exact(self) -> bool:
        """Whether the sample holds all images: then quantiles and the images at percentiles are exact."""
        return self.seen <= self.settings.sample

    def quantile(self, share: float) -> Tensor:
        """Return the value [features] below which this share of the images lies.

        Exact while the sample holds all images (linear between two of them); else within a bin of the histogram, 9 %
        of the value.
        """
        return self.quantiles((share,))[:, 0]

    def quantiles(self, shares: Sequence[float]) -> Tensor:
        """Return the values [features, shares] below which these shares of the images lie; see `quantile`."""
        wanted = torch.tensor(shares)
        if self.exact and self.seen:
            return torch.nanquantile(self._finite_sample(), wanted, dim=0).T
        return quantiles(self.histogram, self.smallest, self.largest, wanted)

    def percentile_of(self, feature: int, value: float) -> float:
        """Return which share of the images, in percent, have a lower value than this; of the sampled images."""
        self._check(feature)
        values = self._finite_sample()[:, feature]
        values = values[~values.isnan()]
        return float((values < value).double().mean() * 100) if len(values) else 0.0

    def top_of(self, feature: int) -> list[Top]:
        """Return the images of the largest values of a feature, descending; of equal ones the first."""
        self._check(feature)
        there = self.top.notes[feature, :, IMAGE] >= 0
        values, notes = self.top.values[feature][there].tolist(), self.top.notes[feature][there]
        places = self.places(notes)
        told = [(None,) * 4] * len(values) if places is None else zip(*(one.tolist() for one in places), strict=True)
        images = notes[:, IMAGE].tolist()
        return [Top(image, value, *place) for image, value, place in zip(images, values, told, strict=True)]

    def at_percentiles(self, feature: int) -> dict[int, Placed]:
        """Return the image at each of `PERCENTILES` with its value, and whether the feature fires on it.

        The first and the last are exact, as is any whose rank from above is among the ``top_k``. The others are the
        sampled image of that rank in the sample: with n sampled images the rank is off by √(p (100 - p) / n) points,
        one standard deviation, and by nothing while the sample holds all images.
        """
        self._check(feature)
        found = (part[0].tolist() for part in self.percentiles(slice(feature, feature + 1)))
        told = zip(PERCENTILES, map(Placed, *found), strict=True)
        return {percent: placed for percent, placed in told if placed.image >= 0}

    def percentiles(self, features: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, values and firing [features, percentiles]; see `at_percentiles`. Image -1: there is none."""
        count = self.count[features]
        if not self.seen:
            empty = (len(count), len(PERCENTILES))
            return torch.full(empty, EMPTY), torch.full(empty, torch.nan), torch.zeros(empty, dtype=torch.bool)
        values, ranks = self._finite_sample()[:, features].sort(dim=0, stable=True)
        known = (~values.isnan()).sum(dim=0)
        found = [self._at(percent, features, values, ranks, known, count) for percent in PERCENTILES]
        images, strengths, fires = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
        return images.where(known[:, None] > 0, EMPTY), strengths, fires

    def _at(
        self, percent: int, features: slice, values: Tensor, ranks: Tensor, known: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if percent == 0:
            notes = self.bottom.notes[features, 0]
            return notes[:, IMAGE], self.smallest[features], notes[:, FIRES] > 0
        place = (percent / 100 * (known - 1).clamp(min=0).double()).round().long()[None]
        above = ((1 - percent / 100) * (count - 1).clamp(min=0).double()).round().long()[:, None]
        top = above.clamp(max=self.settings.top_k - 1)
        is_top = above[:, 0] < self.settings.top_k
        row = ranks.gather(0, place)
        notes = self.top.notes[features].gather(1, top[..., None].expand(-1, -1, NOTES))[:, 0]
        return (
            notes[:, IMAGE].where(is_top, self.sampled.images[row[0]]),
            self.top.values[features].gather(1, top)[:, 0].where(is_top, values.gather(0, place)[0]),
            (notes[:, FIRES] > 0).where(is_top, self.sampled.fires[:, features].gather(0, row)[0]),
        )

    def moved(self, start: int) -> "Scan":
        """Return the same of images whose numbers are higher by ``start``, as before one is merged with another."""
        return replace(
            self,
            skipped=tuple(replace(skipped, image=skipped.image + start) for skipped in self.skipped),
            top=self.top.moved(start),
            bottom=self.bottom.moved(start),
            sampled=replace(self.sampled, images=self.sampled.images + start),
            rows=ImageRows([replace(row, image=row.image + start) for row in self.rows]),
        )

    def _finite_sample(self) -> Tensor:
        values = self.sampled.values
        return values.where(values.isfinite(), torch.nan)

    def _check(self, feature: int) -> None:
        if not 0 <= feature < self.settings.features:
            raise UnitOutOfRangeError(
                f"the scan has features 0 to {self.settings.features - 1}; {feature} was asked for"
            )

    def places(self, notes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Return row, column, y and x of notes [n, 5], as `Top` has them; none for a layer without positions."""
        grid = self.settings.grid
        if grid is None:
            return None
        row, column = notes[:, POSITION] // grid[1], notes[:, POSITION] % grid[1]
        height, width = notes[:, HEIGHT].double(), notes[:, WIDTH].double()
        square = torch.minimum(height, width)
        y = (height - square) / 2 + (row + 0.5) * square / grid[0]
        x = (width - square) / 2 + (column + 0.5) * square / grid[1]
        return row, column, y, x


def merge(first: Scan, second: Scan) -> Scan:
    """Return the scan of both scans' images, as if they had been scanned at once.

    Raises
    ------
    InvalidRequestError
        If they measure different things; what differs is named.
    """
    if first.settings != second.settings:
        differing = [
            f"{name} is {one!r} in one, {other!r} in the other"
            for name in (f.name for f in fields(Settings))
            if (one := getattr(first.settings, name)) != (other := getattr(second.settings, name))
        ]
        raise InvalidRequestError(f"scans that measure different things cannot be merged: {'; '.join(differing)}")
    size = first.settings.sample
    rows = sorted([*first.rows, *second.rows], key=lambda row: row.image)
    return replace(
        first,
        seen=first.seen + second.seen,
        skipped=tuple(sorted(first.skipped + second.skipped, key=lambda skipped: skipped.image)),
        top=first.top.merged(second.top),
        bottom=first.bottom.merged(second.bottom),
        count=first.count + second.count,
        total=first.total + second.total,
        squares=first.squares + second.squares,
        fired=first.fired + second.fired,
        histogram=first.histogram + second.histogram,
        sampled=first.sampled.padded(max(size, len(first.sampled.images))).merged(second.sampled).cpu(),
        rows=ImageRows(rows),
    )
