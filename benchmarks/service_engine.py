"""The real engine behind the service: single jobs beside bulk, and a person's job while a batch runs."""

import itertools
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Group
from rich.table import Table

from accentor.spec import PRESETS, sha256_hex
from accentor.storage.keys import image_key
from rig import Rig, clock, run_load, until

MODEL = "reference"
RECIPE = {**PRESETS["fast"].model_dump(mode="json"), "size": 128}
CLIENTS = 64
LOGITS = 18
TOGETHER_S = 15.0
LOOK_S = 0.02
BULK_JOBS = 100_000
BULK_LAYER, BULK_UNITS = "block3", 112


def single(folder: Path, quick: bool) -> Group:
    """Compare as many clients of single jobs with a bulk batch of the same jobs, in turns."""
    count, rounds = (CLIENTS, 1) if quick else (2 * CLIENTS, 2)
    table = Table("submitted as", "jobs", "wall, s", "jobs/s", "worker CPU, s", "jobs a CPU s", "API CPU, s")
    table.title = (
        f"real engine, reference model, fast at 128 px, one thread: {CLIENTS} clients (target: ≥ 70 % of bulk)"
    )
    rates: dict[str, list[tuple[float, float]]] = {"bulk": [], "single": []}
    with _real(folder) as rig:
        images, fresh = _samples(rig), itertools.count()
        _bulk(rig, _jobs(16, images, fresh))
        for _ in range(rounds):
            for form, run in (("bulk", _bulk), ("single", _single)):
                before = [rig.cpu_s(name) for name in ("worker", "api")]
                seconds = run(rig, _jobs(count, images, fresh))
                worker, api = (rig.cpu_s(name) - was for name, was in zip(("worker", "api"), before, strict=True))
                rates[form].append((count / seconds, count / worker))
                table.add_row(
                    form, str(count), f"{seconds:.1f}", f"{count / seconds:.2f}", f"{worker:.1f}",
                    f"{count / worker:.2f}", f"{api:.1f}",
                )  # fmt: skip
    shares = [
        statistics.fmean(rate[which] for rate in rates["single"])
        / statistics.fmean(rate[which] for rate in rates["bulk"])
        for which in (0, 1)
    ]
    table.caption = (
        f"single over bulk: {100 * shares[0]:.0f} % by wall time, {100 * shares[1]:.0f} % by the worker's CPU time"
    )
    return Group(table)


def interactive(folder: Path, quick: bool) -> Group:
    """Submit single jobs at any moment while a batch of 100,000 jobs runs."""
    table = Table("jobs", "median, s", "worst, s", "micro-batch: median, s", "longest, s", "shard aims at, s")
    table.title = "a single job's wait for its start while 100,000 jobs run (target: one micro-batch)"
    with _real(folder) as rig:
        images = _samples(rig)
        seeds = -(-BULK_JOBS // (BULK_UNITS * len(images)))
        body = {"model": MODEL, "features": {"layer": BULK_LAYER}, "images": images, "seeds": seeds, "recipe": RECIPE}
        with rig.http() as client:
            _bulk(rig, _jobs(16, images, itertools.count(10**6)))
            batch = client.post("/v1/batches", json=body).raise_for_status().json()["id"]
            assert rig.jobs.status(batch).total >= BULK_JOBS
            until(lambda: rig.jobs.status(batch).counts.succeeded > 0, "the first job")
            gaps = _gaps(rig, batch, 5 * TOGETHER_S if not quick else TOGETHER_S)
            draw, waits = random.Random(0), []  # noqa: S311
            for job in _jobs(3 if quick else 10, images, itertools.count(2 * 10**6)):
                time.sleep(draw.uniform(0, statistics.median(gaps)))
                waits.append(_start_s(rig, client, job))
            client.post(f"/v1/batches/{batch}/cancel").raise_for_status()
        table.add_row(
            str(len(waits)), f"{statistics.median(waits):.2f}", f"{max(waits):.2f}", f"{statistics.median(gaps):.2f}",
            f"{max(gaps):.2f}", f"{rig.settings.shard_seconds:.0f}",
        )  # fmt: skip
    return Group(table)


def _real(folder: Path) -> "_Started":
    return _Started(folder, model=MODEL, threads=1)


class _Started(Rig):
    """A rig with the real engine and the API."""

    def __enter__(self) -> "_Started":
        super().__enter__()
        try:
            self.start_worker()
            self.start_api()
        except BaseException:
            self.__exit__()
            raise
        return self


def _samples(rig: Rig) -> list[str]:
    from accentor.engine.reference import sample_paths

    names = []
    for path in sample_paths():
        data = path.read_bytes()
        names.append(sha256_hex(data))
        rig.objects.put(image_key(names[-1]), data)
    return names


def _jobs(count: int, images: list[str], fresh: Iterator[int]) -> list[dict[str, Any]]:
    """Return jobs that nobody has asked for."""
    return [
        {"feature": f"logit:{seed % LOGITS}", "image": images[seed % len(images)], "seed": seed}
        for seed in itertools.islice(fresh, count)
    ]


def _bulk(rig: Rig, jobs: list[dict[str, Any]]) -> float:
    with clock() as took, rig.http() as client:
        body = {"model": MODEL, "jobs": jobs, "recipe": RECIPE}
        batch = client.post("/v1/batches", json=body).raise_for_status().json()["id"]
        until(lambda: rig.jobs.status(batch).state.terminal, "the end of the batch", limit_s=600.0)
    assert rig.jobs.status(batch).counts.succeeded == len(jobs)
    return took()


def _single(rig: Rig, jobs: list[dict[str, Any]]) -> float:
    bodies = [{**job, "model": MODEL, "recipe": RECIPE} for job in jobs]
    return float(run_load("load_single.py", rig.url, str(CLIENTS), given=bodies)["took_s"])


def _gaps(rig: Rig, batch: str, seconds: float) -> list[float]:
    """Return the seconds from one micro-batch's end to the next."""
    ends, known = [], rig.jobs.status(batch).counts.succeeded
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ends) < 3:
        if (found := rig.jobs.status(batch).counts.succeeded) != known:
            known = found
            ends.append(time.monotonic())
        time.sleep(LOOK_S)
    gaps = [after - before for before, after in itertools.pairwise(ends)]
    longest = max(gaps)
    return [gap for gap in gaps if gap > longest / 2]


def _start_s(rig: Rig, client: httpx.Client, job: dict[str, Any]) -> float:
    """Submit a job; return the seconds until it has begun."""
    with clock() as took:
        answer = client.post("/v1/jobs", json={**job, "model": MODEL, "recipe": RECIPE})
        name = answer.raise_for_status().json()["id"].rpartition("-")[0]
        until(lambda: rig.jobs.status(name).started_at is not None, "the start of a single job")
    until(lambda: rig.jobs.status(name).state.terminal, "the end of a single job")
    return took()
