"""Who is let in, how often, and what is done once; on a running API with real Redis."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers
from tests.api.service import Service, picture

from accentor.errors import InvalidRequestError
from accentor.settings import Settings
from accentor.spec import Failure
from accentor.spec.datasets import DatasetSpec
from accentor.state import AccessStore, OnceStore, Scope, make_key
from accentor.storage.datasets import DatasetStore
from accentor_api import access as module
from accentor_api import once as once_module
from accentor_api.access import check_access, is_open, needs_keys
from accentor_api.middleware import refused_sender

ANY = "0.0.0.0"  # noqa: S104 - nothing listens there: it is refused
BOTH = (Scope.READ, Scope.SUBMIT)
OPEN = {"/", "/healthz", "/readyz", "/openapi.json", "/v1/objects/{key}", "/v1/atlases/{atlas_id}/site/{secret}/{path}"}


@pytest.fixture
def closed(settings: Settings) -> Iterator[Service]:
    """Return an API that asks for keys."""
    service = Service(settings.model_copy(update={"allow_anonymous": False}))
    service.start()
    service.announce()
    yield service
    service.stop()


def let_in(service: Service, *scopes: Scope, **limits: Any) -> dict[str, str]:
    """Make a key and return the header that shows it."""
    key, token = make_key("ana", scopes or BOTH, **limits)
    AccessStore(service.redis).add(key)
    return {"Authorization": f"Bearer {token}"}


def upload(service: Service, header: dict[str, str]) -> str:
    service.http.headers.update(header)
    image = service.upload()
    del service.http.headers["Authorization"]
    return image


def calls(service: Service) -> Iterator[tuple[str, str]]:
    """Return every call that the document knows."""
    for path, item in service.http.get("/openapi.json").json()["paths"].items():
        for method in item:
            yield method.upper(), path.replace("{sha256}", "0" * 64).replace("{name}", "toy")


def test_everything_that_is_not_open_asks_for_a_key(closed: Service) -> None:
    asked = [*calls(closed), ("GET", "/metrics"), ("GET", "/nope"), ("DELETE", "/"), ("POST", "/v1/objects/x")]
    for method, path in asked:
        answer = closed.http.request(method, path)
        is_free = method == "GET" and path in OPEN
        assert (answer.status_code == 401) != is_free, (method, path)
        if not is_free:
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert answer.headers["content-type"] == "application/problem+json"
    answer = closed.http.get("/v1/models").json()
    assert answer["code"] == "unauthorized"
    assert "accentor keys create" in answer["detail"]
    assert closed.http.get("/static/js/main.js").status_code == 200


def test_a_signed_link_needs_no_key(closed: Service) -> None:
    key = let_in(closed)
    image = upload(closed, key)
    job = closed.http.post("/v1/jobs", json={"model": "toy", "feature": "logit:0", "image": image}, headers=key).json()
    closed.run(job["batch"], 0)
    urls = closed.http.get(f"/v1/jobs/{job['id']}", headers=key).json()["urls"]
    assert closed.http.get(urls["overlay.png"]).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "reads", "submits"),
    [((Scope.READ,), 404, 403), ((Scope.SUBMIT,), 403, 404), (BOTH, 404, 404), ((Scope.ADMIN,), 404, 404)],
)
def test_scopes(closed: Service, scopes: tuple[Scope, ...], reads: int, submits: int) -> None:
    header = let_in(closed, *scopes)
    assert closed.http.get("/v1/batches/abc", headers=header).status_code == reads
    assert closed.http.head(f"/v1/images/{'0' * 64}", headers=header).status_code == reads
    assert closed.http.post("/v1/batches/abc/cancel", headers=header).status_code == submits
    assert closed.http.delete("/v1/batches/abc", headers=header).status_code == submits
    assert closed.http.get("/metrics", headers=header).status_code == (200 if reads == 404 else 403)


def test_a_missing_scope_is_named(closed: Service) -> None:
    answer = closed.http.post("/v1/batches/abc/cancel", headers=let_in(closed, Scope.READ))
    told = answer.json()
    assert (told["code"], told["needed"], told["scopes"]) == ("missing-scope", "submit", ["read"])
    assert 'error="insufficient_scope", scope="submit"' in answer.headers["www-authenticate"]


def test_unknown_revoked_and_expired_keys(closed: Service) -> None:
    good = let_in(closed)
    assert closed.http.get("/v1/models", headers=good).status_code == 200
    assert closed.http.get("/v1/models", headers={"Authorization": good["Authorization"].replace("Bearer", "bEARER ")})
    store = AccessStore(closed.redis)
    store.revoke(store.all_keys()[0].id)
    late = let_in(closed, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    refused = (good, late, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"})
    said = [closed.http.get("/v1/models", headers=header) for header in refused]
    assert [answer.status_code for answer in said] == [401] * 4
    assert "was revoked" in said[0].json()["detail"]
    assert "expired at" in said[1].json()["detail"]
    assert "nonsense" not in said[2].text


def test_none_is_needed_on_loopback_but_one_that_is_shown_must_count(service: Service) -> None:
    assert service.http.get("/v1/models").status_code == 200
    assert service.http.get("/v1/models", headers={"Authorization": "Basic YTpi"}).status_code == 200
    assert service.http.get("/v1/models", headers={"Authorization": "Bearer no"}).status_code == 401
    assert service.http.post("/v1/batches/abc/cancel", headers=let_in(service, Scope.READ)).status_code == 403


def test_without_redis_nobody_is_let_in(closed: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccessStore, "find", lambda *_: (_ for _ in ()).throw(module.StateUnavailableError("down")))
    answer = closed.http.get("/v1/recipes", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["code"]) == (503, "state-unavailable")


def test_too_many_requests(closed: Service) -> None:
    header = let_in(closed, requests_per_minute=3)
    answers = [closed.http.get("/v1/models", headers=header) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    told = answers[-1].json()
    assert (told["code"], told["limit"]) == ("rate-limit", 3)
    assert 15 <= int(answers[-1].headers["retry-after"]) <= 20
    assert "3 requests a minute" in told["detail"]
    assert closed.http.get("/v1/models", headers=let_in(closed)).status_code == 200


def test_an_atlas_counts_with_all_its_pictures(closed: Service) -> None:
    closed.objects.put("photos/1.png", picture(1))
    DatasetStore(closed.objects).create(DatasetSpec(name="d", prefix="photos/"))
    header = let_in(closed, max_queued_jobs=120)
    asked = {"model": "toy", "layer": "conv1", "dataset": "d", "top_k": 1, "images": 0}
    refused = closed.http.post("/v1/atlases", json=asked, headers=header)
    assert (refused.status_code, refused.json()["jobs"], refused.json()["limit"]) == (413, 8 * 6 + 96, 120)
    assert closed.http.post("/v1/atlases", json={**asked, "limit": 2}, headers=header).status_code == 202
    assert closed.http.post("/v1/atlases", json={**asked, "limit": 2}, headers=header).status_code == 429


def test_too_many_queued_jobs(closed: Service) -> None:
    header = let_in(closed, max_queued_jobs=4)
    image = upload(closed, header)

    def submit(count: int) -> httpx.Response:
        spec = {"model": "toy", "features": [f"logit:{unit}" for unit in range(count)], "images": [image], "seeds": 2}
        return closed.http.post("/v1/batches", json=spec, headers=header)

    def submit_lines(count: int) -> httpx.Response:
        lines = [
            json.dumps({"model": "toy", "feature": "logit:0", "image": image, "seed": seed}) for seed in range(count)
        ]
        kind = {"Content-Type": "application/jsonl"}
        return closed.http.post("/v1/batches", content="\n".join(lines), headers=header | kind)

    first = submit(1)
    assert first.status_code == 202
    for refused in (submit_lines(3), submit_lines(4)):
        assert (refused.status_code, refused.json()["code"]) == (429, "queue-limit")
        assert (refused.json()["queued"], refused.json()["limit"]) == (2, 4)
        assert int(refused.headers["retry-after"]) > 0
    assert (submit(3).status_code, submit(3).json()["limit"]) == (413, 4)
    assert submit_lines(2).status_code == 202
    closed.run(first.json()["id"], 0, 1)
    assert submit(1).status_code == 202
    assert len(closed.http.get("/v1/batches", headers=header).json()["data"]) == 3


def test_what_is_queued_again_counts_too(closed: Service) -> None:
    header = let_in(closed, max_queued_jobs=2)
    image = upload(closed, header)
    job = {"model": "toy", "feature": "logit:0", "image": image}
    batch = closed.http.post("/v1/jobs", json=job, headers=header).json()["batch"]
    closed.fail(batch, 0, Failure(code="unexpected", detail="no"))
    for seed in (1, 2):
        assert closed.http.post("/v1/jobs", json={**job, "seed": seed}, headers=header).status_code == 202
    assert closed.http.post(f"/v1/batches/{batch}/retry", headers=header).status_code == 429
    assert closed.http.get(f"/v1/batches/{batch}", headers=header).json()["state"] == "failed"
    assert closed.http.post(f"/v1/batches/{batch}/retry", headers=let_in(closed)).status_code == 202


def again(service: Service, path: str, key: str, body: Any, **headers: str) -> httpx.Response:
    return service.http.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def batches(service: Service) -> int:
    return len(service.http.get("/v1/batches").json()["data"])


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_the_same_request_is_done_once(service: Service, image: str, path: str) -> None:
    job = {"model": "toy", "feature": "logit:0", "image": image}
    many = {"model": "toy", "features": ["logit:0", "logit:1"], "images": [image]}
    body = job if path == "/v1/jobs" else many
    first, second = (again(service, path, "k1", body) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["location"] == second.headers["location"] == f"{path}/{first.json()['id']}"
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert batches(service) == 1
    assert again(service, path, "k2", body).json()["id"] != first.json()["id"]
    batch = first.json().get("batch", first.json()["id"])
    service.run(batch, *range(1 if path == "/v1/jobs" else 2))
    assert again(service, path, "k1", body).json()["state"] == "succeeded"


def test_another_request_under_the_same_key_is_refused(service: Service, image: str) -> None:
    job = {"model": "toy", "feature": "logit:0", "image": image}
    made = again(service, "/v1/jobs", "k", job).json()
    others = [
        again(service, "/v1/jobs", "k", {**job, "seed": 1}),
        again(service, "/v1/jobs?force=true", "k", job),
        again(service, "/v1/batches", "k", job),
    ]
    for other in others:
        assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
        assert other.json()["batch"] == made["batch"]
    assert batches(service) == 1


def test_lines_are_done_once(service: Service, image: str) -> None:
    lines = "".join(
        json.dumps({"model": "toy", "feature": "logit:0", "image": image, "seed": n}) + "\n" for n in range(50)
    )

    def pieces(text: str) -> Iterator[bytes]:
        for start in range(0, len(text), 997):
            yield text[start : start + 997].encode()

    headers = {"Idempotency-Key": "k", "Content-Type": "application/jsonl"}
    first, second = (service.http.post("/v1/batches", content=pieces(lines), headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert second.json()["total"] == 50
    other = service.http.post("/v1/batches", content=pieces(lines[:-1]), headers=headers)
    assert other.json()["code"] == "idempotency-key-reused"


def test_a_refused_request_and_a_dry_run_leave_the_key_free(service: Service, image: str) -> None:
    spec = {"model": "toy", "features": ["logit:99"], "images": [image]}
    assert again(service, "/v1/batches", "k", spec).status_code == 422
    assert again(service, "/v1/batches?dry_run=true", "k", {**spec, "features": ["logit:1"]}).status_code == 200
    made = again(service, "/v1/batches", "k", {**spec, "features": ["logit:1"]})
    assert made.status_code == 202
    assert "idempotency-replayed" not in made.headers


def test_ten_at_once_make_one_batch(service: Service, image: str) -> None:
    job = {"model": "toy", "feature": "logit:0", "image": image}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: again(service, "/v1/jobs", "k", job), range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 9
    assert batches(service) == 1


def test_the_second_is_told_to_come_again_if_the_first_takes_long(
    service: Service, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once_module, "PATIENCE_S", 0.3)
    gate = threading.Event()
    body = json.dumps({"model": "toy", "feature": "logit:0", "image": image}).encode()

    def slowly() -> Iterator[bytes]:
        yield body[:10]
        gate.wait(10)
        yield body[10:]

    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=service.url, timeout=20.0) as http:
        first = pool.submit(http.post, "/v1/jobs", content=slowly(), headers=headers)
        time.sleep(0.3)
        second = service.http.post("/v1/jobs", content=body, headers=headers)
        gate.set()
        assert first.result().status_code == 202
    assert (second.status_code, second.json()["code"]) == (409, "idempotency-under-way")
    assert second.headers["retry-after"] == "5"


def test_a_client_that_hangs_up_leaves_the_key_free(service: Service, image: str) -> None:
    head = (
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Idempotency-Key: k\r\nContent-Length: 900\r\n\r\n{"
    )
    with socket.create_connection(("127.0.0.1", service.settings.port)) as connection:
        connection.sendall(head.encode())
        time.sleep(0.2)
    made = again(service, "/v1/jobs", "k", {"model": "toy", "feature": "logit:0", "image": image})
    assert made.status_code == 202


def test_a_submission_whose_api_died_is_finished_under_its_id(
    service: Service, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("accentor.state.once.LEASE_S", 0.01)
        OnceStore(service.redis).begin("-", "k", "feed")
    time.sleep(0.02)
    job = {"model": "toy", "feature": "logit:0", "image": image}
    answers = [again(service, "/v1/jobs", "k", job) for _ in range(2)]
    assert [answer.json()["batch"] for answer in answers] == ["feed", "feed"]
    assert batches(service) == 1


def test_keys_of_others_do_not_matter(service: Service, image: str) -> None:
    job = {"model": "toy", "feature": "logit:0", "image": image}
    callers = ({}, let_in(service), let_in(service))
    assert len({again(service, "/v1/jobs", "k", job, **header).json()["id"] for header in callers}) == 3
    assert len({again(service, "/v1/jobs", "k", job, **header).json()["id"] for header in callers}) == 3
    assert batches(service) == 3


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "é"])
def test_an_idempotency_key_that_is_none(service: Service, name: str) -> None:
    headers = {"Idempotency-Key": name.encode("latin-1"), "Content-Type": "application/json"}
    answer = service.http.post("/v1/jobs", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("host", "allowed", "needed"),
    [
        ("127.0.0.1", None, False), ("localhost", None, False), ("::1", None, False), (ANY, None, True),
        ("10.1.2.3", None, True), (ANY, True, False), ("127.0.0.1", False, True),
    ],
)  # fmt: skip
def test_where_keys_are_needed(host: str, allowed: bool | None, needed: bool) -> None:
    assert needs_keys(Settings(host=host, allow_anonymous=allowed)) is needed


def test_what_is_open() -> None:
    assert is_open("HEAD", "/")
    assert is_open("GET", "/static/css/base.css")
    for method, path in (
        ("POST", "/healthz"),
        ("GET", "/healthz/"),
        ("GET", "/metrics"),
        ("GET", "/staticx"),
        ("GET", ""),
    ):
        assert not is_open(method, path)


def test_an_open_address_without_keys_is_refused_at_the_start(settings: Settings, redis_client: Any) -> None:
    public = settings.model_copy(update={"host": ANY})
    with pytest.raises(InvalidRequestError, match="accentor keys create.*ACCENTOR_ALLOW_ANONYMOUS=true"):
        check_access(public)
    check_access(public.model_copy(update={"allow_anonymous": True}))
    check_access(settings)
    check_access(public.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    AccessStore(redis_client).add(make_key("k", BOTH)[0])
    check_access(public)


def test_the_program_ends_with_the_reason(settings: Settings) -> None:
    environment = {
        **os.environ,
        "ACCENTOR_REDIS_URL": settings.redis_url.get_secret_value(),
        "ACCENTOR_STORAGE_URL": settings.storage_url,
        "ACCENTOR_SIGNING_SECRET": "s",
        "ACCENTOR_HOST": ANY,
        "ACCENTOR_PORT": "0",
    }
    command = [sys.executable, "-m", "accentor_api"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "accentor keys create" in done.stderr


@pytest.mark.parametrize(
    ("listens", "asked", "refused"),
    [
        ("127.0.0.1", "accentor.example.org", False), ("127.0.0.1", "localhost:8000", False),
        ("127.0.0.1", "evil.example", True), (ANY, "accentor.example.org:8000", False),
        (ANY, "ACCENTOR.example.org", False), (ANY, "a.lab.example", False),
        (ANY, "lab.example", True), (ANY, "evil-lab.example", True), (ANY, "localhost", True),
        (ANY, "", True), (ANY, "[", True),
    ],
)  # fmt: skip
def test_names_of_the_service(listens: str, asked: str, refused: bool) -> None:
    names = ("Accentor.example.org", "*.lab.example")
    answer = refused_sender("GET", Headers({"host": asked}), listens, (), names)
    assert (answer is not None and answer[0] == 421) is refused
    assert refused_sender("GET", Headers({"host": "any.example"}), ANY) is None


def test_pages_elsewhere_may_show_a_key(settings: Settings) -> None:
    page = "https://atlas.example.org"
    service = Service(settings.model_copy(update={"allow_anonymous": False, "cors_origins": (page,)}))
    service.start()
    try:
        asked = {
            "Origin": page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = service.http.options("/v1/jobs", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, page)
        refused = service.http.get("/v1/models", headers={"Origin": page})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, page)
    finally:
        service.stop()
