"""The job store: batches and their jobs in Redis. Every transition is one server-side script."""

import struct
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

import redis

from accentor.errors import IllegalTransitionError, ModelNotReadyError, NotFoundError, UnknownModelError
from accentor.spec import (
    BatchStatus,
    Failure,
    JobState,
    ModelCard,
    Progress,
    canonical_json,
    state_code,
    state_of_code,
)
from accentor.state.client import Scripts, guarded
from accentor.state.decoding import batch_failure, batch_status, text
from accentor.state.keys import (
    BATCHES,
    CARDS,
    DEADLINES,
    EXPIRIES,
    LANES,
    READY,
    UPLOADS,
    batch_keys,
    lane_field,
    ring_key,
)
from accentor.state.measures import MeasureStore
from accentor.state.records import NewBatch
from accentor.state.shards import ShardStore

NEVER_TOUCHED = "\0"
SCAN_JOBS = 65_536
ORDER_BYTES = 4
READY_S = 15.0
"""Seconds that a worker counts as living after it said so."""


class JobStore:
    """Batches, jobs and model cards; ``shards`` holds what workers have in hand, ``measures`` what is counted.

    Every method raises `StateUnavailableError` when Redis does not answer, and `NotFoundError` for a batch or job that
    there is not.
    """

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client
        self._run = Scripts(client)
        self.shards = ShardStore(client, self._run)
        self.measures = MeasureStore(client)

    @guarded
    def ping(self) -> None:
        """Raise `StateUnavailableError` unless Redis answers."""
        self._client.ping()

    @guarded
    def announce_model(self, card: ModelCard, owner: str, *, ready_s: float = READY_S) -> None:
        """Make a model known that the worker ``owner`` has loaded; its card is kept while workers come and go."""
        self._client.hset(CARDS, card.name, card.model_dump_json())
        self.keep_ready([card.name], owner, ready_s=ready_s)

    @guarded
    def keep_ready(self, models: Iterable[str], owner: str, *, ready_s: float = READY_S) -> None:
        """Say that the worker ``owner`` has these models loaded; that counts for ``ready_s`` seconds."""
        now = self._now()
        ends: dict[str | bytes, bytes | float | int | str] = {f"{owner} {name}": now + ready_s for name in models}
        if ends:
            self._client.zadd(READY, ends)
        self._client.zremrangebyscore(READY, "-inf", now)

    @guarded
    def retract_models(self, owners: str = "") -> None:
        """Take back what workers whose name begins so, or all, said of their models; the cards stay known."""
        gone = [entry for entry in self._client.zrange(READY, 0, -1) if text(entry).startswith(owners)]
        if gone:
            self._client.zrem(READY, *gone)

    @guarded
    def owners(self) -> set[str]:
        """Return the names of the workers that said that they have models loaded, dead ones among them."""
        return {text(entry).partition(" ")[0] for entry in self._client.zrange(READY, 0, -1)}

    @guarded
    def ready_models(self) -> set[str]:
        """Return the names of the models that a living worker has loaded."""
        return {text(entry).partition(" ")[2] for entry in self._client.zrangebyscore(READY, self._now(), "+inf")}

    @guarded
    def models(self) -> list[ModelCard]:
        """Return the cards of all models announced so far, by name."""
        cards = self._client.hgetall(CARDS)
        return sorted((ModelCard.model_validate_json(card) for card in cards.values()), key=lambda card: card.name)

    @guarded
    def model(self, name: str) -> ModelCard:
        """Return a model's card; `UnknownModelError` names those there are, `ModelNotReadyError` if there are none."""
        card = self._client.hget(CARDS, name)
        if card is not None:
            return ModelCard.model_validate_json(card)
        names = sorted(map(text, self._client.hkeys(CARDS)))
        if not names:
            raise ModelNotReadyError("no worker has announced a model yet: is one running?")
        raise UnknownModelError(f"no model is served as {name!r}: there are {', '.join(names)}", models=names)

    @guarded
    def create_batch(self, record: NewBatch) -> None:
        """Create a batch whose jobs are all queued, and queue it in its lane; a second time changes nothing."""
        fixed: dict[str, str | bytes] = {
            "id": record.id,
            "model": record.model,
            "digest": record.digest,
            "lane": record.lane,
            "metadata": canonical_json(record.metadata),
        }
        if record.lifetime_s is not None:
            fixed["lifetime_s"] = str(record.lifetime_s)
        if record.shard_jobs is not None:
            fixed["shard_jobs"] = str(record.shard_jobs)
        if record.skipped:
            fixed["skipped"] = str(record.skipped)
        if record.owner is not None:
            fixed["owner"] = record.owner
        keys = [batch_keys(record.id)[0], BATCHES, LANES, ring_key(record.lane, record.model), DEADLINES]
        place = lane_field(record.lane, record.model)
        deadline = "" if record.deadline_s is None else record.deadline_s
        fields: list[str | bytes] = [part for pair in fixed.items() for part in pair]
        created = record.created_at.timestamp()
        self._run("create_batch", keys, record.id, record.total, place, created, deadline, *fields)

    @guarded
    def status(self, batch_id: str) -> BatchStatus:
        """Return a batch as it stands."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hgetall(batch_keys(batch_id)[0])
        pipeline.time()
        record, now = pipeline.execute()
        return batch_status(_existing(batch_id, record), _moment(now))

    @guarded
    def model_digest(self, batch_id: str) -> str:
        """Return the digest of the model that the batch was submitted for."""
        return text(self._record(batch_id)[b"digest"])

    @guarded
    def recent(self, limit: int, cursor: str | None = None) -> list[BatchStatus]:
        """Return up to ``limit`` batches, newest first, after the batch whose id is ``cursor``."""
        start = 0
        if cursor is not None:
            rank = self._client.zrevrank(BATCHES, cursor)
            if rank is None:
                raise NotFoundError(f"there is no batch {cursor}")
            start = rank + 1
        ids = map(text, self._client.zrevrange(BATCHES, start, start + limit - 1))
        pipeline = self._client.pipeline(transaction=False)
        for batch_id in ids:
            pipeline.hgetall(batch_keys(batch_id)[0])
        pipeline.time()
        *records, now = pipeline.execute()
        return [batch_status(record, _moment(now)) for record in records if record]

    @guarded
    def job_states(self, batch_id: str, start: int, stop: int) -> list[JobState]:
        """Return the states of jobs ``start`` to ``stop - 1``, as many of them as there are."""
        stop = min(stop, int(self._record(batch_id)[b"total"]))
        if start >= stop:
            return []
        codes = text(self._client.execute_command("GETRANGE", batch_keys(batch_id)[1], start, stop - 1))
        codes = codes.ljust(stop - start, NEVER_TOUCHED)
        return [JobState.QUEUED if code == NEVER_TOUCHED else state_of_code(code) for code in codes]

    def job_state(self, batch_id: str, index: int) -> JobState:
        """Return the state of one job."""
        found = self.job_states(batch_id, index, index + 1) if index >= 0 else []
        if not found:
            raise NotFoundError(f"batch {batch_id} has no job {index}")
        return found[0]

    def find_jobs(self, batch_id: str, states: Collection[JobState], *, start: int = 0, limit: int = 100) -> list[int]:
        """Return the indices of the first ``limit`` jobs from ``start`` on that are in one of the states."""
        found: list[int] = []
        while len(found) < limit:
            chunk = self.job_states(batch_id, start, start + SCAN_JOBS)
            if not chunk:
                break
            found += [start + offset for offset, state in enumerate(chunk) if state in states]
            start += len(chunk)
        return found[:limit]

    @guarded
    def failure(self, batch_id: str, index: int) -> Failure | None:
        """Return why a job failed, or none if it did not."""
        found = self._client.hget(batch_keys(batch_id)[2], str(index))
        if found is not None:
            return Failure.model_validate_json(found)
        if self.job_state(batch_id, index) is not JobState.FAILED:
            return None
        return batch_failure(self._record(batch_id))

    @guarded
    def failures(self, batch_id: str, cursor: int = 0, limit: int = 100) -> list[tuple[int, Failure]]:
        """Return the first ``limit`` failed jobs from index ``cursor`` on; go on at the last index plus one."""
        indices = self.find_jobs(batch_id, {JobState.FAILED}, start=cursor, limit=limit)
        if not indices:
            return []
        texts = self._client.hmget(batch_keys(batch_id)[2], [str(index) for index in indices])
        others = batch_failure(self._record(batch_id))
        reasons = [others if found is None else Failure.model_validate_json(found) for found in texts]
        return [(index, reason) for index, reason in zip(indices, reasons, strict=True) if reason is not None]

    @guarded
    def ends(self, batch_id: str, start: int, limit: int) -> list[int]:
        """Return the indices of jobs that succeeded or failed, in the order of their ends, from a place in it on.

        A job that failed and was retried comes again when it ends again.
        """
        key = batch_keys(batch_id)[4]
        packed = self._client.execute_command("GETRANGE", key, start * ORDER_BYTES, (start + limit) * ORDER_BYTES - 1)
        return [index for (index,) in struct.iter_unpack("<I", packed)]

    @guarded
    def progress(self, batch_id: str, index: int) -> Progress | None:
        """Return how far a running job is, or none if it is not running or has not reported."""
        found = self._client.hget(batch_keys(batch_id)[3], str(index))
        return None if found is None else Progress.model_validate_json(found)

    @guarded
    def report_progress(self, batch_id: str, progress: Mapping[int, Progress]) -> None:
        """Say how far running jobs are; what is said of others is ignored."""
        pairs = [part for index, value in progress.items() for part in (index, value.model_dump_json())]
        self._run("report_progress", batch_keys(batch_id)[:1], batch_id, *pairs)

    @guarded
    def request_cancel(self, batch_id: str) -> BatchStatus:
        """Cancel what is queued now, and what runs when its worker sees it; again changes nothing.

        Raises
        ------
        IllegalTransitionError
            If the batch has ended otherwise.
        """
        self._run("cancel_batch", [batch_keys(batch_id)[0], self._ring(batch_id)], batch_id)
        return self.status(batch_id)

    @guarded
    def retry(self, batch_id: str) -> BatchStatus:
        """Queue the failed jobs of a batch that has ended; its deadline is forgotten.

        Raises
        ------
        IllegalTransitionError
            If the batch has not ended, or has no failed jobs.
        """
        self._run("retry_batch", [batch_keys(batch_id)[0], self._ring(batch_id), EXPIRIES], batch_id)
        return self.status(batch_id)

    @guarded
    def delete(self, batch_id: str, *, results: bool = False) -> None:
        """Let nobody see an ended batch any more; it is among `expired` until what it has is removed.

        Raises
        ------
        IllegalTransitionError
            If the batch has not ended.
        """
        self._run("delete_batch", [batch_keys(batch_id)[0], BATCHES, EXPIRIES], batch_id, int(results))

    @guarded
    def expired(self, limit: int = 100) -> list[tuple[str, str, bool]]:
        """Return ended batches whose lifetime is over or that were deleted: id, model's digest, results too."""
        ids = [text(name) for name in self._client.zrangebyscore(EXPIRIES, "-inf", self._now(), start=0, num=limit)]
        found = []
        for batch_id in ids:
            record = self._client.hgetall(batch_keys(batch_id)[0])
            if record:
                wanted = record.get(b"delete_results", b"1") == b"1"
                found.append((batch_id, text(record[b"digest"]), wanted))
            else:
                self._client.zrem(EXPIRIES, batch_id)
        return found

    @guarded
    def forget(self, batch_id: str) -> None:
        """Remove all that is known of a batch."""
        pipeline = self._client.pipeline()
        pipeline.zrem(BATCHES, batch_id)
        pipeline.zrem(DEADLINES, batch_id)
        pipeline.delete(*batch_keys(batch_id))
        pipeline.zrem(EXPIRIES, batch_id)
        pipeline.execute()

    @guarded
    def pass_deadlines(self) -> int:
        """Fail the jobs that have not begun by their batch's deadline; return how many they were."""
        count = 0
        for name in self._client.zrangebyscore(DEADLINES, "-inf", self._now()):
            batch_id = text(name)
            keys = [batch_keys(batch_id)[0], self._ring(batch_id), DEADLINES]
            count += int(self._run("pass_deadline", keys, batch_id))
        return count

    @guarded
    def note_upload(self, name: str, *, alive_s: float) -> None:
        """Say that objects of a batch that is not created yet are being written, or the file with this key."""
        self._client.zadd(UPLOADS, {name: self._now() + alive_s})

    @guarded
    def end_upload(self, name: str) -> None:
        """Say that these objects are the batch's now, or are gone."""
        self._client.zrem(UPLOADS, name)

    @guarded
    def abandoned_uploads(self) -> list[str]:
        """Return batches whose upload gives no sign of life and that were never created, and files nobody wanted."""
        ids = [text(name) for name in self._client.zrangebyscore(UPLOADS, "-inf", self._now())]
        created = [name for name in ids if self._client.exists(batch_keys(name)[0])]
        if created:
            self._client.zrem(UPLOADS, *created)
        return [name for name in ids if name not in created]

    @guarded
    def cancel_requested(self, batch_id: str) -> bool:
        """Tell whether the batch is to be canceled."""
        return bool(self._client.hexists(batch_keys(batch_id)[0], "cancel_requested_at"))

    @guarded
    def start_jobs(self, batch_id: str, indices: Iterable[int]) -> list[int]:
        """Turn queued jobs into running ones; return those that were turned."""
        return [int(index) for index in self._run("start_jobs", batch_keys(batch_id)[:1], batch_id, *indices)]

    def finish_job(
        self, batch_id: str, index: int, state: JobState, *, cached: bool = False, failure: Failure | None = None
    ) -> bool:
        """End a job as `finish_jobs` does; false if it had ended before."""
        return bool(self.finish_jobs(batch_id, [index], state, cached=cached, failure=failure))

    @guarded
    def finish_jobs(
        self,
        batch_id: str,
        indices: Iterable[int],
        state: JobState,
        *,
        cached: bool = False,
        failure: Failure | None = None,
    ) -> list[int]:
        """End jobs, and with the last one their batch; return those that had not ended before: the others stay.

        Parameters
        ----------
        cached
            Whether their results were there before.
        failure
            Why they failed: given if, and only if, ``state`` is failed.

        Raises
        ------
        IllegalTransitionError
            If ``state`` is no end.
        """
        if not state.terminal:
            raise IllegalTransitionError(f"a job cannot end as {state}")
        if (failure is not None) != (state is JobState.FAILED) or (cached and state is not JobState.SUCCEEDED):
            raise IllegalTransitionError(f"a {state} job cannot have cached = {cached} and failure = {failure}")
        reason = "" if failure is None else failure.model_dump_json()
        keys = batch_keys(batch_id)[:1]
        ended = self._run("finish_jobs", keys, batch_id, state_code(state), int(cached), reason, *indices)
        return [int(index) for index in ended]

    def _now(self) -> float:
        seconds, microseconds = self._client.time()
        return float(seconds) + float(microseconds) / 1e6

    def _ring(self, batch_id: str) -> str:
        lane, model = self._client.hmget(batch_keys(batch_id)[0], ["lane", "model"])
        return ring_key("interactive" if lane == b"interactive" else "bulk", text(model or b""))

    def _record(self, batch_id: str) -> dict[bytes, bytes]:
        return _existing(batch_id, self._client.hgetall(batch_keys(batch_id)[0]))


def _existing(batch_id: str, record: dict[bytes, bytes]) -> dict[bytes, bytes]:
    if not record or b"deleted_at" in record:
        raise NotFoundError(f"there is no batch {batch_id}")
    return record


def _moment(time: tuple[int, int]) -> datetime:
    """Return what Redis' clock says: all times of a batch but its creation are by that one clock."""
    seconds, microseconds = time
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
