"""The contracts: what can be asked for and what is answered, in pydantic and without torch."""

from accentor.spec.features import Channel, Direction, Feature, Logit, Neuron, Sum, Term, parse_feature
from accentor.spec.identity import ENGINE_VERSION, Sha256, canonical_json, is_sha256, sha256_hex
from accentor.spec.jobs import BatchJob, BatchSpec, Jobs, JobSpec, Lane, LayerFeatures
from accentor.spec.models import LayerInfo, ModelCard
from accentor.spec.recipe import PRESETS, Recipe, resolve_recipe
from accentor.spec.states import (
    BatchState,
    JobState,
    check_batch_transition,
    check_job_transition,
    state_code,
    state_of_code,
)
from accentor.spec.status import BatchStatus, Counts, Failure, JobStatus, Problem, Progress, Result, Snapshot

__all__ = [
    "ENGINE_VERSION",
    "PRESETS",
    "BatchJob",
    "BatchSpec",
    "BatchState",
    "BatchStatus",
    "Channel",
    "Counts",
    "Direction",
    "Failure",
    "Feature",
    "JobSpec",
    "JobState",
    "JobStatus",
    "Jobs",
    "Lane",
    "LayerFeatures",
    "LayerInfo",
    "Logit",
    "ModelCard",
    "Neuron",
    "Problem",
    "Progress",
    "Recipe",
    "Result",
    "Sha256",
    "Snapshot",
    "Sum",
    "Term",
    "canonical_json",
    "check_batch_transition",
    "check_job_transition",
    "is_sha256",
    "parse_feature",
    "resolve_recipe",
    "sha256_hex",
    "state_code",
    "state_of_code",
]
