"""What a worker does that ends a scan, with numbers that are given."""

import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq
from tests.api.service import CARD, Service

from accentor.spec import JobState
from accentor.spec.scans import ScanBatch, ScanCard, ScanSettings
from accentor.storage.batches import read_batch
from accentor.storage.scans import STATISTICS, TABLES, ScanStore


def finish(
    service: Service,
    status: dict[str, Any],
    tops: list[list[int]],
    folder: Path,
    numbers: list[float] | None = None,
) -> ScanCard:
    """Do what the worker does that ends a scan."""
    stored = read_batch(service.objects, status["batch"])
    assert isinstance(stored, ScanBatch)
    card = ScanCard.model_validate(
        {
            **stored.model_dump(include=set(ScanSettings.model_fields)),
            "id": status["id"], "dataset": status["dataset"], "model": "toy", "model_digest": CARD.digest,
            "layer": stored.layer, "dictionary": stored.dictionary, "features": len(tops),
            "seen": stored.range(stored.total - 1).stop, "skipped": 0, "created_at": "2026-01-02T00:00:00Z",
        }
    )  # fmt: skip
    for name in TABLES:
        (folder / f"{name}.parquet").write_bytes(name.encode())
    ranked = [(feature, image) for feature, images in enumerate(tops) for image in images]
    top = pa.table({"feature": [feature for feature, _ in ranked], "image": [image for _, image in ranked]})
    pq.write_table(top, folder / "top.parquet")
    numbers = numbers or [unit / 4 for unit in range(len(tops) - 1)] + [float("nan")]
    pq.write_table(pa.table(dict.fromkeys(STATISTICS, numbers)), folder / "features.parquet")
    ScanStore(service.objects).finish(card, folder)
    service.jobs.start_jobs(status["batch"], [0])
    service.jobs.finish_job(status["batch"], 0, JobState.SUCCEEDED)
    return card


class Scanner(threading.Thread):
    """Ends the newest batch, a scan, as soon as there is one."""

    def __init__(self, service: Service, tops: list[list[int]], folder: Path) -> None:
        super().__init__(name="scanner of the test")
        self.service, self.tops, self.folder = service, tops, folder

    def run(self) -> None:
        while not (found := self.service.jobs.recent(1)):
            time.sleep(0.02)
        batch = read_batch(self.service.objects, found[0].id)
        assert isinstance(batch, ScanBatch)
        finish(self.service, {"id": batch.scan, "dataset": batch.dataset, "batch": found[0].id}, self.tops, self.folder)
