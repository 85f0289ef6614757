"""Checking what a batch asks for against the model's card and the object store."""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from accentor.errors import InvalidRequestError, RequestError, TooLargeError, UnknownDatasetError
from accentor.spec import (
    BatchSpec,
    DatasetImages,
    DictionaryFeatures,
    Feature,
    Jobs,
    LayerFeatures,
    ModelCard,
    Recipe,
    TopK,
)
from accentor.storage.pinning import Pins
from accentor_api.faults import MAX_LISTED, Fault, error_of
from accentor_api.services import READERS, Services


class Checked(NamedTuple):
    """A batch that may be stored: its dictionaries and its dataset have their versions named."""

    spec: BatchSpec
    jobs: Jobs


def check(services: Services, spec: BatchSpec, card: ModelCard) -> Checked:
    """Return a batch in which every feature, layer and image is there, with its jobs; else name the faults."""
    jobs = expand(services, spec, card)
    pins = Pins(services.dictionaries, services.datasets, card)
    faults = list(islice(chain(_feature_faults(spec, card, pins), _recipe_faults(spec, card, pins)), MAX_LISTED + 1))
    if faults:
        raise error_of(faults)
    try:
        pinned = pins.batch(spec)
    except UnknownDatasetError as error:
        raise error_of([Fault.of("/images/dataset", error)]) from error
    if pinned != spec:
        spec, jobs = pinned, expand(services, pinned, card)
    missing = [] if isinstance(spec.images, DatasetImages) else missing_images(services, jobs.images)
    if missing:
        raise InvalidRequestError(
            f"{len(missing)} of {len(jobs.images)} images are not here, the first is {missing[0]}: upload them first",
            missing=missing[:MAX_LISTED],
            errors=[fault.as_member() for fault in islice(_image_faults(spec, frozenset(missing)), MAX_LISTED)],
        )
    return Checked(spec, jobs)


def expand(services: Services, spec: BatchSpec, card: ModelCard) -> Jobs:
    """Return the jobs of a batch, of which there may be a limited number."""
    try:
        jobs = spec.expand(card, services.archive.catalog)
    except RequestError as error:
        raise error_of([Fault.of(_expansion_pointer(spec, error), error)]) from error
    if len(jobs) > services.settings.max_batch_jobs:
        raise TooLargeError(
            f"the batch has {len(jobs)} jobs, at most {services.settings.max_batch_jobs} are taken",
            jobs=len(jobs),
            limit=services.settings.max_batch_jobs,
        )
    return jobs


def settled(card: ModelCard, pins: Pins, feature: Feature) -> Feature:
    """Return the feature with its dictionaries pinned; `RequestError` unless the model has it and it names no file."""
    pinned = pins.feature(feature)
    card.resolve(pinned)
    return pinned


def settled_recipe(card: ModelCard, pins: Pins, recipe: Recipe) -> Recipe:
    """Return the recipe with its dictionaries pinned; `RequestError` unless all that it names is the model's."""
    pinned = pins.recipe(recipe)
    card.check_recipe(pinned)
    return pinned


def missing_images(services: Services, images: Iterable[str]) -> list[str]:
    """Return those of the images that are not here, in order."""

    def look(names: Sequence[str]) -> list[str]:
        return [name for name in names if services.images.size(name) is None]

    names = sorted(images)
    return sorted(chain.from_iterable(services.read_each(look, [names[part::READERS] for part in range(READERS)])))


def _expansion_pointer(spec: BatchSpec, error: RequestError) -> str:
    if "custom_id" in error.detail:
        return "/custom_id"
    if isinstance(spec.pairing, TopK):
        return "/pairing"
    if error.code == "unknown-dataset" and isinstance(spec.images, DatasetImages):
        return "/images/dataset"
    if not isinstance(spec.features, LayerFeatures | DictionaryFeatures):
        return "/features"
    if error.code in {"unit-out-of-range", "invalid-request"}:
        return "/features/range"
    return "/features/layer" if isinstance(spec.features, LayerFeatures) else "/features/dictionary"


def _feature_faults(spec: BatchSpec, card: ModelCard, pins: Pins) -> Iterator[Fault]:
    for pointer, feature in _listed_features(spec):
        try:
            settled(card, pins, feature)
        except RequestError as error:
            yield Fault.of(pointer, error)


def _listed_features(spec: BatchSpec) -> Iterator[tuple[str, Feature]]:
    if spec.jobs is not None:
        yield from ((f"/jobs/{index}/feature", job.feature) for index, job in enumerate(spec.jobs))
    elif isinstance(spec.features, tuple):
        yield from ((f"/features/{index}", feature) for index, feature in enumerate(spec.features))


def _image_faults(spec: BatchSpec, missing: Container[str]) -> Iterator[Fault]:
    for pointer, image in _listed_images(spec):
        if image in missing:
            yield Fault(pointer, f"the image {image} is not here: upload it first", InvalidRequestError.code)


def _listed_images(spec: BatchSpec) -> Iterator[tuple[str, str]]:
    if spec.jobs is not None:
        yield from ((f"/jobs/{index}/image", job.image) for index, job in enumerate(spec.jobs))
    elif isinstance(spec.images, tuple):
        yield from ((f"/images/{index}", image) for index, image in enumerate(spec.images))


def _recipe_faults(spec: BatchSpec, card: ModelCard, pins: Pins) -> Iterator[Fault]:
    for pointer, recipe in _listed_recipes(spec):
        try:
            settled_recipe(card, pins, recipe)
        except RequestError as error:
            yield Fault.of(f"{pointer}/regularization_layer", error)


def _listed_recipes(spec: BatchSpec) -> Iterator[tuple[str, Recipe]]:
    yield "/recipe", spec.recipe
    for index, job in enumerate(spec.jobs or ()):
        if job.recipe is not None:
            yield f"/jobs/{index}/recipe", job.recipe
