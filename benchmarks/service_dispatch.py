"""What handing out and bookkeeping cost a job, and what batches cost that wait."""

import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Group
from rich.table import Table

from accentor.settings import file_root
from accentor.spec import BatchSpec, LayerFeatures, Recipe
from accentor.state import NewBatch, Shard, dispatch, sweep
from accentor.state.keys import batch_keys
from accentor.storage.batches import write_batch
from accentor_worker.runner import run_shard
from accentor_worker.services import Services
from rig import Rig, clock
from stub import CARD, MODEL, StubResults, open_ledger, stub_services

SHARD_JOBS = 64
IMAGES = 64
SAMPLE_JOBS = 16_384
RECIPE = Recipe(steps=4, crops=2, size=64)


class Outbox:
    """Stands where the broker is: the benchmark runs what is sent, in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, shard: Shard) -> None:
        """Take a message."""
        self.ids.append(shard.id)


class Bench:
    """A worker in this process, with the stub engine, and the batches that it is given."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.outbox = Outbox()
        self.images = tuple(rig.pictures(IMAGES))
        objects = StubResults(file_root(rig.settings.storage_url), open_ledger(rig.ledgers))
        self.services: Services = stub_services(rig.settings, objects, self.outbox, "host:1")
        self._count = 0

    def create(self, total: int, model: str = MODEL) -> str:
        """Create a product batch as the API does; return its name."""
        self._count += 1
        name = f"b{self._count}"
        per_image = -(-total // IMAGES)
        spec = BatchSpec(
            model=MODEL,
            features=LayerFeatures(layer="conv", range=f"0:{per_image}"),
            images=self.images,
            recipe=RECIPE,
            metadata={"batch": name},
        )
        write_batch(self.rig.objects, name, spec)
        self.rig.jobs.create_batch(NewBatch(name, model, CARD.digest, "bulk", total, datetime.now(UTC)))
        return name

    def run(self, jobs: int) -> "Cost":
        """Run so many jobs of what waits, shard after shard."""
        before = self._spent()
        with clock() as took:
            dispatch(self.services.jobs, self.outbox, self.rig.settings)
            for _ in range(-(-jobs // SHARD_JOBS)):
                run_shard(self.services, self.outbox.ids.pop(0))
        return Cost.between(before, self._spent(), took(), jobs)

    def tick(self, times: int) -> "Cost":
        """Look so often for lost shards and for room in the queues, as a worker does once a second."""
        before = self._spent()
        with clock() as took:
            for _ in range(times):
                sweep(self.services.jobs, self.outbox, self.rig.settings)
                dispatch(self.services.jobs, self.outbox, self.rig.settings)
        return Cost.between(before, self._spent(), took(), times)

    def _spent(self) -> tuple[float, float]:
        stats = self.rig.client.info("cpu")
        return time.process_time(), stats["used_cpu_user"] + stats["used_cpu_sys"]


class Cost:
    """Microseconds of one job or tick: wall time, and CPU time of worker and Redis."""

    def __init__(self, wall: float, worker: float, server: float) -> None:
        self.wall, self.worker, self.server = wall, worker, server

    @classmethod
    def between(cls, before: tuple[float, float], after: tuple[float, float], seconds: float, count: int) -> "Cost":
        """Return the cost of one of so many."""
        scale = 1e6 / count
        return cls(seconds * scale, (after[0] - before[0]) * scale, (after[1] - before[1]) * scale)

    def cells(self) -> list[str]:
        """Return it for a table."""
        return [f"{self.wall:.1f}", f"{self.worker:.1f}", f"{self.server:.1f}", f"{self.worker + self.server:.1f}"]


def dispatch_cost(folder: Path, quick: bool) -> Group:
    """Run batches of growing size, and look after batches that wait."""
    settings = {"max_shard_jobs": SHARD_JOBS, "first_shard_jobs": SHARD_JOBS, "micro_batch": 16}
    with Rig(folder, **settings) as rig:
        bench = Bench(rig)
        columns = ("wall, µs", "CPU worker, µs", "CPU Redis, µs", "CPU, µs")
        costs = Table("jobs of the batch", "of these", *columns)
        costs.title = f"a job, engine and results a stub, shards of {SHARD_JOBS} (target: ≤ 150 µs, flat within 20 %)"
        bench.create(4 * SHARD_JOBS)
        bench.run(4 * SHARD_JOBS)
        for total in (1_000, 10_000, 100_000) if quick else (1_000, 10_000, 100_000, 1_000_000):
            for place, cost in _costs(bench, total):
                costs.add_row(f"{total:,}", place, *cost.cells())
        idle = Table("batches that wait", *columns)
        idle.title = "one look for lost shards and room, which a worker takes every second"
        for waiting in (1, 100, 1_000):
            rig.client.flushall()
            bench.outbox.ids.clear()
            for _ in range(waiting):
                bench.create(1_000_000)
            bench.tick(100)
            idle.add_row(f"{waiting:,}", *bench.tick(100).cells())
    return Group(costs, idle)


def _costs(bench: Bench, total: int) -> list[tuple[str, Cost]]:
    """Return what jobs cost at the beginning and at the end of a batch; of a small one, all of them."""
    bench.rig.client.flushall()
    bench.outbox.ids.clear()
    if total <= SAMPLE_JOBS:
        repeats = SAMPLE_JOBS // total
        for _ in range(repeats):
            bench.create(total)
        shards = repeats * -(-total // SHARD_JOBS)
        return [("all", bench.run(shards * SHARD_JOBS))]
    name = bench.create(total)
    found = [("the first", bench.run(SAMPLE_JOBS))]
    bench.outbox.ids.clear()
    bench.rig.client.flushall()
    name = bench.create(total)
    first = (total - SAMPLE_JOBS) // SHARD_JOBS * SHARD_JOBS
    bench.rig.client.hset(batch_keys(name)[0], "cursor", first)
    return [*found, ("the last", bench.run(SAMPLE_JOBS))]
