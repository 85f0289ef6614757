"""Webhooks on a running API with real Redis, delivered to a real receiver."""

import ipaddress
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tests.api.service import Service
from tests.processes import Process
from tests.receiver import Received, Receiver, receiving
from tests.servers import RedisServer, free_port, listens, wait_until

from accentor.errors import InvalidSignatureError, InvalidWebhookError
from accentor.settings import Settings
from accentor.spec import Failure, JobState
from accentor.spec.webhooks import WebhookSpec
from accentor.state import AccessStore, JobStore, NewBatch, Scope, WebhookStore, connect, make_key
from accentor.state.keys import ANONYMOUS, WEBHOOKS
from accentor.webhooks import verify
from accentor_api.addresses import is_public, parse
from accentor_api.sender import retry_after_s

ALLOWED: dict[str, Any] = {"webhook_private_addresses": True, "webhook_http": True}
SOON = {**ALLOWED, "webhook_retries_s": (0.2, 0.4), "webhook_timeout_s": 1.0}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return settings with a database of their own: the API that other tests share would send these events too."""
    url = settings.redis_url.get_secret_value().removesuffix("/0")
    return settings.model_copy(update={"redis_url": SecretStr(f"{url}/1")})


@pytest.fixture
def connection(settings: Settings) -> Iterator["redis.Redis[bytes]"]:
    with connect(settings) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def open_service(settings: Settings) -> Iterator[Service]:
    """Return an API whose webhooks may go to this machine, and are tried again soon."""
    service = Service(settings.model_copy(update=SOON))
    service.start()
    service.announce()
    yield service
    service.stop()


def make(service: Service, url: str, **fields: Any) -> dict[str, Any]:
    answer = service.http.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def stands(service: Service, webhook: dict[str, Any]) -> dict[str, Any]:
    return dict(service.http.get(f"/v1/webhooks/{webhook['id']}").json())


def attempts(service: Service, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    return list(service.http.get(f"/v1/webhooks/{webhook['id']}/attempts").json()["data"])


def run_batch(service: Service) -> str:
    """Submit a batch of two jobs and run them; return its id."""
    batch = service.submit(features=["logit:0", "logit:1"], images=[service.upload()])["id"]
    service.run(batch, 0, 1)
    return str(batch)


def checked(request: Received, secret: str) -> dict[str, Any]:
    """Return the body if the signature is right, as the published library sees it."""
    return dict(Webhook(secret).verify(request.body, request.headers))


# --- delivery -----------------------------------------------------------------------------------------------------


def test_the_end_of_a_batch_is_told_signed(open_service: Service, receiver: Receiver) -> None:
    webhook = make(open_service, receiver.url, description="the lab's")
    assert webhook["secret"].startswith("whsec_")
    batch = run_batch(open_service)
    (request,) = receiver.wait(1)
    body = checked(request, webhook["secret"])
    assert body["type"] == "batch.succeeded"
    assert body["data"] == {**open_service.http.get(f"/v1/batches/{batch}").json()}
    assert body["timestamp"] == body["data"]["finished_at"]
    assert request.path == "/hook?a=1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 10
    with pytest.raises(WebhookVerificationError):
        checked(request, "whsec_" + "A" * 44)
    wait_until(lambda: stands(open_service, webhook)["last_success_at"] is not None, what="its success")
    (attempt,) = attempts(open_service, webhook)
    assert (attempt["message"], attempt["attempt"], attempt["status"], attempt["error"]) == (request.id, 1, 204, None)
    assert "secret" not in stands(open_service, webhook)
    assert stands(open_service, webhook)["description"] == "the lab's"


def test_what_is_received_is_verified(open_service: Service, receiver: Receiver) -> None:
    webhook = make(open_service, receiver.url)
    batch = run_batch(open_service)
    (request,) = receiver.wait(1)
    event = verify(request.body, request.headers, webhook["secret"])
    assert (event.type, event.data.id) == ("batch.succeeded", batch)  # type: ignore[union-attr]
    wrong = [
        (request.body.replace(b"succeeded", b"failed"), request.headers, webhook["secret"]),
        (request.body, {**request.headers, "webhook-timestamp": str(int(time.time()) - 301)}, webhook["secret"]),
        (request.body, {**request.headers, "webhook-id": "msg_other"}, webhook["secret"]),
        (request.body, {**request.headers, "webhook-signature": "v1"}, webhook["secret"]),
        (request.body, {}, webhook["secret"]),
        (b"\xff" + request.body, request.headers, webhook["secret"]),
        (request.body, request.headers, "whsec_" + "A" * 44),
        (request.body, request.headers, ""),
    ]
    for body, headers, secret in wrong:
        with pytest.raises(InvalidSignatureError, match="not to be trusted"):
            verify(body, headers, secret)


def test_after_a_failure_it_comes_again_the_same(open_service: Service, receiver: Receiver) -> None:
    receiver.answers = [(500, {}), (204, {})]
    webhook = make(open_service, receiver.url)
    run_batch(open_service)
    first, second = receiver.wait(2)
    assert (first.id, first.body) == (second.id, second.body)
    assert checked(second, webhook["secret"])["type"] == "batch.succeeded"
    wait_until(lambda: len(attempts(open_service, webhook)) == 2, what="the second attempt")
    newest, oldest = attempts(open_service, webhook)
    assert (newest["attempt"], newest["error"], newest["next_at"]) == (2, None, None)
    assert (oldest["attempt"], oldest["status"]) == (1, 500)
    assert oldest["error"] == "it answered 500, expected 200 to 299"
    assert oldest["next_at"] > oldest["at"]
    time.sleep(1.2)
    assert len(receiver.received) == 2


def test_a_receiver_that_keeps_failing_is_disabled_and_can_be_enabled(
    open_service: Service, receiver: Receiver
) -> None:
    receiver.answers = [(503, {})]
    webhook = make(open_service, receiver.url)
    run_batch(open_service)
    wait_until(lambda: stands(open_service, webhook)["disabled_at"] is not None, what="its being disabled")
    assert len({request.id for request in receiver.received}) == 1
    assert len(receiver.received) == 3
    assert stands(open_service, webhook)["disabled_reason"].startswith("it answered 503, expected 200 to 299; no event")
    refused = open_service.http.post(f"/v1/webhooks/{webhook['id']}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal-transition")
    receiver.answers = [(204, {})]
    assert open_service.http.post(f"/v1/webhooks/{webhook['id']}/enable").json()["disabled_at"] is None
    message = open_service.http.post(f"/v1/webhooks/{webhook['id']}/test").json()["message"]
    request = receiver.wait(4)[3]
    assert request.id == message
    assert checked(request, webhook["secret"])["data"] == {"webhook": webhook["id"]}


def test_one_that_is_gone_is_told_nothing_more(open_service: Service, receiver: Receiver) -> None:
    receiver.answers = [(410, {})]
    webhook = make(open_service, receiver.url)
    run_batch(open_service)
    wait_until(lambda: stands(open_service, webhook)["disabled_at"] is not None, what="its being disabled")
    assert stands(open_service, webhook)["disabled_reason"] == "it answered 410: it wants to be told nothing any more"
    assert len(receiver.received) == 1
    told = open_service.http.get("/metrics").text.splitlines()
    assert 'accentor_webhook_attempts_total{outcome="gone"} 1.0' in told
    assert "accentor_webhook_dropped_total 1.0" in told


def test_it_is_asked_again_when_it_says_so(open_service: Service, receiver: Receiver) -> None:
    receiver.answers = [(429, {"Retry-After": "3600"})]
    webhook = make(open_service, receiver.url)
    run_batch(open_service)
    wait_until(lambda: bool(attempts(open_service, webhook)), what="the first attempt")
    (attempt,) = attempts(open_service, webhook)
    assert attempt["next_at"][11:13] != attempt["at"][11:13]
    assert [retry_after_s(value) for value in ("7", "999999", "", "-1", "soon", "٣")] == [7.0, 86400.0, 0, 0, 0, 0]


def test_a_redirect_is_not_followed(open_service: Service, receiver: Receiver) -> None:
    with receiving() as elsewhere:
        receiver.answers = [(307, {"Location": elsewhere.url})]
        webhook = make(open_service, receiver.url)
        open_service.http.post(f"/v1/webhooks/{webhook['id']}/test")
        receiver.wait(2)
        assert elsewhere.received == []
    assert attempts(open_service, webhook)[-1]["status"] == 307


def test_a_silent_receiver_is_not_waited_for_and_holds_up_nobody(open_service: Service, receiver: Receiver) -> None:
    with receiving() as other:
        receiver.hold.clear()
        silent, lively = make(open_service, receiver.url), make(open_service, other.url)
        began = time.monotonic()
        run_batch(open_service)
        other.wait(1)
        assert time.monotonic() - began < 2.5
        wait_until(lambda: bool(attempts(open_service, silent)), what="its end")
        assert attempts(open_service, silent)[-1]["error"] == "no answer within 1 s"
        wait_until(lambda: stands(open_service, lively)["waiting"] == 0, what="the other's end")
        receiver.hold.set()


def test_events_that_wait_are_told_one_after_the_other_without_pauses(
    open_service: Service, receiver: Receiver
) -> None:
    webhook = make(open_service, receiver.url)
    began = time.monotonic()
    for _ in range(30):
        open_service.http.post(f"/v1/webhooks/{webhook['id']}/test")
    assert len({request.id for request in receiver.wait(30)}) == 30
    assert time.monotonic() - began < 15


def test_secrets_are_rotated_without_a_gap(open_service: Service, receiver: Receiver) -> None:
    webhook = make(open_service, receiver.url)
    place = f"/v1/webhooks/{webhook['id']}"
    rotated = open_service.http.post(f"{place}/rotate-secret").json()
    assert rotated["secret"] != webhook["secret"]
    open_service.http.post(f"{place}/test")
    (both,) = receiver.wait(1)
    assert len(both.headers["webhook-signature"].split()) == 2
    for secret in (webhook["secret"], rotated["secret"]):
        assert checked(both, secret)["type"] == "webhook.test"
    last = open_service.http.post(f"{place}/rotate-secret", params={"overlap_s": 0}).json()
    open_service.http.post(f"{place}/test")
    request = receiver.wait(2)[1]
    assert checked(request, last["secret"])
    assert checked(request, webhook["secret"])
    with pytest.raises(WebhookVerificationError):
        checked(request, rotated["secret"])


def test_redis_restarted_loses_nothing(
    settings: Settings, durable_redis: RedisServer, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    changed = {"redis_url": SecretStr(durable_redis.url), "redis_timeout_s": 1.0}
    service = Service(settings.model_copy(update=SOON | changed))
    service.start()
    service.announce()
    try:
        receiver.answers = [(500, {})]
        webhook = make(service, receiver.url)
        batch = run_batch(service)
        receiver.wait(1)
        durable_redis.stop(signal.SIGKILL)
        wait_until(lambda: "webhooks have to wait" in caplog.text, what="the warning")
        receiver.answers = [(204, {})]
        count = len(receiver.received)
        durable_redis.start()
        end_leases(service.redis)
        again = receiver.wait(count + 1, timeout_s=30)[-1]
        assert again.id == receiver.received[0].id
        assert checked(again, webhook["secret"])["data"]["id"] == batch
    finally:
        service.stop()


def test_a_single_job_is_no_batch(open_service: Service, receiver: Receiver) -> None:
    make(open_service, receiver.url)
    job = open_service.submit_job(feature="logit:0", image=open_service.upload())
    open_service.run(job["batch"], 0)
    batch = run_batch(open_service)
    assert json.loads(receiver.wait(1)[0].body)["data"]["id"] == batch
    time.sleep(1.2)
    assert len(receiver.received) == 1


def test_json_lines_and_failures_are_told(open_service: Service, receiver: Receiver) -> None:
    make(open_service, receiver.url)
    image = open_service.upload()
    lines = "".join(json.dumps({"feature": f"logit:{unit}", "image": image}) + "\n" for unit in range(2))
    answer = open_service.http.post(
        "/v1/batches", params={"model": "toy"}, content=lines, headers={"Content-Type": "application/jsonl"}
    ).json()
    open_service.fail(answer["id"], 0, Failure(code="not-finite", detail="x"))
    assert open_service.jobs.finish_job(answer["id"], 1, JobState.SUCCEEDED)
    (request,) = receiver.wait(1)
    body = json.loads(request.body)
    assert (body["type"], body["data"]["counts"]["failed"]) == ("batch.partially_failed", 1)


# --- where they may go --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://127.0.0.1/x", "127.0.0.1, which is not public"),
        ("https://localhost/x", "which is not public"),
        ("https://2130706433/x", "127.0.0.1, which is not public"),
        ("https://0/x", "0.0.0.0, which is not public"),
        ("https://10.1.2.3/x", "10.1.2.3, which is not public"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254, which is not public"),
        ("https://[::1]/x", "::1, which is not public"),
        ("https://[::ffff:192.168.0.1]/x", "which is not public"),
        ("https://[fe80::1]/x", "fe80::1, which is not public"),
        ("https://224.0.0.1/x", "224.0.0.1, which is not public"),
        ("http://192.0.2.1/x", "begins with https, given"),
        ("ftp://192.0.2.1/x", "begins with https, given"),
        ("https://user:word@192.0.2.1/x", "a user's name"),
        ("https://192.0.2.1/x#y", "a fragment"),
        ("https://a b/x", "is no "),
        ("https:///x", "is no name of a host"),
        ("nonsense", "begins with https, given 'nonsense'"),
        ("https://192.0.2.1:99999/", "at most 65535, given 99999"),
    ],
)
def test_other_addresses_are_refused(service: Service, url: str, said: str) -> None:
    answer = service.http.post("/v1/webhooks", json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-webhook"), answer.text
    assert said in answer.json()["detail"]
    assert service.http.get("/v1/webhooks").json() == {"data": []}


def test_addresses_that_are_public_and_that_are_not() -> None:
    public = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]
    private = [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "0.0.0.1", "224.0.0.251",
        "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1",
        "fec0::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "2001:0:0:0::1",
    ]  # fmt: skip
    assert [address for address in public if not is_public(ipaddress.ip_address(address))] == []
    assert [address for address in private if is_public(ipaddress.ip_address(address))] == []


def test_an_address_that_has_become_private_is_refused_at_delivery(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(settings.model_copy(update={**SOON, "webhook_private_addresses": False}))
    service.start()
    real, public = socket.getaddrinfo, True

    def rebound(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "rebind.example":
            address = "93.184.215.14" if public else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, receiver.port))]
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    try:
        webhook = make(service, f"http://rebind.example:{receiver.port}/")
        public = False
        service.http.post(f"/v1/webhooks/{webhook['id']}/test")
        wait_until(lambda: bool(attempts(service, webhook)), what="the attempt")
        error = attempts(service, webhook)[0]["error"]
        assert error.startswith("the host 'rebind.example' has the address 127.0.0.1, which is not public")
        assert receiver.received == []
    finally:
        service.stop()


def test_the_address_that_was_allowed_is_the_one_that_is_asked(
    open_service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def known(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "hook.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    webhook = make(open_service, f"http://hook.example:{receiver.port}/x")
    asked: list[str] = []
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **kwargs: (asked.append(host), known(host, *args))[1]
    )
    open_service.http.post(f"/v1/webhooks/{webhook['id']}/test")
    (request,) = receiver.wait(1)
    assert request.headers["host"] == f"hook.example:{receiver.port}"
    assert asked.count("hook.example") == 1


def certificate(folder: Path, name: str) -> tuple[str, str]:
    file, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    extensions = ["-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=critical,CA:TRUE"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", *kind, "-subj", f"/CN={name}", *extensions, "-keyout", key, "-out", file]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return file, key


@pytest.mark.parametrize("named", ["localhost", "other.example"])
def test_the_certificate_must_be_the_names_own(
    settings: Settings, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    file, key = certificate(tmp_path, named)
    monkeypatch.setenv("SSL_CERT_FILE", file)
    receiver.use_certificate(file, key)
    service = Service(settings.model_copy(update={**SOON, "webhook_http": False}))
    service.start()
    try:
        webhook = make(service, f"https://localhost:{receiver.port}/x")
        service.http.post(f"/v1/webhooks/{webhook['id']}/test")
        wait_until(lambda: bool(attempts(service, webhook)), what="the attempt")
        attempt = attempts(service, webhook)[-1]
        assert receiver.names[0] == "localhost"
        if named == "localhost":
            assert (attempt["error"], attempt["status"], len(receiver.received)) == (None, 204, 1)
        else:
            assert "certificate verify failed" in attempt["error"]
            assert receiver.received == []
    finally:
        service.stop()


def test_a_url_as_it_is_asked() -> None:
    settings = Settings(**ALLOWED)
    place = parse("https://Bücher.example:8443/a%20b?c=d", settings)
    assert (place.host, place.port, place.target) == ("xn--bcher-kva.example", 8443, "/a%20b?c=d")
    assert place.at(ipaddress.ip_address("::1")) == "https://[::1]:8443/a%20b?c=d"
    assert place.host_header == "xn--bcher-kva.example:8443"
    assert parse("http://[2001:db8::1]/", settings).host_header == "[2001:db8::1]"
    with pytest.raises(InvalidWebhookError):
        parse("https://under score.example/", settings)


# --- whose they are -----------------------------------------------------------------------------------------------


def test_each_key_has_its_own(settings: Settings, receiver: Receiver) -> None:
    service = Service(settings.model_copy(update={**SOON, "allow_anonymous": False}))
    service.start()
    service.announce()
    access = AccessStore(service.redis)

    def key(name: str, *scopes: Scope) -> dict[str, str]:
        made, token = make_key(name, scopes)
        access.add(made)
        return {"Authorization": f"Bearer {token}"}

    ana, ben = key("ana", Scope.READ, Scope.SUBMIT), key("ben", Scope.READ, Scope.SUBMIT)
    reader, chief = key("eve", Scope.READ), key("chief", Scope.ADMIN)
    try:
        refused = service.http.get("/v1/webhooks", headers=reader)
        assert (refused.status_code, refused.json()["needed"]) == (403, "submit")
        service.http.headers.update(ana)
        webhook = make(service, receiver.url)
        place = f"/v1/webhooks/{webhook['id']}"
        for call in ("", "/attempts"):
            assert service.http.get(place + call, headers=ben).status_code == 404
        for call in ("/test", "/rotate-secret", "/enable"):
            assert service.http.post(place + call, headers=ben).status_code == 404
        assert service.http.delete(place, headers=ben).status_code == 404
        assert service.http.get("/v1/webhooks", headers=ben).json() == {"data": []}
        assert [entry["id"] for entry in service.http.get("/v1/webhooks", headers=chief).json()["data"]] == [
            webhook["id"]
        ]
        service.http.headers.update(ben)
        run_batch(service)
        service.http.headers.update(ana)
        batch = run_batch(service)
        assert json.loads(receiver.wait(1)[0].body)["data"]["id"] == batch
        assert service.http.delete(place, headers=chief).status_code == 204
        assert service.http.get(place).status_code == 404
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/url"),
        ({"url": "https://x.example", "events": []}, "/events"),
        ({"url": "https://x.example", "events": ["job.done"]}, "/events/0"),
        ({"url": "https://x.example", "secret": "mine"}, "/secret"),
        ({"url": "x" * 3000}, "/url"),
    ],
)
def test_faults_of_a_webhook(service: Service, fields: dict[str, Any], pointer: str) -> None:
    answer = service.http.post("/v1/webhooks", json=fields)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_unknown_ones(service: Service) -> None:
    assert service.http.get("/v1/webhooks/nope").json()["code"] == "not-found"
    assert service.http.post("/v1/webhooks/nope/test").status_code == 404
    assert service.http.delete("/v1/webhooks/nope").status_code == 404


# --- dying --------------------------------------------------------------------------------------------------------


class Apis:
    """API processes on one Redis that can be killed."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "ACCENTOR_REDIS_URL": settings.redis_url.get_secret_value(),
            "ACCENTOR_STORAGE_URL": settings.storage_url,
            "ACCENTOR_SIGNING_SECRET": "x",
            "ACCENTOR_WEBHOOK_PRIVATE_ADDRESSES": "true",
            "ACCENTOR_WEBHOOK_HTTP": "true",
            "ACCENTOR_WEBHOOK_RETRIES_S": "[0.5]",
        }
        self.processes: list[Process] = []

    def start(self) -> Process:
        port = free_port()
        process = Process(["accentor_api"], {**self.environment, "ACCENTOR_PORT": str(port)}, self.folder / "api.log")
        self.processes.append(process)
        wait_until(lambda: listens(port), timeout_s=60, what="the API")
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.is_running:
                process.stop()


@pytest.fixture
def apis(settings: Settings, tmp_path: Path) -> Iterator[Apis]:
    apis = Apis(settings, tmp_path)
    yield apis
    apis.stop()


def end_batch(jobs: JobStore, name: str) -> None:
    """Let a batch of one job begin and succeed."""
    jobs.create_batch(NewBatch(name, "toy", "0" * 64, "bulk", 1, datetime.now(UTC), owner=ANONYMOUS))
    assert jobs.finish_job(name, 0, JobState.SUCCEEDED)


def end_leases(client: "redis.Redis[bytes]") -> None:
    """Let the leases that are held now be over."""
    due = f"{WEBHOOKS}-due"
    for name in client.zrange(due, 0, -1):
        client.zadd(due, {name: 0})


def test_an_api_killed_between_the_change_and_its_delivery_loses_nothing(
    apis: Apis, receiver: Receiver, connection: "redis.Redis[bytes]"
) -> None:
    webhooks, jobs = WebhookStore(connection), JobStore(connection)
    made = webhooks.create(WebhookSpec(url=receiver.url), ANONYMOUS)
    apis.start().stop(signal.SIGKILL)
    end_batch(jobs, "a")
    assert receiver.received == []
    receiver.hold.clear()
    second = apis.start()
    (sent,) = receiver.wait(1)
    second.popen.kill()
    second.popen.wait(10)
    receiver.hold.set()
    assert webhooks.get(made.id).waiting == 1
    end_leases(connection)
    apis.start()
    again = receiver.wait(2)[1]
    assert (again.id, again.body) == (sent.id, sent.body)
    wait_until(lambda: webhooks.get(made.id).waiting == 0, what="its end")
    assert [(entry.attempt, entry.error) for entry in webhooks.attempts(made.id)] == [(1, None)]


def test_of_several_apis_one_delivers_an_event(
    apis: Apis, receiver: Receiver, connection: "redis.Redis[bytes]"
) -> None:
    webhooks, jobs = WebhookStore(connection), JobStore(connection)
    for _ in range(3):
        webhooks.create(WebhookSpec(url=receiver.url), ANONYMOUS)
    for _ in range(2):
        apis.start()
    for index in range(20):
        end_batch(jobs, f"b{index}")
    receiver.wait(60)
    wait_until(lambda: all(webhook.waiting == 0 for webhook in webhooks.all()), what="their ends")
    time.sleep(1.2)
    assert len(receiver.received) == 60
