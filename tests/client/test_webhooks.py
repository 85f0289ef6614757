"""Webhooks through both clients, with a real receiver."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.api.service import Service
from tests.api.test_webhooks import open_service, receiver, run_batch, settings
from tests.receiver import Receiver
from tests.servers import free_port, listens, wait_until

from accentor.errors import InvalidRequestError, InvalidSignatureError, NotFoundError
from accentor.spec import BatchStatus
from accentor.spec.webhooks import ENDS, EventType
from accentor_client import AsyncClient, Client
from accentor_client.webhooks import verify

__all__ = ["open_service", "receiver", "settings"]


def test_from_its_making_to_what_it_hears(open_service: Service, receiver: Receiver) -> None:
    with Client(open_service.url, timeout=20.0) as client:
        made = client.webhooks.create(receiver.url, description="the lab's")
        assert made.events == ENDS
        assert "whsec_" not in repr(made)
        batch = run_batch(open_service)
        (request,) = receiver.wait(1)
        event = verify(request.body, request.headers, made.secret)
        assert isinstance(event.data, BatchStatus)
        assert (event.type, event.data.id, event.data.counts.succeeded) == ("batch.succeeded", batch, 2)
        with pytest.raises(InvalidSignatureError):
            verify(request.body + b" ", request.headers, made.secret)

        rotated = client.webhooks.rotate_secret(made.id, overlap_s=0)
        message = client.webhooks.test(made.id)
        request = receiver.wait(2)[1]
        assert request.id == message
        assert verify(request.body, request.headers, rotated.secret).type == "webhook.test"
        with pytest.raises(InvalidSignatureError, match="No matching signature"):
            verify(request.body, request.headers, made.secret)
        wait_until(lambda: len(client.webhooks.attempts(made.id)) == 2, what="the attempts")
        assert [attempt.message for attempt in client.webhooks.attempts(made.id)][0] == message

        (listed,) = client.webhooks.list()
        assert listed == client.webhooks.get(made.id) == client.webhooks.enable(made.id)
        client.webhooks.delete(made.id)
        with pytest.raises(NotFoundError, match=made.id):
            client.webhooks.get(made.id)


def test_the_receiver_of_the_guide(open_service: Service, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    (tmp_path / "receiver.py").write_text(guide.partition("```python\n")[2].partition("```")[0])
    port, heard = free_port(), tmp_path / "heard.txt"
    with Client(open_service.url, timeout=20.0) as client:
        made = client.webhooks.create(f"http://127.0.0.1:{port}/")
        environment = {"ACCENTOR_WEBHOOK_SECRET": made.secret}
        with heard.open("wb") as output, (tmp_path / "log.txt").open("wb") as log:
            command = [sys.executable, str(tmp_path / "receiver.py"), str(port)]
            process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=log)
        try:
            wait_until(lambda: listens(port), what="the receiver")
            assert httpx.post(f"http://127.0.0.1:{port}/", content=b"{}").status_code == 401
            batch = run_batch(open_service)
            wait_until(lambda: batch in heard.read_text(), what="the event")
            assert heard.read_text().startswith(f"batch.succeeded id='{batch}'")
        finally:
            process.kill()
            process.wait(10)


def test_awaited(open_service: Service, receiver: Receiver) -> None:
    async def work() -> None:
        async with AsyncClient(open_service.url, timeout=20.0) as client:
            made = await client.webhooks.create(receiver.url, ["batch.failed", EventType.RUNNING])
            assert made.events == ("batch.failed", "batch.running")
            assert [webhook.id for webhook in await client.webhooks.list()] == [made.id]
            message = await client.webhooks.test(made.id)
            await asyncio.to_thread(receiver.wait, 1)
            assert receiver.received[0].id == message
            rotated = await client.webhooks.rotate_secret(made.id)
            assert rotated.secret != made.secret
            await asyncio.to_thread(lambda: wait_until(lambda: receiver.received != [], what="the test"))
            assert (await client.webhooks.get(made.id)).dropped == 0
            assert (await client.webhooks.enable(made.id)).disabled_at is None
            assert len(await client.webhooks.attempts(made.id)) <= 1
            await client.webhooks.delete(made.id)
            assert await client.webhooks.list() == []

    asyncio.run(work())


def test_what_is_wrong_is_told_before_anything_is_sent() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(InvalidRequestError, match="events.0: "):
        client.webhooks.create("https://example.org", ["batch.done"])
