"""Scans through both clients."""

import asyncio
from pathlib import Path

import pytest
from tests.api.scans import Scanner
from tests.api.service import Service, digest, picture

from accentor.errors import (
    CanceledError,
    InvalidRequestError,
    OutOfMemoryError,
    UnknownLayerError,
    WaitTimeoutError,
)
from accentor.spec import Failure, TopK
from accentor_client import AsyncClient, Client

TOPS = [[unit % 3, (unit + 1) % 3] for unit in range(8)]


@pytest.fixture
def dataset(service: Service, client: Client) -> str:
    for index in range(3):
        service.objects.put(f"photos/{index}.png", picture(index))
    return client.datasets.create("d", prefix="photos/", timeout=20).reference


def test_a_scan_and_what_is_paired_by_it(service: Service, client: Client, dataset: str, tmp_path: Path) -> None:
    Scanner(service, TOPS, tmp_path).start()
    told: list[tuple[int, int | None]] = []
    found = client.datasets.scan(
        "d", model="toy", layer="conv1", top_k=2, timeout=20, on_progress=lambda *state: told.append(state)
    )
    assert found.card is not None
    assert (found.state, found.dataset, found.card.features, found.card.top_k) == ("ready", dataset, 8, 2)
    assert told[0] == (0, 1)
    assert [scan.id for scan in client.datasets.scans("d")] == [found.id]
    folder = client.datasets.save_scan(found, tmp_path / "out")
    assert (folder / "sample.parquet").read_bytes() == b"sample"
    assert (folder / "top.parquet").read_bytes() == (tmp_path / "top.parquet").read_bytes()
    batch = client.batches.create(
        model="toy", features={"layer": "conv1"}, images={"dataset": "d"}, pairing=TopK(top_k=1)
    )
    assert [job.status.spec.image for job in batch.jobs()] == [digest(picture(unit % 3)) for unit in range(8)]


def test_what_is_no_scan(service: Service, client: Client, dataset: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="either layer or dictionary"):
        client.datasets.scan("d", model="toy")
    with pytest.raises(UnknownLayerError, match="'conv'"):
        client.datasets.scan("d", model="toy", layer="conv")
    with pytest.raises(WaitTimeoutError, match="scan .* has not ended within"):
        client.datasets.scan("d", model="toy", layer="conv1", timeout=0.2)
    [scan] = client.datasets.scans(dataset)
    with pytest.raises(InvalidRequestError, match="is queued: it has no tables"):
        client.datasets.save_scan(scan, tmp_path)
    assert scan.batch is not None
    service.fail(scan.batch, 0, Failure(code="out-of-memory", detail="too large"))
    assert [one.state for one in client.datasets.scans("d")] == ["failed"]


@pytest.mark.parametrize(("end", "error"), [("cancel", CanceledError), ("fail", OutOfMemoryError)])
def test_a_scan_that_ends_badly(
    service: Service, client: Client, dataset: str, end: str, error: type[Exception]
) -> None:
    def meanwhile(done: int, total: int | None) -> None:
        [scan] = client.datasets.scans("d")
        if scan.state == "queued" and end == "cancel":
            client.batches.get(scan.batch or "").cancel()
        elif scan.state == "queued":
            service.fail(scan.batch or "", 0, Failure(code="out-of-memory", detail="too large"))

    with pytest.raises(error):
        client.datasets.scan("d", model="toy", layer="conv1", timeout=20, on_progress=meanwhile)


def test_the_asynchronous_twin(service: Service, dataset: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with AsyncClient(service.url, timeout=20.0) as client:
            found = await client.datasets.scan("d", model="toy", layer="conv1", top_k=2, timeout=20)
            assert found.state == "ready"
            assert [scan.id for scan in await client.datasets.scans(dataset)] == [found.id]
            folder = await client.datasets.save_scan(found, tmp_path / "out")
            assert (folder / "images.parquet").read_bytes() == b"images"

    Scanner(service, TOPS, tmp_path).start()
    asyncio.run(work())
