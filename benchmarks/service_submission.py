"""What it costs to submit a million jobs: as a product, and as JSON Lines."""

import gzip
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from accentor.state import sweep
from rig import Rig, clock, peak_mib, reset_peak, resident_mib, run_load
from stub import MODEL

REPEATS = 20
WARM = 5
TICKS = 200
IMAGES = 1_000


def product(folder: Path, quick: bool) -> Group:
    """Submit product batches of a million jobs, and let them wait."""
    with Rig(folder) as rig:
        rig.announce_stub()
        pictures = rig.pictures(IMAGES)
        rig.start_api()
        table = Table("form", "body, kB", "median, ms", "worst, ms", "CPU, ms", "Redis, kB a batch", "waiting, kB")
        table.title = f"product batches of 1,000,000 jobs, no worker; {REPEATS} each (target: 100 ms, 4 MB)"
        layer = {"layer": "conv", "range": "0:15625"}
        channels = [f"channel:conv:{unit}" for unit in range(1_000)]
        forms: dict[str, dict[str, Any]] = {
            "a layer's 15,625 channels × 64 images": {"features": layer, "images": pictures[:64]},
            "the same, custom_id pattern": {
                "features": layer, "images": pictures[:64], "custom_id": "{feature}/{image:.8}/{seed}",
            },
            "1,000 listed features × 1,000 images": {"features": channels, "images": pictures},
        }  # fmt: skip
        for name, form in forms.items():
            table.add_row(name, *_submit(rig, form, 5 if quick else REPEATS))
    return Group(table)


def _submit(rig: Rig, form: dict[str, Any], repeats: int) -> list[str]:
    with rig.http() as client:
        size = len(client.build_request("POST", "/v1/batches", json=form).content)
        seconds = []
        memory, cpu = rig.redis_bytes(), rig.cpu_s("api")
        for repeat in range(-WARM, repeats):
            if repeat == 0:
                memory, cpu = rig.redis_bytes(), rig.cpu_s("api")
            with clock() as took:
                answer = client.post("/v1/batches", json={"model": MODEL, **form})
            assert answer.status_code == 202, answer.text
            assert answer.json()["total"] == 1_000_000
            seconds.append(took())
    cpu = rig.cpu_s("api") - cpu
    accepted = rig.redis_bytes() - memory
    for _ in range(TICKS):
        sweep(rig.jobs, lambda _: None, rig.settings)
    waiting = rig.redis_bytes() - memory
    times = [1e3 * second for second in seconds[WARM:]]
    return [
        f"{size / 1e3:.1f}",
        f"{statistics.median(times):.1f}",
        f"{max(times):.1f}",
        f"{1e3 * cpu / repeats:.1f}",
        f"{accepted / repeats / 1e3:.1f}",
        f"{waiting / repeats / 1e3:.1f}",
    ]


def json_lines(folder: Path, quick: bool) -> Group:
    """Upload JSON Lines of growing length, each line a job with its own custom_id."""
    sizes = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    with Rig(folder) as rig:
        rig.announce_stub()
        pictures = rig.pictures(IMAGES)
        rig.start_api()
        pid = rig.pid("api")
        table = Table("lines", "packed", "MB", "lines/s", "lines a CPU s", "memory before, MiB", "peak growth, MiB")
        table.title = "JSON Lines of an API process (target: 20,000 lines/s, growth ≤ 60 MiB from 10 k to 1 M lines)"
        _send(rig, _write(folder / "warm.jsonl", 1_000, pictures), packed=False)
        for size, packed in [(size, False) for size in sizes] + [(sizes[-1], True)]:
            path = _write(folder / "body.jsonl", size, pictures)
            if packed:
                path.write_bytes(gzip.compress(path.read_bytes(), 6))
            before, cpu = resident_mib(pid), rig.cpu_s("api")
            reset_peak(pid)
            seconds = _send(rig, path, packed=packed)
            cpu = rig.cpu_s("api") - cpu
            table.add_row(
                f"{size:,}",
                "gzip" if packed else "no",
                f"{path.stat().st_size / 1e6:.1f}",
                f"{size / seconds:,.0f}",
                f"{size / cpu:,.0f}" if cpu else "–",
                f"{before:.0f}",
                f"{peak_mib(pid) - before:.1f}",
            )
    return Group(table)


def _write(path: Path, lines: int, pictures: Sequence[str]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            file.write(
                f'{{"custom_id": "job-{number:07d}", "feature": "channel:conv:{number % 16_384}", '
                f'"image": "{pictures[number * 7 % len(pictures)]}", "seed": {number % 5}}}\n'
            )
    return path


def _send(rig: Rig, path: Path, *, packed: bool) -> float:
    answer = run_load("load_upload.py", f"{rig.url}/v1/batches?model={MODEL}", str(path), "gzip" if packed else "")
    assert answer["status"] == 202, answer["text"]
    return float(answer["seconds"])
