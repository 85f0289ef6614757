"""The asynchronous client against a running service."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.api.service import CARD, Service, artefacts, digest, picture

from accentor.errors import CanceledError, NotFiniteError, NotFoundError, ServiceError, WaitTimeoutError
from accentor.spec import PRESETS, Failure, JobState
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


def test_what_can_be_asked_for(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        assert [model.name for model in await client.models.list()] == ["toy"]
        assert await client.models.get("toy") == CARD
        assert list(await client.models.layers("toy")) == list(CARD.layers)
        assert await client.models.recipes() == dict(PRESETS)
        ids = [(await client.batches.create(model="toy", features=["logit:0"], images=[picture()])).id for _ in "ab"]
        assert [batch.id async for batch in client.batches.list()] == ids[::-1]
        estimate = await client.batches.estimate(model="toy", features=["logit:0"], images=[picture(1)], seeds=3)
        assert (estimate.total, estimate.images, estimate.accepted) == (3, 1, True)

    run(service, work)


def test_events(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        job = await client.jobs.create(model="toy", feature="logit:0", image=picture())
        states = []
        async for status in job.events():
            states.append(str(status.state))
            if states == ["queued"]:
                await asyncio.to_thread(service.run, status.batch, 0)
        assert (states[0], states[-1], job.state) == ("queued", "succeeded", "succeeded")
        batch = await client.batches.create(model="toy", features=["logit:1", "logit:2"], images=[picture()])
        counts = []
        async for batch_status in batch.events():
            if batch_status.counts.succeeded in counts:
                continue
            counts.append(batch_status.counts.succeeded)
            if len(counts) < 3:
                await asyncio.to_thread(service.run, batch.id, len(counts) - 1)
        assert (counts, batch.state) == ([0, 1, 2], "succeeded")

    run(service, work)


def test_a_broken_stream_is_taken_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accentor_client._transport.RECONNECT_S", 0.01)
    monkeypatch.setattr("accentor_client._transport.STREAM_SILENCE_S", 0.5)

    async def work(client: AsyncClient) -> None:
        batch = await client.batches.create(model="toy", features=["logit:0"], images=[picture()])

        async def later() -> None:
            await asyncio.sleep(1.2)
            await asyncio.to_thread(service.jobs.finish_job, batch.id, 0, JobState.SUCCEEDED)

        task = asyncio.create_task(later())
        seen = [status.counts.succeeded async for status in batch.events()]
        await task
        assert seen == [0, 1]

    run(service, work)


def test_retrying_errors_and_deleting(service: Service) -> None:
    async def work(client: AsyncClient) -> None:
        batch = await client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
        await asyncio.to_thread(service.fail, batch.id, 1, Failure(code="not-finite", detail="NaN"))
        await asyncio.to_thread(service.run, batch.id, 0)
        failed = [job async for job in batch.errors()]
        assert [job.status.index for job in failed] == [1]
        assert isinstance(failed[0].error, NotFiniteError)
        ends = [(result.index, str(result.state)) async for result in batch.results(status=["failed"])]
        assert ends == [(1, "failed")]
        assert (await batch.retry()).counts.queued == 1
        await asyncio.to_thread(service.run, batch.id, 1)
        in_order = [result.index async for result in batch.results(order="submission", timeout=5)]
        assert in_order == [0, 1]
        await batch.delete()
        with pytest.raises(NotFoundError):
            await batch.refresh()

    run(service, work)


def test_a_download_goes_on_where_it_stopped(service: Service, tmp_path: Path) -> None:
    async def work(client: AsyncClient) -> None:
        batch = await client.batches.create(model="toy", features={"layer": "conv1"}, images=[picture()])
        await asyncio.to_thread(service.run, batch.id, *range(8))
        folder = await batch.download(tmp_path / "out", timeout=10, progress=True)
        names = [f"{index:06d}-channel-conv1-{index}" for index in range(8)]
        assert sorted(path.name for path in folder.iterdir()) == [*names, "manifest.jsonl"]
        lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        assert [line["folder"] for line in lines] == names
        damaged = folder / names[5] / "frames.webp"
        damaged.write_bytes(b"mine")
        kept = (folder / names[4] / "frames.webp").stat().st_mtime_ns
        await batch.download(tmp_path / "out", timeout=10)
        assert damaged.read_bytes() == artefacts(5)["frames.webp"]
        assert (folder / names[4] / "frames.webp").stat().st_mtime_ns == kept

    run(service, work)
