"""Submitting: everything is checked before anything is queued."""

import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice

from pydantic import BaseModel, Field

from accentor.errors import InvalidFeatureError, InvalidRequestError, RequestError, TooLargeError
from accentor.spec import (
    BatchJob,
    BatchSpec,
    BatchStatus,
    Direction,
    Feature,
    Jobs,
    JobSpec,
    JobState,
    LayerFeatures,
    ModelCard,
    Recipe,
)
from accentor.state import NewBatch
from accentor.storage.keys import image_key, result_key
from accentor_api.faults import MAX_LISTED, Fault, error_of
from accentor_api.services import Services

ID_BYTES = 10
DRY_RUN_LIMIT = 10_000
"""Jobs whose results a dry run looks for."""

ONLY_JOB = "/jobs/0"
"""Where the one job of `POST /v1/jobs` stands in the batch that it becomes."""


class DryRun(BaseModel):
    """What a batch would be."""

    total: int = Field(description="jobs")
    checked: int = Field(description=f"jobs whose results were looked for: the first {DRY_RUN_LIMIT} at most")
    cached: int = Field(description="distinct results, of those looked for, that are there already")
    images: int = Field(description="distinct images")


def batch_of_one(spec: JobSpec) -> BatchSpec:
    """Return the batch that a single job is."""
    job = BatchJob(feature=spec.feature, image=spec.image, seed=spec.seed, custom_id=spec.custom_id)
    return BatchSpec(model=spec.model, jobs=(job,), recipe=spec.recipe, lane="interactive", metadata=spec.metadata)


def submit(services: Services, spec: BatchSpec) -> BatchStatus:
    """Check a batch, store it, create it and hand out its first shards."""
    card = services.jobs.model(spec.model)
    jobs = check(services, spec, card)
    batch_id = secrets.token_hex(ID_BYTES)
    services.archive.keep(batch_id, spec, card)
    services.jobs.create_batch(
        NewBatch(
            id=batch_id,
            model=card.name,
            digest=card.digest,
            lane=spec.lane,
            total=len(jobs),
            created_at=datetime.now(UTC),
            metadata=dict(spec.metadata),
        )
    )
    if len(jobs) == 1 and services.objects.exists(result_key(jobs[0].key(card))):
        services.jobs.finish_job(batch_id, 0, JobState.SUCCEEDED, cached=True)
    else:
        services.dispatch()
    return services.jobs.status(batch_id)


def submit_one(services: Services, spec: JobSpec) -> BatchStatus:
    """Submit a single job, as the batch of one that it is; faults are told where they stand in the job."""
    try:
        return submit(services, batch_of_one(spec))
    except RequestError as error:
        for member in error.extra.get("errors", ()):
            member["pointer"] = member["pointer"].removeprefix(ONLY_JOB)
        raise


def dry_run(services: Services, spec: BatchSpec) -> DryRun:
    """Check a batch and tell what it would be; nothing is stored."""
    card = services.jobs.model(spec.model)
    jobs = check(services, spec, card)
    checked = min(len(jobs), DRY_RUN_LIMIT)
    keys = {job.key(card) for job in islice(jobs, checked)}
    there = services.read_each(lambda key: services.objects.exists(result_key(key)), keys)
    return DryRun(total=len(jobs), checked=checked, cached=sum(there), images=len(jobs.images))


def check(services: Services, spec: BatchSpec, card: ModelCard) -> Jobs:
    """Return the jobs of a batch in which every feature, layer and image is there; else name the faults."""
    try:
        jobs = spec.expand(card)
    except RequestError as error:
        raise error_of([Fault.of(_expansion_pointer(spec), error)]) from error
    if len(jobs) > services.settings.max_batch_jobs:
        raise TooLargeError(f"the batch has {len(jobs)} jobs, at most {services.settings.max_batch_jobs} are taken")
    faults = list(islice(chain(_feature_faults(spec, card), _recipe_faults(spec, card)), MAX_LISTED + 1))
    if faults:
        raise error_of(faults)
    _check_images(services, jobs.images)
    return jobs


def _expansion_pointer(spec: BatchSpec) -> str:
    return "/features/layer" if isinstance(spec.features, LayerFeatures) else "/features"


def _feature_faults(spec: BatchSpec, card: ModelCard) -> Iterator[Fault]:
    for pointer, feature in _listed_features(spec):
        try:
            _check_by_value(feature)
            card.resolve(feature)
        except RequestError as error:
            yield Fault.of(pointer, error)


def _listed_features(spec: BatchSpec) -> Iterator[tuple[str, Feature]]:
    if spec.jobs is not None:
        yield from ((f"/jobs/{index}/feature", job.feature) for index, job in enumerate(spec.jobs))
    elif isinstance(spec.features, tuple):
        yield from ((f"/features/{index}", feature) for index, feature in enumerate(spec.features))


def _check_by_value(feature: Feature) -> None:
    for term in feature.terms_of():
        if isinstance(term.feature, Direction) and term.feature.source is not None:
            raise InvalidFeatureError(f"{feature} names a file: a service takes a direction by its vector only")


def _recipe_faults(spec: BatchSpec, card: ModelCard) -> Iterator[Fault]:
    for pointer, recipe in _listed_recipes(spec):
        try:
            card.check_recipe(recipe)
        except RequestError as error:
            yield Fault.of(f"{pointer}/regularization_layer", error)


def _listed_recipes(spec: BatchSpec) -> Iterator[tuple[str, Recipe]]:
    yield "/recipe", spec.recipe
    for index, job in enumerate(spec.jobs or ()):
        if job.recipe is not None:
            yield f"/jobs/{index}/recipe", job.recipe


def _check_images(services: Services, images: Iterable[str]) -> None:
    names = sorted(images)
    there = services.read_each(lambda name: services.objects.exists(image_key(name)), names)
    missing = [name for name, is_there in zip(names, there, strict=True) if not is_there]
    if missing:
        raise InvalidRequestError(
            f"{len(missing)} of {len(names)} images are not here, the first is {missing[0]}: upload them first",
            missing=missing[:MAX_LISTED],
        )
