"""What is counted since the beginning, and what workers say of themselves: the numbers behind ``/metrics``."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import redis

from accentor.state.client import guarded
from accentor.state.decoding import text
from accentor.state.keys import MEMORY, READY, TOTALS

ENDED = "ended"
"""First word of what the scripts count: jobs by lane, model and how they ended."""

STEPS, SECONDS, PAIRS = "steps", "seconds", "pairs"
WEBHOOK = "webhook"
SEPARATOR = "|"
OWN_ENDS = frozenset({"succeeded", "cached", "canceled"})
"""How a job may end but by a failure, which is told by its code."""


class Ended(NamedTuple):
    """Jobs of a lane of a model that ended in one way: succeeded, cached, canceled, or the code of a failure."""

    lane: str
    model: str
    how: str
    jobs: int

    @property
    def failed(self) -> bool:
        """Whether that was a failure."""
        return self.how not in OWN_ENDS


@dataclass(frozen=True, slots=True)
class Work:
    """Steps of the engine on one model: how many, the seconds they took, and the pairs that each of them moved."""

    steps: int = 0
    seconds: float = 0.0
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Measures:
    """Everything at one moment.

    Attributes
    ----------
    workers
        Living workers by the model that they have loaded.
    memory
        Bytes of a device by their kind, by living worker.
    webhooks
        Attempts to deliver an event by their outcome, and events that were `dropped`.
    """

    ended: list[Ended]
    work: dict[str, Work]
    workers: dict[str, int]
    memory: dict[str, dict[str, int]]
    webhooks: dict[str, int]


class MeasureStore:
    """Numbers that only grow, added up by scripts and workers, and the last word of every worker."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client

    @guarded
    def add_work(self, model: str, work: Work) -> None:
        """Add steps that a worker has done."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hincrby(TOTALS, SEPARATOR.join((STEPS, model)), work.steps)
        pipeline.hincrbyfloat(TOTALS, SEPARATOR.join((SECONDS, model)), work.seconds)
        pipeline.hincrby(TOTALS, SEPARATOR.join((PAIRS, model)), work.pairs)
        pipeline.execute()

    @guarded
    def note_memory(self, owner: str, kinds: Mapping[str, int]) -> None:
        """Say how much memory of its device a worker uses; what dead workers said is forgotten."""
        living = self._living()
        gone = [name for name in self._client.hkeys(MEMORY) if text(name) not in living and text(name) != owner]
        if gone:
            self._client.hdel(MEMORY, *gone)
        self._client.hset(MEMORY, owner, json.dumps(dict(kinds)))

    @guarded
    def read(self) -> Measures:
        """Return everything as it stands."""
        ended, work, webhooks = [], {}, {}
        totals = {tuple(text(name).split(SEPARATOR)): value for name, value in self._client.hgetall(TOTALS).items()}
        for name, value in sorted(totals.items()):
            if name[0] == ENDED:
                _, lane, model, how = name
                ended.append(Ended(lane, model, how, int(value)))
            elif name[0] == STEPS:
                _, model = name
                work[model] = Work(int(value), float(totals[SECONDS, model]), int(totals[PAIRS, model]))
            elif name[0] == WEBHOOK:
                _, how = name
                webhooks[how] = int(value)
        living = self._living()
        memory = {text(name): json.loads(kinds) for name, kinds in self._client.hgetall(MEMORY).items()}
        return Measures(
            ended=ended,
            work=work,
            workers=dict(sorted(Counter(model for models in living.values() for model in models).items())),
            memory={name: kinds for name, kinds in sorted(memory.items()) if name in living},
            webhooks=webhooks,
        )

    def _living(self) -> dict[str, list[str]]:
        """Return the models that every living worker has loaded."""
        seconds, _ = self._client.time()
        living: dict[str, list[str]] = {}
        for entry in self._client.zrangebyscore(READY, seconds, "+inf"):
            owner, _, model = text(entry).partition(" ")
            living.setdefault(owner, []).append(model)
        return living
