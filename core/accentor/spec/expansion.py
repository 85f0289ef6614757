"""From a batch to its jobs: job i is decoded from i, nothing is listed."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import overload

from accentor.errors import InvalidRequestError
from accentor.spec.batches import (
    BatchLine,
    BatchSpec,
    DatasetImages,
    DictionaryFeatures,
    LayerFeatures,
    LinesBatch,
)
from accentor.spec.catalog import EMPTY_CATALOG, Catalog
from accentor.spec.features import Channel, Feature
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
        If a zip's features and images are not equally many, if a scan is needed that there is not, or if the
        pattern for ``custom_id`` gives two jobs the same.
    UnknownLayerError, UnitOutOfRangeError, UnknownDictionaryError, UnknownDatasetError
        If ``features`` or ``images`` names what is not there.
    """

    def __init__(self, spec: BatchSpec, card: ModelCard, catalog: Catalog = EMPTY_CATALOG) -> None:
        self._spec = spec
        self._explicit = spec.jobs or ()
        self._features = _features_of(spec, card, catalog)
        self._images = _images_of(spec, catalog)
        self._is_zip = spec.pairing == "zip"
        if not isinstance(spec.pairing, str):
            raise InvalidRequestError(
                f"pairing by the {spec.pairing.top_k} images that excite a feature most needs a scan of the dataset, "
                "and this service has none: pair by product or zip"
            )
        if self._is_zip and len(self._features) != len(self._images):
            raise InvalidRequestError(
                f"a zip needs as many features as images: {len(self._features)} features, {len(self._images)} images"
            )
        if spec.custom_id is not None:
            self._check_names(spec.custom_id)

    def __len__(self) -> int:
        if self._explicit:
            return len(self._explicit)
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
        return frozenset(self._images) | {job.image for job in self._explicit}

    @property
    def steps_and_crops(self) -> int:
        """The work of all jobs: the sum of steps × crops."""
        if self._explicit:
            return sum(_work(job.recipe or self._spec.recipe) for job in self._explicit)
        return len(self) * _work(self._spec.recipe)

    def _decode(self, index: int) -> JobSpec:
        pair, seed = divmod(index, self._spec.seeds)
        row, column = (pair, pair) if self._is_zip else divmod(pair, len(self._images))
        feature, image = self._features[row], self._images[column]
        name = None
        if self._spec.custom_id is not None:
            values = {"feature": str(feature), "image": image, "seed": str(seed), "index": str(index)}
            name = fill(self._spec.custom_id, values)
        return self._spec_of(feature, image, seed, name)

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
            raise InvalidRequestError(
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
