"""Every call the service offers, by what it is for."""

import math
from collections.abc import Collection
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, TypeAdapter

from accentor.spec import BatchSpec, BatchStatus, JobSpec, JobState, JobStatus, LayerInfo, ModelCard, Recipe
from accentor_client._requests import (
    API_ROOT,
    Call,
    get,
    model_reader,
    post,
    read_bytes,
    read_json,
    read_presence,
    segment,
    states_param,
)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageRef(_Answer):
    """An image that the service has, named by its sha256."""

    id: str


class ModelSummary(_Answer):
    """A model that the service knows; ``ready``: a worker has it loaded."""

    name: str
    source: str
    digest: str
    input_size: int
    outputs: int | None
    layers: int
    ready: bool


class Estimate(_Answer):
    """What a batch would be: ``cached`` of the ``checked`` first jobs' results are there already."""

    total: int
    checked: int
    cached: int
    images: int


class ModelList(_Answer):
    """The models that are served."""

    data: list[ModelSummary]


class BatchPage(_Answer):
    """Batches, the newest first."""

    data: list[BatchStatus]
    next_cursor: str | None


class JobPage(_Answer):
    """Jobs of a batch in order."""

    data: list[JobStatus]
    next_cursor: str | None


_LAYERS = TypeAdapter(list[LayerInfo])
_RECIPES = TypeAdapter(dict[str, Recipe])


def has_image(sha256: str) -> Call[bool]:
    """Ask whether the service has an image."""
    return Call("HEAD", f"{API_ROOT}/images/{segment(sha256)}", read_presence)


def put_image(sha256: str, data: bytes) -> Call[ImageRef]:
    """Send an image."""
    headers = {"Content-Type": "application/octet-stream"}
    return Call("PUT", f"{API_ROOT}/images/{segment(sha256)}", model_reader(ImageRef), content=data, headers=headers)


def create_job(spec: JobSpec, wait_s: float | None) -> Call[JobStatus]:
    """Submit a job, and wait for it at the service for up to so many seconds."""
    call = post("/jobs", model_reader(JobStatus), spec)
    if wait_s is None:
        return call
    headers = {**call.headers, "Prefer": f"wait={math.ceil(wait_s)}"}
    return replace(call, headers=headers, patience_s=wait_s)


def get_job(job_id: str) -> Call[JobStatus]:
    """Ask how a job stands."""
    return get(f"/jobs/{segment(job_id)}", model_reader(JobStatus))


def cancel_job(job_id: str) -> Call[JobStatus]:
    """Cancel a job."""
    return post(f"/jobs/{segment(job_id)}/cancel", model_reader(JobStatus))


def job_events(job_id: str, last_event_id: str | None) -> Call[bytes]:
    """Follow a job."""
    return _events(f"/jobs/{segment(job_id)}/events", last_event_id)


def create_batch(spec: BatchSpec) -> Call[BatchStatus]:
    """Submit a batch."""
    return post("/batches", model_reader(BatchStatus), spec)


def estimate_batch(spec: BatchSpec) -> Call[Estimate]:
    """Ask what a batch would be."""
    return post("/batches", model_reader(Estimate), spec, repeatable=True, dry_run="true")


def get_batch(batch_id: str) -> Call[BatchStatus]:
    """Ask how a batch stands."""
    return get(f"/batches/{segment(batch_id)}", model_reader(BatchStatus))


def list_batches(cursor: str | None, limit: int) -> Call[BatchPage]:
    """List batches, the newest first."""
    return get("/batches", model_reader(BatchPage), cursor=cursor, limit=limit)


def cancel_batch(batch_id: str) -> Call[BatchStatus]:
    """Cancel a batch."""
    return post(f"/batches/{segment(batch_id)}/cancel", model_reader(BatchStatus))


def list_jobs(batch_id: str, states: Collection[JobState], cursor: str | None, limit: int) -> Call[JobPage]:
    """List jobs of a batch, in these states or in any."""
    path = f"/batches/{segment(batch_id)}/jobs"
    return get(path, model_reader(JobPage), status=states_param(states), cursor=cursor, limit=limit)


def batch_events(batch_id: str, last_event_id: str | None) -> Call[bytes]:
    """Follow a batch."""
    return _events(f"/batches/{segment(batch_id)}/events", last_event_id)


def list_models() -> Call[ModelList]:
    """List the models."""
    return get("/models", model_reader(ModelList))


def get_model(name: str) -> Call[ModelCard]:
    """Ask for a model's card."""
    return get(f"/models/{segment(name)}", model_reader(ModelCard))


def list_layers(name: str) -> Call[list[LayerInfo]]:
    """List a model's layers."""
    return get(f"/models/{segment(name)}/layers", lambda response: _LAYERS.validate_python(read_json(response)))


def list_recipes() -> Call[dict[str, Recipe]]:
    """List the presets."""
    return get("/recipes", lambda response: _RECIPES.validate_python(read_json(response)))


def fetch(url: str) -> Call[bytes]:
    """Get what a link leads to."""
    return Call("GET", url, read_bytes)


def _events(path: str, last_event_id: str | None) -> Call[bytes]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    return Call("GET", API_ROOT + path, read_bytes, headers=headers)
