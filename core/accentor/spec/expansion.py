"""From a batch to its jobs: job i is decoded from i, nothing is listed."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import overload

from accentor.errors import DuplicateIdError, InvalidRequestError, UnitOutOfRangeError
from accentor.spec.batches import (
    BatchLine,
    BatchSpec,
    DatasetImages,
    DictionaryFeatures,
    LayerFeatures,
    LinesBatch,
    TopK,
)
from accentor.spec.catalog import EMPTY_CATALOG, Catalog, Scanned
from accentor.spec.features import Channel, Entry, Feature, Sum
from accentor.spec.jobs import MAX_CUSTOM_ID, JobSpec
from accentor.spec.models import LayerInfo, ModelCard
from accentor.spec.naming import fill, piece
from accentor.spec.recipe import Recipe

BLOCKS_KEPT = 4

ReadBlock = Callable[[int], Sequence[bytes]]
"""From the number of a block to its lines."""


class Jobs(Sequence[JobSpec]):
    """The jobs of a product or a list, in order.

    Raises
    ------
    InvalidRequestError
        If a zip's features and images are not equally many, or if a scan is needed that there is not.
    DuplicateIdError
        If the pattern for ``custom_id`` gives two jobs the same.
    UnknownLayerError, UnitOutOfRangeError, UnknownDictionaryError, UnknownDatasetError
        If ``features`` or ``images`` names what is not there.
    """

    def __init__(self, spec: BatchSpec, card: ModelCard, catalog: Catalog = EMPTY_CATALOG) -> None:
        self._spec = spec
        self._explicit = spec.jobs or ()
        self._features = _features_of(spec, card, catalog)
        self._images = _images_of(spec, catalog)
        self._is_zip = spec.pairing == "zip"
        self._tops = None if isinstance(spec.pairing, str) else _Tops(spec, spec.pairing, self._features, card, catalog)
        if self._is_zip and len(self._features) != len(self._images):
            raise InvalidRequestError(
                f"a zip needs as many features as images: {len(self._features)} features, {len(self._images)} images"
            )
        if spec.custom_id is not None:
            self._check_names(spec.custom_id)

    def __len__(self) -> int:
        if self._explicit:
            return len(self._explicit)
        if self._tops is not None:
            return self._tops.total * self._spec.seeds
        return len(self._features) * (1 if self._is_zip else len(self._images)) * self._spec.seeds

    @overload
    def __getitem__(self, index: int) -> JobSpec: ...
    @overload
    def __getitem__(self, index: slice) -> list[JobSpec]: ...
    def __getitem__(self, index: int | slice) -> JobSpec | list[JobSpec]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        check_index(index, len(self))
        if not self._explicit:
            return self._decode(index)
        job = self._explicit[index]
        return self._spec_of(job.feature, job.image, job.seed, job.custom_id, job.recipe)

    @property
    def features(self) -> Sequence[Feature]:
        """The features to check before anything is queued; a layer's and a dictionary's exist by construction."""
        if self._explicit:
            return [job.feature for job in self._explicit]
        return self._features if isinstance(self._spec.features, tuple) else ()

    @property
    def recipes(self) -> frozenset[Recipe]:
        """The distinct recipes of the jobs."""
        return frozenset({self._spec.recipe} | {job.recipe for job in self._explicit if job.recipe is not None})

    @property
    def images(self) -> frozenset[str]:
        """The distinct images that the jobs need."""
        if self._tops is not None:
            return frozenset(self._images[number] for number in self._tops.images)
        return frozenset(self._images) | {job.image for job in self._explicit}

    @property
    def steps_and_crops(self) -> int:
        """The work of all jobs: the sum of steps × crops."""
        if self._explicit:
            return sum(_work(job.recipe or self._spec.recipe) for job in self._explicit)
        return len(self) * _work(self._spec.recipe)

    def _decode(self, index: int) -> JobSpec:
        pair, seed = divmod(index, self._spec.seeds)
        row, column = self._pair(pair)
        feature, image = self._features[row], self._images[column]
        name = None
        if self._spec.custom_id is not None:
            values = {"feature": str(feature), "image": image, "seed": str(seed), "index": str(index)}
            name = fill(self._spec.custom_id, values)
        return self._spec_of(feature, image, seed, name)

    def _pair(self, pair: int) -> tuple[int, int]:
        """Return the numbers of the feature and the image of a pair."""
        if self._tops is not None:
            return self._tops.pair(pair)
        return (pair, pair) if self._is_zip else divmod(pair, len(self._images))

    def _spec_of(
        self, feature: Feature, image: str, seed: int, name: str | None, recipe: Recipe | None = None
    ) -> JobSpec:
        return JobSpec.model_construct(
            model=self._spec.model,
            feature=feature,
            image=image,
            seed=seed,
            recipe=recipe or self._spec.recipe,
            custom_id=name,
            metadata=self._spec.metadata,
        )

    def _check_names(self, pattern: str) -> None:
        """Refuse a pattern under which two jobs are called the same, or one has too long a name."""
        parts = {
            "feature": [piece(pattern, "feature", str(feature)) for feature in self._features],
            "image": [piece(pattern, "image", image) for image in self._images],
            "seed": [piece(pattern, "seed", str(seed)) for seed in range(self._spec.seeds)],
        }
        alike = [name for name, pieces in parts.items() if len(set(pieces)) < len(pieces)]
        zipped = self._is_zip and len(set(zip(parts["feature"], parts["image"], strict=True))) == len(self._features)
        if zipped and alike != ["seed"]:
            alike = [name for name in alike if name == "seed"]
        if alike and not piece(pattern, "index", "0"):
            raise DuplicateIdError(
                f"the custom_id pattern {pattern!r} gives several jobs the same: they differ by {' and '.join(alike)}; "
                "add {index}"
            )
        longest = {name: max(pieces, key=len, default="") for name, pieces in parts.items()}
        size = len(pattern) + sum(map(len, longest.values()))
        if size > MAX_CUSTOM_ID:
            raise InvalidRequestError(
                f"the custom_id pattern {pattern!r} gives ids of up to {size} characters, at most {MAX_CUSTOM_ID} are "
                "taken: shorten with {image:.8}"
            )


class LineJobs(Sequence[JobSpec]):
    """The jobs of a batch of JSON Lines, in order; blocks are read when a job in them is asked for.

    Parameters
    ----------
    spec
        What holds for all lines.
    read_block
        Returns the lines of a block by its number.
    """

    def __init__(self, spec: LinesBatch, read_block: ReadBlock) -> None:
        self._spec = spec
        self._block = lru_cache(BLOCKS_KEPT)(read_block)

    def __len__(self) -> int:
        return self._spec.total

    @overload
    def __getitem__(self, index: int) -> JobSpec: ...
    @overload
    def __getitem__(self, index: slice) -> list[JobSpec]: ...
    def __getitem__(self, index: int | slice) -> JobSpec | list[JobSpec]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        check_index(index, len(self))
        number, row = divmod(index, self._spec.block_jobs)
        line = BatchLine.model_validate_json(self._block(number)[row])
        return JobSpec.model_construct(
            model=self._spec.model,
            feature=line.feature,
            image=line.image,
            seed=self._spec.seed if line.seed is None else line.seed,
            recipe=line.recipe or self._spec.recipe,
            custom_id=line.custom_id,
            metadata=self._spec.metadata,
        )

    def lines(self) -> Iterator[bytes]:
        """Return every line as it was submitted, block after block."""
        for number in range(-(-self._spec.total // self._spec.block_jobs)):
            yield from self._block(number)


def check_index(index: int, total: int) -> None:
    """Raise `IndexError` unless a batch of so many jobs has this one."""
    if not 0 <= index < total:
        raise IndexError(f"the batch has jobs 0 to {total - 1}; {index} was asked for")


def _work(recipe: Recipe) -> int:
    return recipe.steps * recipe.crops


def _features_of(spec: BatchSpec, card: ModelCard, catalog: Catalog) -> Sequence[Feature]:
    source = spec.features
    if isinstance(source, LayerFeatures):
        layer = card.layer(source.layer)
        return _Channels(layer, source.indices(layer.units, f"{layer.name} of {card.name}"))
    if isinstance(source, DictionaryFeatures):
        listed = catalog.features(source.dictionary, card)
        return _Picked(listed, source.indices(len(listed), f"the dictionary {source.dictionary}"))
    return source or ()


class _Tops:
    """Each feature with its top images, as a scan has found them: fewer where it had a value on fewer."""

    def __init__(
        self, spec: BatchSpec, pairing: TopK, features: Sequence[Feature], card: ModelCard, catalog: Catalog
    ) -> None:
        if not isinstance(spec.images, DatasetImages):
            raise InvalidRequestError(
                f"pairing by the {pairing.top_k} images that excite a feature most needs the images of a dataset"
            )
        known: dict[Scanned, Sequence[Sequence[int]]] = {}
        self._top_k = pairing.top_k
        self._rows: list[tuple[Sequence[Sequence[int]], int]] = []
        for scanned, unit in _units_of(spec, features):
            if scanned not in known:
                known[scanned] = catalog.tops(spec.images.dataset, card, pairing, scanned)
            if unit >= len(known[scanned]):
                raise UnitOutOfRangeError(
                    f"{scanned.layer or scanned.dictionary} has features 0 to {len(known[scanned]) - 1}; "
                    f"{unit} was asked for"
                )
            self._rows.append((known[scanned], unit))
        self._ends = array("q", accumulate(len(images) for images in self._lists()))

    @property
    def total(self) -> int:
        """Number of pairs."""
        return self._ends[-1] if self._ends else 0

    @property
    def images(self) -> set[int]:
        """The numbers of all images that are paired."""
        return set(chain.from_iterable(self._lists()))

    def pair(self, index: int) -> tuple[int, int]:
        """Return the numbers of the feature and the image of a pair."""
        row = bisect_right(self._ends, index)
        tops, unit = self._rows[row]
        return row, tops[unit][index - (self._ends[row - 1] if row else 0)]

    def _lists(self) -> Iterator[Sequence[int]]:
        return (tops[unit][: self._top_k] for tops, unit in self._rows)


def _units_of(spec: BatchSpec, features: Sequence[Feature]) -> Iterator[tuple[Scanned, int]]:
    """Yield the layer or the dictionary that each feature is of, and its index there."""
    source = spec.features
    if isinstance(features, _Picked):
        layer = source.layer if isinstance(source, LayerFeatures) else None
        dictionary = source.dictionary if isinstance(source, DictionaryFeatures) else None
        yield from ((Scanned(layer, dictionary), unit) for unit in features.units)
        return
    for feature in features:
        single = feature.terms[0].feature if isinstance(feature, Sum) and len(feature.terms) == 1 else feature
        if isinstance(single, Channel) and single.at is None:
            yield Scanned(single.layer, None), single.unit
        elif isinstance(single, Entry):
            yield Scanned(None, single.dictionary), single.unit
        else:
            raise InvalidRequestError(
                f"a scan knows no top images of {feature}: expected channels of a layer, or features of a dictionary"
            )


def _images_of(spec: BatchSpec, catalog: Catalog) -> Sequence[str]:
    if isinstance(spec.images, DatasetImages):
        return catalog.images(spec.images.dataset)
    return spec.images or ()


class _Picked(Sequence[Feature]):
    """Some of a sequence's features, by index."""

    def __init__(self, features: Sequence[Feature], indices: range) -> None:
        self._all = features
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | Sequence[Feature]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._feature(self._indices[index])

    @property
    def units(self) -> range:
        """Their indices in the sequence."""
        return self._indices

    def _feature(self, unit: int) -> Feature:
        return self._all[unit]


class _Channels(_Picked):
    def __init__(self, layer: LayerInfo, indices: range) -> None:
        super().__init__((), indices)
        self._layer = layer
        self._last: tuple[int, Feature] | None = None

    def _feature(self, unit: int) -> Feature:
        """Return a channel, the same object as long as the same is asked for: what is made from it is made once."""
        last = self._last
        if last is None or last[0] != unit:
            last = self._last = unit, Channel(layer=self._layer.name, unit=unit)
        return last[1]
