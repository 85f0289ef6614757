"""The asynchronous client against a running service."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.api.service import Service, artefacts, digest, picture

from accentor.errors import CanceledError, NotFoundError, ServiceError, WaitTimeoutError
from accentor_client import AsyncClient


def run(service: Service, work: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def session() -> None:
        async with AsyncClient(service.url, timeout=20.0) as client:
            await work(client)

    asyncio.run(session())


def test_a_job_from_upload_to_pictures(service: Service, tmp_path: Path) -> None:
    async def work(client: AsyncClient) -> None:
        image = await client.images.upload(picture())
        assert image.id == digest(picture())
        job = await client.jobs.create(model="toy", feature="logit:stripes", image=image)
        await asyncio.to_thread(service.run, job.status.batch, 0)
        result = (await job.wait(10)).result
        assert (result.before, result.after) == (0.5, 2.0)
        assert (await result.image()).getpixel((0, 0)) == (0, 90, 200)
        assert (await result.overlay()).getpixel((0, 0)) == (1, 90, 200)
        assert (await result.opacity()).getpixel((0, 0)) == 100
        assert len(await result.frames()) == 3
        folder = await result.save(tmp_path / "out")
        assert (folder / "frames.webp").read_bytes() == artefacts(0)["frames.webp"]
        assert (await client.jobs.get(job.id)).state == "succeeded"

    run(service, work)


def test_a_batch(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        batch = await client.batches.create(
            model="toy", features=["logit:0", "logit:1"], images=[picture(1), picture(2), picture(1)], pairing="product"
        )
        assert batch.status.total == 6
        seen = []
        for index in (4, 0):
            await asyncio.to_thread(service.run, batch.id, index)
        async for result in batch.results(timeout=10):
            seen.append(result.index)
            if len(seen) == 2:
                await asyncio.to_thread(service.run, batch.id, 1, 2, 3, 5)
        assert sorted(seen) == [0, 1, 2, 3, 4, 5]
        assert (await (await client.batches.get(batch.id)).wait(5)).counts.succeeded == 6

    run(service, work)


def test_waiting_in_vain_and_canceling(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        job = await client.jobs.create(model="toy", feature="logit:0", image=picture())
        with pytest.raises(WaitTimeoutError):
            await job.wait(timeout=0.2)
        await job.cancel()
        with pytest.raises(CanceledError):
            _ = job.result
        batch = await client.batches.create(model="toy", features=["logit:0"], images=[picture()])
        with pytest.raises(WaitTimeoutError):
            await batch.wait(timeout=0.2)
        assert (await batch.cancel()).state == "canceled"
        with pytest.raises(NotFoundError):
            await client.jobs.get("nope")

    run(service, work)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accentor_client._requests.FIRST_PAUSE_S", 0.01)

    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:9") as client:
            await client.batches.get("b")

    with pytest.raises(ServiceError, match="does not answer"):
        asyncio.run(ask())
