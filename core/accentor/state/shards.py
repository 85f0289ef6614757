"""Outstanding shards: handed out, leased to a worker, put back, lost, split. Each step is one server-side script."""

from collections.abc import Sequence

import redis

from accentor.spec import Lane
from accentor.state.client import Scripts, guarded
from accentor.state.decoding import shard_of, text
from accentor.state.keys import EMPTY_SINCE, LANES, SPEEDS, lane_field, ring_key, running_key, shard_key, waiting_key
from accentor.state.queues import queue_name
from accentor.state.records import Lost, Shard

GRACE_FRACTION = 1 / 3
"""Part of a lease's time that passes between the first doubt whether its worker lives and the verdict.

Both Redis and the worker may have slept through a lease; a living worker then has time to say so."""

WORK = "work"
MICRO = 1e6
"""The seconds of a crop of a step are kept in microseconds."""

SPEED_WEIGHT = 0.3
"""Weight of the newest measurement in the moving average of seconds per job."""


class ShardStore:
    """The shards that were handed out and have not ended.

    A shard *waits* until a worker takes it; it then *runs* under the worker's token until it is released or lost. Only
    `find_lost` takes a shard from a worker, so a message that comes twice does no harm.
    """

    def __init__(self, client: "redis.Redis[bytes]", run: Scripts) -> None:
        self._client = client
        self._run = run

    @guarded
    def lanes(self) -> list[tuple[Lane, str]]:
        """Return every lane of a model that ever had a batch."""
        places = (text(place).partition(":") for place in self._client.smembers(LANES))
        return [("interactive" if lane == "interactive" else "bulk", model) for lane, _, model in places]

    @guarded
    def hand_out(self, lane: Lane, model: str, *, window: int, jobs: int, due_s: float) -> Shard | None:
        """Return the next shard of at most ``jobs`` jobs, its message still to be sent.

        The batches of a lane take turns. None if there is nothing left, or if ``window`` shards wait already.
        """
        keys = [ring_key(lane, model), waiting_key(lane, model)]
        reply = self._run("hand_out", keys, lane, model, window, jobs, due_s)
        return shard_of(reply) if reply else None

    @guarded
    def take(self, shard_id: str, token: str, *, alive_s: float) -> Shard | None:
        """Give a waiting shard to the worker with this token; none if it has a worker or has ended."""
        reply = self._run("take_shard", [shard_key(shard_id)], shard_id, token, alive_s)
        return shard_of(reply) if reply else None

    @guarded
    def take_some(
        self, lane: Lane, model: str, token: str, *, limit: int, alive_s: float, jobs: int = 1
    ) -> list[Shard]:
        """Give up to ``limit`` shards of a lane to the worker with this token: those that wait, then new ones."""
        keys = [ring_key(lane, model), waiting_key(lane, model)]
        return [shard_of(line) for line in self._run("take_some", keys, lane, model, token, alive_s, limit, jobs)]

    @guarded
    def any_left(self, lane: Lane, model: str) -> bool:
        """Tell whether a shard of a lane waits, or could be handed out."""
        return bool(self._client.exists(ring_key(lane, model), waiting_key(lane, model)))

    @guarded
    def renew(self, shard_id: str, token: str, *, alive_s: float) -> bool:
        """Say that the worker lives; false if the shard was taken from it."""
        return bool(self._run("renew_shard", [shard_key(shard_id)], shard_id, token, alive_s))

    @guarded
    def release(self, shard_id: str, token: str = "", *, due_s: float) -> int:
        """Let go of a shard: its running jobs are queued again; without unfinished jobs it is gone.

        Returns
        -------
        int
            Its unfinished jobs; 0 also if the shard is not this worker's (without a token: if it does not wait).
        """
        return int(self._run("release_shard", [shard_key(shard_id)], shard_id, token, due_s))

    @guarded
    def mark_dead(self, shard_id: str, owner: str) -> bool:
        """Say that the owner, the first part of the token, is dead: the next `find_lost` need not wait."""
        return bool(self._run("mark_dead", [shard_key(shard_id)], shard_id, owner))

    @guarded
    def give_back(self, owner: str) -> int:
        """Put back every shard of an owner that was told to stop, due at once and with no attempt more.

        Returns
        -------
        int
            How many there were.
        """
        keys = [running_key(lane, model) for lane, model in self.lanes()]
        return int(self._run("give_back", keys, owner)) if keys else 0

    @guarded
    def find_lost(self, lane: Lane, model: str, *, lease_s: float, due_s: float) -> list[tuple[Shard, Lost]]:
        """Return the shards that must be sent again, each to one caller alone.

        Those that a worker had begun were put back, with one attempt more.
        """
        keys = [waiting_key(lane, model), running_key(lane, model), queue_name(lane, model), EMPTY_SINCE]
        grace_s = lease_s * GRACE_FRACTION
        reply = self._run("find_lost", keys, lane_field(lane, model), grace_s, lease_s, due_s)
        return [(shard_of(line), Lost(text(line[-1]))) for line in reply]

    @guarded
    def split(self, shard: Shard, parts: Sequence[tuple[range, int]], *, due_s: float) -> list[Shard]:
        """Replace a waiting shard by several, each given by jobs and attempts; their messages are still to be sent."""
        numbers = [number for jobs, attempts in parts for number in (jobs.start, jobs.stop, attempts)]
        reply = self._run("split_shard", [shard_key(shard.id)], shard.id, due_s, *numbers)
        return [shard_of(line) for line in reply]

    @guarded
    def note_speed(self, lane: Lane, model: str, seconds_per_job: float, *, work: float | None = None) -> None:
        """Let a measurement into the moving average of a lane; ``work`` is the mean of steps × crops of its jobs."""
        self._run("note_speed", [SPEEDS], lane_field(lane, model), seconds_per_job, SPEED_WEIGHT)
        if work:
            self._run("note_speed", [SPEEDS], f"{WORK}:{model}", MICRO * seconds_per_job / work, SPEED_WEIGHT)

    @guarded
    def seconds_per_work(self, model: str) -> float | None:
        """Return the seconds that one crop of one step takes, or none if that was never measured."""
        found = self._client.hget(SPEEDS, f"{WORK}:{model}")
        return None if found is None else float(found) / MICRO

    @guarded
    def speed(self, lane: Lane, model: str) -> float | None:
        """Return the seconds that a job of this lane takes, or none if that was never measured."""
        found = self._client.hget(SPEEDS, lane_field(lane, model))
        return None if found is None else float(found)
