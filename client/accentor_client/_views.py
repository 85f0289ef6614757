"""What handles say without asking, the same for both clients: id, state, counts, and how a notebook shows them."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from accentor.errors import AccentorError, error_from_code
from accentor.spec import BatchState, BatchStatus, Counts, JobState, JobStatus

COLORS: Mapping[str, str] = {
    "succeeded": "#2e7d5b",
    "failed": "#b3403a",
    "canceled": "#8a8a8a",
    "running": "#3b6ea8",
    "queued": "#d8d8d8",
}


class JobView:
    """A job as it stood when last asked."""

    def __init__(self, status: JobStatus) -> None:
        self.status = status

    @property
    def id(self) -> str:
        """Its id."""
        return self.status.id

    @property
    def state(self) -> JobState:
        """Its state when last asked."""
        return self.status.state

    @property
    def error(self) -> AccentorError | None:
        """Why it failed, as the error that asking for its result raises; none if it did not."""
        return failure_of(self.status)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}: {self.status.spec.feature}>"

    def _repr_html_(self) -> str:
        return job_table(self.status)


class BatchView:
    """A batch as it stood when last asked."""

    def __init__(self, status: BatchStatus) -> None:
        self.status = status

    @property
    def id(self) -> str:
        """Its id."""
        return self.status.id

    @property
    def state(self) -> BatchState:
        """Its state when last asked."""
        return self.status.state

    @property
    def counts(self) -> Counts:
        """Its jobs by state when last asked."""
        return self.status.counts

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}: {_counted(self.counts)} of {self.status.total}>"

    def _repr_html_(self) -> str:
        status = self.status
        rows = {"state": status.state, "model": status.model, "jobs": f"{status.total}: {_counted(status.counts)}"}
        if status.rate is not None:
            rows["rate"] = f"{status.rate:.3g} jobs/s"
        if status.eta_s is not None:
            rows["left"] = f"{status.eta_s:.0f} s"
        if status.failure is not None:
            rows["failure"] = f"{status.failure.code}: {status.failure.detail}"
        return table(f"batch {status.id}", (*rows.items(), *status.metadata.items())) + _bar(status)


def failure_of(status: JobStatus) -> AccentorError | None:
    """Return the error that a failed job ended with."""
    if status.failure is None:
        return None
    return error_from_code(status.failure.code, f"job {status.id}: {status.failure.detail}", job=status.id)


def job_table(status: JobStatus) -> str:
    """Return a job as a table of HTML."""
    rows: dict[str, Any] = {"state": status.state, "feature": status.spec.feature, "image": status.spec.image[:12]}
    if status.progress is not None:
        rows["step"] = f"{status.progress.step} of {status.progress.steps}"
    if status.result is not None:
        rows["value"] = f"{status.result.before:.4g} → {status.result.after:.4g}"
    if status.failure is not None:
        rows["failure"] = f"{status.failure.code}: {status.failure.detail}"
    return table(f"job {status.id}", rows.items())


def table(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    """Return rows of a name and a value as HTML; whatever they say is text."""
    cells = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"


def _counted(counts: Counts) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.model_dump().items() if count) or "none"


def _bar(status: BatchStatus) -> str:
    counts = status.counts.model_dump()
    parts = "".join(
        f'<div style="background:{color};width:{100 * counts[name] / max(status.total, 1):.2f}%"></div>'
        for name, color in COLORS.items()
    )
    return f'<div style="display:flex;height:8px;max-width:400px">{parts}</div>'
