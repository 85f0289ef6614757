"""Dry runs: what a batch would be, before anything is stored."""

import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel, Field

from accentor.errors import RequestError
from accentor.spec import BatchSpec, JobSpec, KeyMaker, ModelCard
from accentor.storage.keys import result_key
from accentor_api.checks import check, expand
from accentor_api.faults import MAX_LISTED
from accentor_api.services import Services

EXACT_JOBS = 10_000
"""Up to so many jobs a dry run looks for every result; of a larger batch, for those of so many drawn at random."""


class DryRun(BaseModel):
    """What a batch would be; nothing is stored."""

    total: int = Field(description="jobs")
    checked: int = Field(description="jobs whose results were looked for")
    cached: int = Field(description="jobs whose results are there already: an estimate if not all were looked for")
    exact: bool = Field(description="whether every job's result was looked for")
    images: int = Field(description="distinct images")
    device_seconds: float | None = Field(
        None, description="seconds of a device for what is not there, by the speed measured last; none: never measured"
    )
    accepted: bool = Field(description="whether the batch would be accepted as it is")
    refused: list[dict[str, Any]] = Field([], description="what would be refused, as in a problem's `errors`")
    invalid_lines: int = Field(0, description="wrong lines of an upload of JSON Lines")


def dry_run(services: Services, spec: BatchSpec) -> DryRun:
    """Tell what a batch would be, and what would be refused of it."""
    card = services.jobs.model(spec.model)
    try:
        jobs = expand(services, spec, card)
    except RequestError as error:
        return DryRun(total=0, checked=0, cached=0, exact=True, images=0, accepted=False, refused=_members(error))
    refused: list[dict[str, Any]] = []
    try:
        jobs = check(services, spec, card).jobs
    except RequestError as error:
        refused = _members(error)
    size = min(len(jobs), EXACT_JOBS)
    chosen = range(len(jobs)) if size == len(jobs) else _spread(len(jobs), size)
    return estimate(
        services,
        spec.model,
        total=len(jobs),
        checked=size,
        found=0 if refused else count_cached(services, card, (jobs[index] for index in chosen)),
        work=jobs.steps_and_crops,
        images=len(jobs.images),
        refused=refused,
        is_accepted=not refused,
    )


def estimate(
    services: Services,
    model: str,
    *,
    total: int,
    checked: int,
    found: int,
    work: int,
    images: int,
    refused: Sequence[dict[str, Any]],
    is_accepted: bool,
    invalid_lines: int = 0,
) -> DryRun:
    """Return what is known of a batch of so many jobs, of which ``found`` of the ``checked`` have results."""
    share = found / checked if checked else 0.0
    speed = services.jobs.shards.seconds_per_work(model)
    return DryRun(
        total=total,
        checked=checked,
        cached=round(share * total),
        exact=checked == total,
        images=images,
        device_seconds=None if speed is None else round(speed * work * (1 - share), 3),
        accepted=is_accepted,
        refused=list(refused),
        invalid_lines=invalid_lines,
    )


def count_cached(services: Services, card: ModelCard, jobs: Iterable[JobSpec]) -> int:
    """Return how many of the jobs have their results already; the same job twice counts twice."""
    keys, iterator, count = KeyMaker(card), iter(jobs), 0
    while names := [keys.key(job) for job in islice(iterator, 1_000)]:
        count += sum(services.read_each(lambda key: services.objects.exists(result_key(key)), names))
    return count


def _spread(total: int, size: int) -> Iterable[int]:
    """Draw one job from each of ``size`` equal parts of the batch; the same batch, the same draw."""
    draw = random.Random(total)  # noqa: S311
    for part in range(size):
        first, last = part * total // size, (part + 1) * total // size
        yield draw.randrange(first, last)


def _members(error: RequestError) -> list[dict[str, Any]]:
    plain = {"pointer": "", "in": "body", "detail": error.detail, "code": error.code}
    return list(error.extra.get("errors", [plain]))[:MAX_LISTED]
