"""What the job store takes and gives besides the public contracts."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from accentor.spec import Lane


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch as it is created; its specification lies in the object store.

    Attributes
    ----------
    deadline_s
        Seconds from now after which jobs that have not begun fail.
    lifetime_s
        Seconds from its end after which the batch is removed; none: it stays.
    shard_jobs
        Jobs that a shard has at most, however fast they are; none: as many as the speed says.
    skipped
        Lines of its upload that were left out because they were wrong.
    owner
        The caller whose webhooks are told what becomes of it; none: none are.
    """

    id: str
    model: str
    digest: str
    lane: Lane
    total: int
    created_at: datetime
    metadata: dict[str, str] = field(default_factory=dict)
    deadline_s: int | None = None
    lifetime_s: int | None = None
    skipped: int = 0
    shard_jobs: int | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """Jobs ``start`` to ``stop - 1`` of a batch: what one worker runs in one go.

    ``attempts`` counts the workers that died on it.
    """

    id: str
    batch: str
    start: int
    stop: int
    lane: Lane
    model: str
    attempts: int = 0

    @property
    def indices(self) -> range:
        """The jobs' indices in the batch."""
        return range(self.start, self.stop)


class Lost(StrEnum):
    """Why an outstanding shard must be looked after."""

    UNSTARTED = "unstarted"
    """Its message was lost, or is due again; no worker has begun it."""

    DIED = "died"
    """The worker that had begun it gives no sign of life."""


def shard_id(batch: str, start: int, stop: int) -> str:
    """Return the name of a shard: the same jobs, the same name."""
    return f"{batch}.{start}-{stop}"
