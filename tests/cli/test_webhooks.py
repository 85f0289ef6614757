"""``accentor webhooks`` against a running service, with a real receiver."""

import json

import pytest
from tests.api.service import Service
from tests.api.test_webhooks import open_service, receiver, settings
from tests.cli.test_service_commands import Run, run
from tests.receiver import Receiver
from tests.servers import wait_until

from accentor.webhooks import verify

__all__ = ["open_service", "receiver", "run", "settings"]


@pytest.fixture
def service(open_service: Service) -> Service:
    return open_service


def test_from_its_making_to_its_end(run: Run, receiver: Receiver) -> None:
    status, out, err = run("webhooks", "create", receiver.url, "--event", "batch.failed", "--description", "the lab's")
    assert status == 0
    secret = out.strip()
    assert secret.startswith("whsec_")
    (made,) = json.loads(run("webhooks", "list", "--json")[1])
    name = made["id"]
    assert name in err
    assert (made["events"], made["description"]) == (["batch.failed"], "the lab's")
    assert "well" in run("webhooks", "list")[1]

    message = run("webhooks", "test", name)[1].strip()
    (request,) = receiver.wait(1)
    assert request.id == message
    assert verify(request.body, request.headers, secret).type == "webhook.test"
    wait_until(lambda: json.loads(run("webhooks", "attempts", name, "--json")[1]) != [], what="the attempt")
    assert "204" in run("webhooks", "attempts", name)[1]

    rotated = json.loads(run("webhooks", "rotate-secret", name, "--overlap-s", "0", "--json")[1])["secret"]
    run("webhooks", "test", name)
    request = receiver.wait(2)[1]
    assert verify(request.body, request.headers, rotated).type == "webhook.test"
    assert json.loads(run("webhooks", "show", name)[1])["disabled_at"] is None
    assert "enabled" in run("webhooks", "enable", name)[1]
    assert "deleted" in run("webhooks", "delete", name)[1]
    status, _, err = run("webhooks", "show", name)
    assert (status, "there is no webhook" in err) == (2, True)
