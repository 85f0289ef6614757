"""Which jobs of a batch are told, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from accentor.errors import RequestError
from accentor.spec import Feature, JobSpec, JobState, JobStatus, parse_feature
from accentor.storage.pinning import without_versions
from accentor_api.views import WINDOW, OpenBatch

Order = Literal["submission", "completion"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that is told; ``position`` is its place in the order of completion, where that is the order."""

    index: int
    state: JobState
    position: int | None = None


@dataclass(frozen=True)
class Selection:
    """Which jobs, from which place of the order on."""

    states: frozenset[JobState]
    order: Order = "submission"
    feature: str | None = None
    custom_id: str | None = None
    start: int = 0

    def entries(self, batch: OpenBatch) -> Iterator[Entry]:
        """Return the selected jobs in order."""
        entries = _ended(batch, self) if self.order == "completion" else _submitted(batch, self)
        if self.feature is None and self.custom_id is None:
            return entries
        wanted = None if self.feature is None else _resolved(batch, parse_feature(self.feature))
        return (entry for entry in entries if self._fits(batch, batch.jobs[entry.index], wanted))

    def jobs(self, batch: OpenBatch) -> Iterator[JobStatus]:
        """Return the selected jobs in order with their results, several of which are read at once."""
        return batch.services.read_each(
            lambda entry: batch.job(entry.index, entry.state, position=entry.position), self.entries(batch)
        )

    def _fits(self, batch: OpenBatch, spec: JobSpec, feature: Feature | None) -> bool:
        if self.custom_id is not None and spec.custom_id != self.custom_id:
            return False
        if feature is None:
            return True
        found = _resolved(batch, spec.feature)
        return feature in (found, without_versions(found))


def _submitted(batch: OpenBatch, selection: Selection) -> Iterator[Entry]:
    for index, state in batch.in_states(selection.states, selection.start):
        yield Entry(index, state)


def _ended(batch: OpenBatch, selection: Selection) -> Iterator[Entry]:
    """Return jobs in the order of their ends, each once; one that was retried, at the first end that is told."""
    store, told, start = batch.services.jobs, bytearray(batch.status.total), selection.start
    while indices := store.ends(batch.id, start, WINDOW):
        first = min(indices)
        states = store.job_states(batch.id, first, max(indices) + 1)
        for position, index in enumerate(indices, start):
            state = states[index - first]
            if state in selection.states and not told[index]:
                told[index] = 1
                yield Entry(index, state, position)
        start += len(indices)


def _resolved(batch: OpenBatch, feature: Feature) -> Feature:
    try:
        return batch.card.resolve(feature)
    except RequestError:
        return feature
