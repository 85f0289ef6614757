"""Every call the service offers, by what it is for."""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter

from accentor.errors import ServiceError
from accentor.spec import (
    BatchSpec,
    BatchStatus,
    DictionaryCard,
    DictionaryFeature,
    DictionarySpec,
    JobSpec,
    JobState,
    JobStatus,
    LayerInfo,
    ModelCard,
    Recipe,
)
from accentor.spec.atlases import AtlasSpec, AtlasStatus
from accentor.spec.datasets import DatasetCard, DatasetRow, DatasetSpec, DatasetStatus, SkippedMember
from accentor.spec.scans import ScanCard, ScanSpec, ScanStatus
from accentor_client._requests import (
    API_ROOT,
    Body,
    Call,
    get,
    given,
    model_reader,
    once,
    post,
    read_bytes,
    read_json,
    read_nothing,
    read_presence,
    retry_after,
    segment,
    states_param,
)

LINES_PATIENCE_S = 600.0
"""Seconds beyond the usual that the service may take to check an upload of lines."""

EXAMINING_S = 300.0
"""Seconds beyond the usual that the service may take to look through a dictionary."""

ETAG_DIGITS = 32
"""The service's own links answer with so many hexadecimal digits of the object's sha256."""

T = TypeVar("T")
S = TypeVar("S", JobStatus, BatchStatus, AtlasStatus)


class Answer(BaseModel):
    """What the service answers; what a newer one says beside it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageRef(Answer):
    """An image that the service has, named by its sha256."""

    id: str


class ModelSummary(Answer):
    """A model that the service knows; ``ready``: a worker has it loaded."""

    name: str
    source: str
    digest: str
    input_size: int
    outputs: int | None
    layers: int
    ready: bool


class Estimate(Answer):
    """What a batch would be; nothing is stored.

    Attributes
    ----------
    total, images
        Jobs, and distinct images.
    cached
        Jobs whose results are there already; an estimate from the ``checked`` ones unless ``exact``.
    device_seconds
        Of a device, for the rest, by the speed measured last; none: never measured.
    accepted, refused, invalid_lines
        Whether it would be accepted, and what is wrong.
    """

    total: int
    checked: int
    cached: int
    images: int
    exact: bool = True
    device_seconds: float | None = None
    accepted: bool = True
    refused: list[dict[str, Any]] = []
    invalid_lines: int = 0


class ModelList(Answer):
    """The models that are served."""

    data: list[ModelSummary]


class AtlasPage(Answer):
    """Atlases, the newest first."""

    data: list[AtlasStatus]
    next_cursor: str | None


class SiteFile(Answer):
    """A file of a published site."""

    name: str
    bytes: int
    sha256: str


class SitePage(Answer):
    """Files of a published site, the first page last."""

    data: list[SiteFile]
    next_cursor: str | None


class BatchPage(Answer):
    """Batches, the newest first."""

    data: list[BatchStatus]
    next_cursor: str | None


class JobPage(Answer):
    """Jobs of a batch in order."""

    data: list[JobStatus]
    next_cursor: str | None


class DatasetPage(Answer):
    """The newest version of each dataset, by name."""

    data: list[DatasetCard]
    next_cursor: str | None


class RowPage(Answer):
    """Images of a dataset in order."""

    data: list[DatasetRow]
    next_cursor: str | None


class StoredFile(Answer):
    """A file that a dictionary can be made from."""

    id: str


class DictionaryPage(Answer):
    """The newest version of each dictionary, by name."""

    data: list[DictionaryCard]
    next_cursor: str | None


class FeaturePage(Answer):
    """Features of a dictionary by index."""

    data: list[DictionaryFeature]
    next_cursor: str | None


@dataclass(frozen=True)
class Look(Generic[S]):
    """What a look has brought: the status, or none if it is what it was at the look whose ``tag`` was shown."""

    status: S | None
    tag: str | None
    retry_after: float


_VERSIONS = TypeAdapter(list[DictionaryCard])
_LAYERS = TypeAdapter(list[LayerInfo])
_SCANS = TypeAdapter(list[ScanStatus])
_SCAN_CARDS = TypeAdapter(list[ScanCard])
_RECIPES = TypeAdapter(dict[str, Recipe])


def has_image(sha256: str) -> Call[bool]:
    """Ask whether the service has an image."""
    return Call("HEAD", f"{API_ROOT}/images/{segment(sha256)}", read_presence)


def put_image(sha256: str, data: bytes) -> Call[ImageRef]:
    """Send an image."""
    headers = {"Content-Type": "application/octet-stream"}
    return Call("PUT", f"{API_ROOT}/images/{segment(sha256)}", model_reader(ImageRef), content=data, headers=headers)


def create_job(spec: JobSpec, wait_s: float | None, *, force: bool = False) -> Call[JobStatus]:
    """Submit a job, and wait for it at the service for up to so many seconds."""
    call = once(post("/jobs", model_reader(JobStatus), spec, force="true" if force else None))
    if wait_s is None:
        return call
    headers = {**call.headers, "Prefer": f"wait={math.ceil(wait_s)}"}
    return replace(call, headers=headers, patience_s=wait_s)


def get_job(job_id: str) -> Call[JobStatus]:
    """Ask how a job stands."""
    return get(f"/jobs/{segment(job_id)}", model_reader(JobStatus))


def look_at_job(job_id: str, tag: str | None) -> Call[Look[JobStatus]]:
    """Ask how a job stands if it has changed."""
    return _look(f"/jobs/{segment(job_id)}", tag, JobStatus)


def cancel_job(job_id: str) -> Call[JobStatus]:
    """Cancel a job."""
    return post(f"/jobs/{segment(job_id)}/cancel", model_reader(JobStatus), repeatable=True)


def job_events(job_id: str, last_event_id: str | None) -> Call[bytes]:
    """Follow a job."""
    return _events(f"/jobs/{segment(job_id)}/events", last_event_id)


def create_batch(spec: BatchSpec) -> Call[BatchStatus]:
    """Submit a batch."""
    return once(post("/batches", model_reader(BatchStatus), spec))


def estimate_batch(spec: BatchSpec) -> Call[Estimate]:
    """Ask what a batch would be."""
    return post("/batches", model_reader(Estimate), spec, repeatable=True, dry_run="true")


def create_lines(body: Body, params: Mapping[str, Any], *, repeatable: bool) -> Call[BatchStatus]:
    """Submit a batch of JSON Lines packed with gzip."""
    return replace(once(_lines(body, params, model_reader(BatchStatus))), repeatable=repeatable)


def estimate_lines(body: Body, params: Mapping[str, Any], *, repeatable: bool) -> Call[Estimate]:
    """Ask what a batch of JSON Lines would be."""
    return _lines(body, {**params, "dry_run": "true"}, model_reader(Estimate), repeatable=repeatable)


def get_batch(batch_id: str) -> Call[BatchStatus]:
    """Ask how a batch stands."""
    return get(f"/batches/{segment(batch_id)}", model_reader(BatchStatus))


def look_at_batch(batch_id: str, tag: str | None) -> Call[Look[BatchStatus]]:
    """Ask how a batch stands if it has changed."""
    return _look(f"/batches/{segment(batch_id)}", tag, BatchStatus)


def list_batches(cursor: str | None, limit: int) -> Call[BatchPage]:
    """List batches, the newest first."""
    return get("/batches", model_reader(BatchPage), cursor=cursor, limit=limit)


def cancel_batch(batch_id: str) -> Call[BatchStatus]:
    """Cancel a batch."""
    return post(f"/batches/{segment(batch_id)}/cancel", model_reader(BatchStatus), repeatable=True)


def retry_batch(batch_id: str) -> Call[BatchStatus]:
    """Queue the failed jobs of a batch again."""
    return post(f"/batches/{segment(batch_id)}/retry", model_reader(BatchStatus))


def delete_batch(batch_id: str, *, results: bool) -> Call[None]:
    """Delete a batch."""
    params = {"results": "true"} if results else {}
    return Call("DELETE", f"{API_ROOT}/batches/{segment(batch_id)}", read_nothing, params)


def ended_jobs(batch_id: str, states: Collection[JobState], place: int) -> Call[bytes]:
    """Read the jobs of a batch in the order of their ends, from a place of it on, as JSON Lines."""
    params = {"order": "completion", "status": states_param(states), "cursor": place}
    return get(f"/batches/{segment(batch_id)}/results", read_bytes, **params)


def list_jobs(batch_id: str, states: Collection[JobState], cursor: str | None, limit: int) -> Call[JobPage]:
    """List jobs of a batch, in these states or in any."""
    path = f"/batches/{segment(batch_id)}/jobs"
    return get(path, model_reader(JobPage), status=states_param(states), cursor=cursor, limit=limit)


def batch_events(batch_id: str, last_event_id: str | None) -> Call[bytes]:
    """Follow a batch."""
    return _events(f"/batches/{segment(batch_id)}/events", last_event_id)


def create_dataset(spec: DatasetSpec) -> Call[DatasetStatus]:
    """Begin to make a dataset."""
    return once(post("/datasets", model_reader(DatasetStatus), spec))


def get_dataset(name: str) -> Call[DatasetStatus]:
    """Ask how a dataset stands."""
    return get(f"/datasets/{segment(name)}", model_reader(DatasetStatus))


def list_datasets(cursor: str | None, limit: int) -> Call[DatasetPage]:
    """List datasets by name."""
    return get("/datasets", model_reader(DatasetPage), cursor=cursor, limit=limit)


def list_dataset_images(name: str, cursor: str | None, limit: int) -> Call[RowPage]:
    """List the images of a dataset."""
    return get(f"/datasets/{segment(name)}/images", model_reader(RowPage), cursor=cursor, limit=limit)


def list_skipped(name: str) -> Call[list[SkippedMember]]:
    """List the members of a dataset that could not be read."""
    return get(
        f"/datasets/{segment(name)}/skipped",
        lambda response: [SkippedMember.model_validate_json(line) for line in read_bytes(response).splitlines()],
    )


def delete_dataset(name: str) -> Call[None]:
    """Delete a dataset, or one version of it."""
    return Call("DELETE", f"{API_ROOT}/datasets/{segment(name)}", read_nothing)


def create_scan(name: str, spec: ScanSpec) -> Call[ScanStatus]:
    """Scan a dataset."""
    return once(post(f"/datasets/{segment(name)}/scans", model_reader(ScanStatus), spec))


def get_scan(name: str, scan: str) -> Call[ScanStatus]:
    """Ask how a scan stands."""
    return get(f"/datasets/{segment(name)}/scans/{segment(scan)}", model_reader(ScanStatus))


def list_scans(name: str) -> Call[list[ScanStatus]]:
    """List the scans of a dataset."""
    return get(f"/datasets/{segment(name)}/scans", lambda response: _SCANS.validate_python(read_json(response)))


def create_atlas(spec: AtlasSpec) -> Call[AtlasStatus]:
    """Ask for an atlas."""
    return once(post("/atlases", model_reader(AtlasStatus), spec))


def get_atlas(atlas_id: str) -> Call[AtlasStatus]:
    """Ask how an atlas stands."""
    return get(f"/atlases/{segment(atlas_id)}", model_reader(AtlasStatus))


def look_at_atlas(atlas_id: str, tag: str | None) -> Call[Look[AtlasStatus]]:
    """Ask how an atlas stands if it has changed."""
    return _look(f"/atlases/{segment(atlas_id)}", tag, AtlasStatus)


def list_atlases(cursor: str | None, limit: int) -> Call[AtlasPage]:
    """List atlases, the newest first."""
    return get("/atlases", model_reader(AtlasPage), cursor=cursor, limit=limit)


def cancel_atlas(atlas_id: str) -> Call[AtlasStatus]:
    """Cancel an atlas."""
    return post(f"/atlases/{segment(atlas_id)}/cancel", model_reader(AtlasStatus), repeatable=True)


def delete_atlas(atlas_id: str) -> Call[None]:
    """Delete an atlas."""
    return Call("DELETE", f"{API_ROOT}/atlases/{segment(atlas_id)}", read_nothing)


def list_site_files(atlas_id: str, cursor: str, limit: int) -> Call[SitePage]:
    """List the files of an atlas' site."""
    return get(f"/atlases/{segment(atlas_id)}/files", model_reader(SitePage), cursor=cursor, limit=limit)


def has_file(sha256: str) -> Call[bool]:
    """Ask whether the service has a file that a dictionary is to be made from."""
    return Call("HEAD", f"{API_ROOT}/dictionaries/files/{segment(sha256)}", read_presence)


def put_file(sha256: str, data: bytes) -> Call[StoredFile]:
    """Send a file that a dictionary is to be made from."""
    headers = {"Content-Type": "application/octet-stream"}
    target = f"{API_ROOT}/dictionaries/files/{segment(sha256)}"
    return Call("PUT", target, model_reader(StoredFile), content=data, headers=headers)


def create_dictionary(spec: DictionarySpec) -> Call[DictionaryCard]:
    """Make a dictionary."""
    return replace(once(post("/dictionaries", model_reader(DictionaryCard), spec)), patience_s=EXAMINING_S)


def get_dictionary(name: str) -> Call[DictionaryCard]:
    """Ask for a dictionary's card."""
    return get(f"/dictionaries/{segment(name)}", model_reader(DictionaryCard))


def list_dictionary_versions(name: str) -> Call[list[DictionaryCard]]:
    """List the versions of a dictionary."""
    path = f"/dictionaries/{segment(name)}/versions"
    return get(path, lambda response: _VERSIONS.validate_python(read_json(response)))


def list_dictionaries(model: str | None, cursor: str | None, limit: int) -> Call[DictionaryPage]:
    """List dictionaries by name."""
    return get("/dictionaries", model_reader(DictionaryPage), model=model, cursor=cursor, limit=limit)


def list_dictionary_scans(name: str) -> Call[list[ScanCard]]:
    """List the scans of a dictionary."""
    path = f"/dictionaries/{segment(name)}/scans"
    return get(path, lambda response: _SCAN_CARDS.validate_python(read_json(response)))


def list_dictionary_features(
    name: str, search: str | None, state: str | None, scan: str | None, cursor: str | None, limit: int
) -> Call[FeaturePage]:
    """List the features of a dictionary."""
    path = f"/dictionaries/{segment(name)}/features"
    return get(path, model_reader(FeaturePage), search=search, state=state, scan=scan, cursor=cursor, limit=limit)


def delete_dictionary(name: str) -> Call[None]:
    """Delete a dictionary, or one version of it."""
    return Call("DELETE", f"{API_ROOT}/dictionaries/{segment(name)}", read_nothing)


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
    """Get what a link leads to; what the service itself serves is held against the digest it names."""
    return Call("GET", url, read_bytes if url.startswith(("http://", "https://")) else _read_checked)


def _read_checked(response: httpx.Response) -> bytes:
    data, tag = read_bytes(response), response.headers.get("ETag", "").strip('"')
    if len(tag) == ETAG_DIGITS and hashlib.sha256(data).hexdigest()[:ETAG_DIGITS] != tag:
        raise ServiceError(f"{response.request.url.path} came damaged: its sha256 does not begin with {tag}")
    return data


def _look(path: str, tag: str | None, kind: type[S]) -> Call[Look[S]]:
    def read(response: httpx.Response) -> Look[S]:
        same = response.status_code == httpx.codes.NOT_MODIFIED
        status = None if same else model_reader(kind)(response)
        return Look(status, response.headers.get("ETag", tag), retry_after(response))

    return Call("GET", API_ROOT + path, read, headers={"If-None-Match": tag} if tag else {})


def _lines(
    body: Body, params: Mapping[str, Any], read: Callable[[httpx.Response], T], *, repeatable: bool = False
) -> Call[T]:
    headers = {"Content-Type": "application/jsonl", "Content-Encoding": "gzip"}
    path = f"{API_ROOT}/batches"
    return Call("POST", path, read, given(params), body, headers, repeatable, LINES_PATIENCE_S)


def _events(path: str, last_event_id: str | None) -> Call[bytes]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    return Call("GET", API_ROOT + path, read_bytes, headers=headers)
