"""What is told about jobs and batches, and what a finished job leaves behind."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from accentor.spec.identity import Sha256
from accentor.spec.jobs import JobSpec, Lane, Metadata
from accentor.spec.states import BatchState, JobState


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Snapshot(_Record):
    """One point of the optimisation, measured on the clean image."""

    step: int
    value: float = Field(description="the feature's value")
    distance: float = Field(description="mean over positions of the L2 distance to the seed in the layer ℓ")


class SweepEntry(_Record):
    """One strength of a sweep, measured on the clean image."""

    strength: float = Field(description="share of the recipe's steps: 0 the seed, 1 the result, below 0 suppressed")
    step: int
    value: float = Field(description="the feature's value")
    distance: float = Field(description="to the seed in the layer ℓ")


class Result(_Record):
    """What is known of one accentuation besides its pixels; stored as result.json, the mark that all is written."""

    key: Sha256
    spec: JobSpec
    before: float = Field(description="the feature's value on the clean seed")
    after: float = Field(description="the feature's value on the clean result")
    trajectory: tuple[Snapshot, ...]
    sweep: tuple[SweepEntry, ...] = Field((), description="per strength of the recipe, in their order")
    stopped_at: int | None = Field(None, description="step at which the activation target was reached")
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    model_digest: Sha256
    engine_version: int
    device: str
    precision: str = Field("float32", description="what the network's passes were computed in")
    seconds: float = Field(description="its share of the computation")
    notes: tuple[str, ...] = Field((), description="what a reader of the picture should know")
    artefacts: tuple[str, ...] = Field(description="names of the files beside result.json")
    created_at: datetime


class Progress(_Record):
    """How far a running job is."""

    step: int
    steps: int
    value: float | None = Field(None, description="the feature's value over the crops of that step")
    preview: str | None = Field(None, description="small picture of the image as it is now: a `data:` URL")


class Failure(_Record):
    """Why a job failed."""

    code: str
    detail: str
    attempts: int = 1


class JobStatus(_Record):
    """One job as it stands."""

    id: str
    batch: str
    index: int
    state: JobState
    key: Sha256
    spec: JobSpec
    progress: Progress | None = None
    failure: Failure | None = None
    result: Result | None = None
    urls: dict[str, str] = Field({}, description="where to get each artefact; they expire")
    position: int | None = Field(None, description="place in the order of completion, where that was asked for")
    created_at: datetime


class Counts(_Record):
    """Jobs of a batch by state; ``cached`` of the succeeded were there before."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    cached: int = 0


class BatchStatus(_Record):
    """One batch as it stands."""

    id: str
    state: BatchState
    model: str
    lane: Lane
    total: int
    counts: Counts
    revision: int = Field(description="grows with every change")
    rate: float | None = Field(None, description="jobs ended per second since it started")
    eta_s: float | None = Field(None, description="seconds until it ends at that rate")
    metadata: Metadata = {}
    skipped: int = Field(0, description="lines of its upload that were wrong and left out")
    failure: Failure | None = Field(None, description="why its jobs failed, where it was not for a reason of their own")
    created_at: datetime
    deadline_at: datetime | None = Field(None, description="jobs that have not begun by then fail")
    expires_at: datetime | None = Field(None, description="when the batch and its results are removed")
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None


class Problem(BaseModel):
    """An error as sent over HTTP: RFC 9457 problem details with a stable code."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: list[dict[str, Any]] | None = None
