"""How quickly the API tells a batch's status while the batch runs and many listen."""

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from rig import Rig, clock, percentile, run_load, until
from stub import MODEL

JOBS = 1_000_000
JOB_S = 0.002
RATE = 200
LISTENERS = 500
SECONDS = 15.0
RECIPE = {"steps": 4, "crops": 2, "size": 64}


def status(folder: Path, quick: bool) -> Group:
    """Ask for the status 200 times a second."""
    table = Table("requests/s", "listeners", "p50, ms", "p99, ms", "worst, ms", "p99 of the asker's own lag, ms")
    for column in ("events/s", "API, CPU s/s", "worker, CPU s/s", "asker, CPU s/s"):
        table.add_column(column)
    table.title = (
        "status of a bulk batch that runs, a stub engine keeping a core busy (target: p99 ≤ 25 ms with 500 listeners)"
    )
    with Rig(folder) as rig:
        rig.start_stub_worker(job_s=JOB_S)
        pictures = rig.pictures(64)
        rig.start_api()
        body = {"model": MODEL, "features": {"layer": "conv", "range": "0:15625"}, "images": pictures, "recipe": RECIPE}
        with rig.http() as client:
            batch = client.post("/v1/batches", json=body).raise_for_status().json()["id"]
            until(lambda: rig.jobs.status(batch).counts.succeeded > 0, "the first job")
            for listeners in (0, LISTENERS):
                for _ in range(1 if quick else 3):
                    table.add_row(*_measure(rig, batch, listeners, SECONDS / 3 if quick else SECONDS))
            client.post(f"/v1/batches/{batch}/cancel").raise_for_status()
    return Group(table)


def _measure(rig: Rig, batch: str, listeners: int, seconds: float) -> list[str]:
    port = str(rig.settings.port)
    before = [rig.cpu_s(name) for name in ("api", "worker")]
    with clock() as took:
        load: dict[str, Any] = run_load(
            "load_status.py", "127.0.0.1", port, batch, str(listeners), str(RATE), str(seconds)
        )
    spent = [rig.cpu_s(name) - was for name, was in zip(("api", "worker"), before, strict=True)] + [load["cpu_s"]]
    assert not load["refused"]
    times = [1e3 * second for second in load["seconds"]]
    return [
        str(RATE),
        str(listeners),
        f"{percentile(times, 0.5):.1f}",
        f"{percentile(times, 0.99):.1f}",
        f"{max(times):.1f}",
        f"{1e3 * percentile(load['lags'], 0.99):.1f}",
        f"{load['events_a_second']:.0f}",
        *(f"{seconds / took():.2f}" for seconds in spent),
    ]
