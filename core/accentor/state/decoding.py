"""From Redis's bytes to our records."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from accentor.errors import DeadlineError
from accentor.spec import BatchState, BatchStatus, Counts, Failure, Lane
from accentor.state.records import Shard


def text(value: bytes | str) -> str:
    """Return a reply as text."""
    return value.decode() if isinstance(value, bytes) else value


def moment(seconds: bytes | None) -> datetime | None:
    """Return the time that a number of seconds since 1970 means."""
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)


def shard_of(reply: Sequence[bytes]) -> Shard:
    """Return the shard that a script describes."""
    name, batch, start, stop, lane, model, attempts = map(text, reply[:7])
    return Shard(name, batch, int(start), int(stop), cast("Lane", lane), model, int(attempts))


def batch_status(record: Mapping[bytes, bytes], now: datetime) -> BatchStatus:
    """Return the status that a batch's record means at a time."""
    counts = Counts(**{name: int(record[name.encode()]) for name in Counts.model_fields})
    started, finished = moment(record.get(b"started_at")), moment(record.get(b"finished_at"))
    rate = _rate(counts, started, finished or now)
    left = counts.queued + counts.running
    return BatchStatus(
        id=text(record[b"id"]),
        state=BatchState(text(record[b"state"])),
        model=text(record[b"model"]),
        lane=cast("Lane", text(record[b"lane"])),
        total=int(record[b"total"]),
        counts=counts,
        revision=int(record[b"revision"]),
        rate=rate,
        eta_s=left / rate if rate and finished is None else None,
        metadata=json.loads(record[b"metadata"]),
        skipped=int(record.get(b"skipped", 0)),
        failure=batch_failure(record),
        created_at=cast("datetime", moment(record[b"created_at"])),
        deadline_at=moment(record.get(b"deadline_at")),
        expires_at=moment(record.get(b"expires_at")),
        started_at=started,
        finished_at=finished,
        cancel_requested_at=moment(record.get(b"cancel_requested_at")),
    )


def batch_failure(record: Mapping[bytes, bytes]) -> Failure | None:
    """Return why the jobs of a batch failed that have no reason of their own, or none if there are no such jobs."""
    passed = moment(record.get(b"deadline_passed_at"))
    if passed is None:
        return None
    deadline = moment(record.get(b"deadline_at")) or passed
    detail = f"it had not begun by the batch's deadline, {deadline:%Y-%m-%d %H:%M:%S} UTC"
    return Failure(code=DeadlineError.code, detail=detail, attempts=0)


def _rate(counts: Counts, started: datetime | None, until: datetime) -> float | None:
    """Return the jobs computed in a second; what was there before says nothing about the rest."""
    ended = counts.succeeded - counts.cached + counts.failed
    seconds = 0.0 if started is None else (until - started).total_seconds()
    return ended / seconds if ended and seconds > 0 else None
