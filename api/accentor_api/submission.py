"""Submitting: everything is checked before anything is queued."""

import secrets
from datetime import UTC, datetime

from accentor.errors import RequestError
from accentor.spec import BatchJob, BatchSpec, BatchStatus, JobSpec, JobState, LinesBatch, ModelCard
from accentor.state import NewBatch
from accentor.storage.batches import AnyBatch
from accentor.storage.keys import result_key
from accentor_api.blocks import BlockWriter
from accentor_api.callers import caller_id, reserved_id
from accentor_api.checks import check
from accentor_api.services import Services

ID_BYTES = 10
LISTED_JOBS = 256
"""Jobs that are stored in the specification itself; a longer list goes into blocks."""

ONLY_JOB = "/jobs/0"
"""Where the one job of `POST /v1/jobs` stands in the batch that it becomes."""


def new_id() -> str:
    """Return the name of a new batch: the one that its Idempotency-Key stands for, if it came with one."""
    return reserved_id.get() or secrets.token_hex(ID_BYTES)


def batch_of_one(spec: JobSpec, *, force: bool = False) -> BatchSpec:
    """Return the batch that a single job is."""
    job = BatchJob(feature=spec.feature, image=spec.image, seed=spec.seed, custom_id=spec.custom_id)
    return BatchSpec(
        model=spec.model, jobs=(job,), recipe=spec.recipe, lane="interactive", metadata=spec.metadata, force=force
    )


def submit(services: Services, spec: BatchSpec, *, announced: bool = True) -> BatchStatus:
    """Check a batch, store it, create it and hand out its first shards; ``announced``: webhooks are told of it."""
    card = services.jobs.model(spec.model)
    spec, jobs = check(services, spec, card)
    batch_id = new_id()
    services.archive.keep(batch_id, _as_stored(services, batch_id, spec), card)
    create(services, batch_id, spec, card, len(jobs), announced=announced)
    services.jobs.end_upload(batch_id)
    if len(jobs) == 1 and not spec.force and services.objects.exists(result_key(jobs[0].key(card))):
        services.jobs.finish_job(batch_id, 0, JobState.SUCCEEDED, cached=True)
    else:
        services.dispatch()
    return services.jobs.status(batch_id)


def _as_stored(services: Services, batch_id: str, spec: BatchSpec) -> AnyBatch:
    """Return the batch as it is stored: a long list of jobs in blocks, so that a worker reads only what it runs."""
    if spec.jobs is None or len(spec.jobs) <= LISTED_JOBS:
        return spec
    shared = {"model", "recipe", "lane", "metadata", "force", "deadline_s"}
    writer = BlockWriter(services, batch_id)
    for job in spec.jobs:
        writer.add(job.model_dump_json(exclude_none=True).encode())
    writer.close()
    return LinesBatch.model_validate({**{name: getattr(spec, name) for name in shared}, "total": len(spec.jobs)})


def create(
    services: Services,
    batch_id: str,
    batch: AnyBatch,
    card: ModelCard,
    total: int,
    *,
    skipped: int = 0,
    announced: bool = True,
    shard_jobs: int | None = None,
) -> None:
    """Create a batch whose specification is stored: from now on it is seen and run."""
    services.admit(batch_id, total)
    services.jobs.create_batch(
        NewBatch(
            id=batch_id,
            model=card.name,
            digest=card.digest,
            lane=batch.lane,
            total=total,
            created_at=datetime.now(UTC),
            metadata=dict(batch.metadata),
            deadline_s=batch.deadline_s,
            lifetime_s=services.settings.batch_lifetime_s,
            skipped=skipped,
            shard_jobs=shard_jobs,
            owner=caller_id() if announced else None,
        )
    )


def submit_one(services: Services, spec: JobSpec, *, force: bool = False) -> BatchStatus:
    """Submit a single job, as the batch of one that it is; faults are told where they stand in the job."""
    try:
        return submit(services, batch_of_one(spec, force=force), announced=False)
    except RequestError as error:
        for member in error.extra.get("errors", ()):
            member["pointer"] = member["pointer"].removeprefix(ONLY_JOB)
        raise
