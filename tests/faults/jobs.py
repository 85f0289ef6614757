"""The batch that every test of this folder runs: 120 real jobs, and what is true of it when all is over."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from accentor.engine.reference import sample_paths
from accentor.spec import BatchStatus, JobState, JobStatus, Recipe
from accentor.state import JobStore
from accentor.storage import ObjectStore
from accentor.storage.keys import result_prefix

MODEL = "reference"
UNITS, IMAGES, SEEDS = 12, 5, 2
JOBS = UNITS * IMAGES * SEEDS
FEATURES = tuple(f"channel:block2:{unit}" for unit in range(UNITS))
PATHS = tuple(sample_paths()[:IMAGES])
RECIPE = Recipe(steps=8, crops=4, size=64, snapshots=1)
PICTURES = ("accentuated.png", "opacity.png", "overlay.png")
OBJECTS = {*PICTURES, "frames.webp", "result.json"}
MAX_ATTEMPTS = 3
LEVELS = 1
"""Grey levels, of 255, by which a pixel may differ: jobs run together in another way each time."""

OPTIONS: dict[str, Any] = {
    "model": MODEL, "features": list(FEATURES), "images": PATHS, "seeds": SEEDS, "recipe": RECIPE
}  # fmt: skip

Pictures = Mapping[str, np.ndarray]


def pairs() -> list[tuple[str, int, int]]:
    """Return feature, image and random seed of each job, in the order of the batch."""
    return [(feature, image, seed) for feature in FEATURES for image in range(IMAGES) for seed in range(SEEDS)]


def levels(picture: Image.Image) -> np.ndarray:
    """Return a picture's grey levels."""
    return np.asarray(picture).astype(int)


def check_ended_once(jobs: JobStore, batch: str, told: Sequence[JobStatus], *, total: int = JOBS) -> None:
    """Check that every job has ended exactly once, for a reason if it failed, and that all counts agree."""
    check_told(jobs.status(batch), told, total=total)
    assert sorted(jobs.ends(batch, 0, 2 * total)) == list(range(total))


def check_told(status: BatchStatus, told: Sequence[JobStatus], *, total: int = JOBS) -> None:
    """Check that the batch has ended, that its counts are those of its jobs, and that each failure has a reason."""
    counts = status.counts
    assert status.state.terminal
    assert status.total == total
    assert (counts.queued, counts.running, counts.canceled) == (0, 0, 0)
    assert counts.succeeded + counts.failed == total
    assert [job.index for job in told] == list(range(total))
    assert sum(job.state is JobState.SUCCEEDED for job in told) == counts.succeeded
    failures = [job.failure for job in told if job.state is JobState.FAILED]
    assert len(failures) == counts.failed
    for failure in failures:
        assert failure is not None
        assert failure.code
        assert failure.detail
        assert 1 <= failure.attempts <= MAX_ATTEMPTS


def check_objects(objects: ObjectStore, told: Sequence[JobStatus], undisturbed: Sequence[Pictures]) -> None:
    """Check that every succeeded job has all its objects, and the pixels of a run that nothing disturbed."""
    for job in told:
        if job.state is not JobState.SUCCEEDED:
            continue
        prefix = result_prefix(job.key)
        assert {key.rpartition("/")[2] for key in objects.keys(f"{prefix}/")} == OBJECTS
        for name, expected in undisturbed[job.index].items():
            with Image.open(io.BytesIO(objects.get(f"{prefix}/{name}"))) as picture:
                assert np.abs(levels(picture) - expected).max() <= LEVELS, (job.index, name)
