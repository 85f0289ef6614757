"""A million jobs from the request to the end, and every one of them accounted for."""

import struct
from collections import Counter
from pathlib import Path

from rich.console import Group
from rich.table import Table

from accentor.spec import BatchState, Counts
from accentor.state.keys import batch_keys
from rig import Rig, clock, peak_mib, reset_peak, until
from stub import MODEL

IMAGES = 64
CHANNELS = 15_625
KEY_BYTES = 32
LIMIT_S = 3_600.0
WORKERS = ("worker 1", "worker 2")
RECIPE = {"steps": 4, "crops": 2, "size": 64}


def million(folder: Path, quick: bool) -> Group:
    """Let two workers run a batch of 1,000,000 jobs to its end."""
    channels = CHANNELS // 100 if quick else CHANNELS
    total = channels * IMAGES
    with Rig(folder) as rig:
        for name in WORKERS:
            rig.start_stub_worker(name)
        pictures = rig.pictures(IMAGES)
        rig.start_api()
        names = (*WORKERS, "api", "redis")
        before, cpu = rig.redis_bytes(), {name: rig.cpu_s(name) for name in names}
        reset_peak(rig.pid("redis"))
        features = {"layer": "conv", "range": f"0:{channels}"}
        body = {"model": MODEL, "features": features, "images": pictures, "recipe": RECIPE}
        with clock() as took, rig.http() as client:
            batch = client.post("/v1/batches", json=body).raise_for_status().json()["id"]
            until(lambda: rig.jobs.status(batch).state.terminal, "the end of the batch", limit_s=LIMIT_S)
        table = Table(
            "what", "figure", title=f"{total:,} jobs run to the end by two workers, engine and results a stub"
        )
        table.add_row("wall, s", f"{took():.1f}")
        table.add_row("jobs/s", f"{total / took():,.0f}")
        for name in names:
            table.add_row(f"CPU of {name}, µs a job", f"{1e6 * (rig.cpu_s(name) - cpu[name]) / total:.1f}")
        table.add_row("Redis data grew by, MB", f"{(rig.redis_bytes() - before) / 1e6:.2f}")
        table.add_row("Redis process at most, MiB", f"{peak_mib(rig.pid('redis')):.0f}")
        for what, figure in accounts(rig, batch, total).items():
            table.add_row(what, figure)
    return Group(table)


def accounts(rig: Rig, batch: str, total: int) -> dict[str, str]:
    """Return what became of every job of a batch; an `AssertionError` says which is missing or was ended twice."""
    status = rig.jobs.status(batch)
    assert (status.state, status.counts) == (BatchState.SUCCEEDED, Counts(succeeded=total)), status
    states = rig.client.get(batch_keys(batch)[1])
    assert states == b"s" * total, Counter(states)
    ends = Counter(index for (index,) in struct.iter_unpack("<I", rig.client.get(batch_keys(batch)[4]) or b""))
    assert len(ends) == total == ends.total(), ends.most_common(3)
    shares = [path.stat().st_size // KEY_BYTES for path in sorted(rig.ledgers.iterdir())]
    ledger = b"".join(path.read_bytes() for path in rig.ledgers.iterdir())
    keys = {ledger[place : place + KEY_BYTES] for place in range(0, len(ledger), KEY_BYTES)}
    assert len(keys) == total, len(keys)
    assert min(shares) > 0, shares
    return {
        "jobs that succeeded, each of them ended once": f"{status.counts.succeeded:,}",
        "different results stored": f"{len(keys):,}",
        "results stored, by worker": ", ".join(f"{share:,}" for share in shares),
    }
