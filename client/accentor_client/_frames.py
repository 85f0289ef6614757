"""Results as a table of pandas."""

import importlib
from collections.abc import Iterable
from typing import Any

from accentor.spec import JobStatus

COLUMNS = (
    *("id", "custom_id", "state", "key", "model", "feature", "image", "seed", "before", "after"),
    *("width", "height", "seconds", "created_at", "failure_code", "failure_detail", "metadata"),
)


def data_frame(jobs: Iterable[JobStatus]) -> Any:
    """Return jobs as a `pandas.DataFrame`, one row each, by their index in the batch.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    pandas = load_pandas()
    listed = [(job.index, _row(job)) for job in jobs]
    index = pandas.Index([place for place, _ in listed], name="index", dtype="int64")
    return pandas.DataFrame([row for _, row in listed], columns=list(COLUMNS), index=index)


def load_pandas() -> Any:
    """Return the module pandas."""
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError("to_pandas() needs pandas, which is not installed: pip install 'accentor[pandas]'") from error


def _row(job: JobStatus) -> dict[str, Any]:
    spec, result, failure = job.spec, job.result, job.failure
    return {
        "id": job.id,
        "custom_id": spec.custom_id,
        "state": str(job.state),
        "key": job.key,
        "model": spec.model,
        "feature": str(spec.feature),
        "image": spec.image,
        "seed": spec.seed,
        "before": result and result.before,
        "after": result and result.after,
        "width": result and result.width,
        "height": result and result.height,
        "seconds": result and result.seconds,
        "created_at": result and result.created_at,
        "failure_code": failure and failure.code,
        "failure_detail": failure and failure.detail,
        "metadata": dict(spec.metadata),
    }
