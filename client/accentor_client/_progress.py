"""The progress bars of a batch and of an atlas."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from accentor.spec import BatchStatus
from accentor.spec.atlases import AtlasStatus


class _Bar:
    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class AtlasBar(_Bar):
    """Shows how far an atlas' steps are, on standard error, a line for each; or nothing, where it is not wanted."""

    def __init__(self, status: AtlasStatus, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not shown)
        self._tasks = {step.name: self._bar.add_task(step.name, total=None, visible=False) for step in status.steps}
        self.update(status)

    def update(self, status: AtlasStatus) -> None:
        """Show the atlas as it stands."""
        for step in status.steps:
            is_begun = step.state is not None
            self._bar.update(self._tasks[step.name], completed=step.done, total=step.total or None, visible=is_begun)


class BatchBar(_Bar):
    """Shows how many jobs of a batch have ended, on standard error; or nothing, where it is not wanted."""

    def __init__(self, status: BatchStatus, *, shown: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task(f"batch {status.id}", total=status.total, note="")
        self.update(status)

    def update(self, status: BatchStatus) -> None:
        """Show the batch as it stands."""
        counts = status.counts
        ended = counts.succeeded + counts.failed + counts.canceled
        parts = {"failed": counts.failed, "canceled": counts.canceled, "cached": counts.cached}
        note = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
        self._bar.update(self._task, completed=ended, note=note)
