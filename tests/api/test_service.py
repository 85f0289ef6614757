"""What is around the jobs: models, links, health, metrics, the landing page, who may ask."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn
from pydantic import SecretStr
from tests.api.service import CARD, Service, artefacts
from tests.servers import RedisServer, S3Server, wait_until

from accentor.errors import InvalidRequestError
from accentor.settings import Settings
from accentor.spec import PRESETS, Failure, JobState, Progress
from accentor.state import Work
from accentor_api.app import create_app, serve
from accentor_api.links import Links


def finished_urls(service: Service) -> dict[str, str]:
    job = service.submit_job(feature="logit:0", image=service.upload())
    service.run(job["batch"], 0)
    return dict(service.http.get(f"/v1/jobs/{job['id']}").json()["urls"])


def test_models_and_layers(service: Service) -> None:
    (model,) = service.http.get("/v1/models").json()["data"]
    assert (model["name"], model["digest"], model["outputs"], model["layers"]) == ("toy", CARD.digest, 4, 3)
    assert service.http.get("/v1/models/toy").json() == CARD.model_dump(mode="json")
    layers = service.http.get("/v1/models/toy/layers").json()
    assert layers[0] == CARD.layers[0].model_dump(mode="json")
    assert (layers[0]["name"], layers[0]["type"], layers[0]["shape"]) == ("conv1", "Conv2d", [8, 16, 16])


def test_a_model_with_a_slash_in_its_name(service: Service) -> None:
    service.announce(CARD.model_copy(update={"name": "timm:org/vit.v1"}))
    assert service.http.get("/v1/models/timm:org/vit.v1").json()["name"] == "timm:org/vit.v1"
    assert len(service.http.get("/v1/models/timm:org%2Fvit.v1/layers").json()) == 3


def test_an_unknown_model(service: Service) -> None:
    answer = service.http.get("/v1/models/nope/layers")
    assert (answer.status_code, answer.json()["code"], answer.json()["models"]) == (404, "not-found", ["toy"])


def test_recipes(service: Service) -> None:
    found = service.http.get("/v1/recipes").json()
    assert found == {name: recipe.model_dump(mode="json") for name, recipe in PRESETS.items()}


def test_links_lead_to_the_artefacts(service: Service) -> None:
    urls = finished_urls(service)
    for name, data in artefacts(0).items():
        answer = service.http.get(urls[name])
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == ("image/webp" if name.endswith("webp") else "image/png")
        again = service.http.get(urls[name], headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        age = re.search(r"max-age=(\d+)", answer.headers["cache-control"])
        assert age is not None
        assert service.settings.link_seconds - 5 <= int(age[1]) <= service.settings.link_seconds


def test_links_that_were_tampered_with(service: Service) -> None:
    url = finished_urls(service)["overlay.png"]
    expires = parse_qs(urlsplit(url).query)["expires"][0]
    for forged in (
        url.replace("overlay.png", "opacity.png"),
        url.replace(expires, str(int(expires) + 1)),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.replace("/v1/objects/", "/v1/objects/../"),
        url.replace("signature=", "signature=%C3%A9"),
    ):
        answer = service.http.get(forged)
        assert answer.status_code in {403, 404}
        assert answer.json()["code"] in {"forbidden", "not-found"}


def test_links_expire(service: Service) -> None:
    key = urlsplit(finished_urls(service)["overlay.png"]).path.removeprefix("/v1/objects/")
    expired = Links(service.objects, service.settings.signing_secret, -5).to(key)
    answer = service.http.get(expired)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "expired" in answer.json()["detail"]


@pytest.fixture
def on_s3(s3_settings: Settings) -> Iterator[Service]:
    service = Service(s3_settings)
    service.start()
    service.announce()
    yield service
    service.stop()


def test_links_of_s3_are_the_stores_own(on_s3: Service, s3_server: S3Server) -> None:
    urls = finished_urls(on_s3)
    assert urls["overlay.png"].startswith(s3_server.endpoint)
    assert on_s3.http.get(urls["overlay.png"]).content == artefacts(0)["overlay.png"]
    assert on_s3.http.get("/v1/objects/results/x?expires=1&signature=x").status_code == 403


def test_alive_and_ready(bare: Service) -> None:
    assert bare.http.get("/healthz").json() == {"status": "ok"}
    answer = bare.http.get("/readyz")
    assert (answer.status_code, list(answer.json()["down"])) == (503, ["worker"])
    bare.announce()
    assert bare.http.get("/readyz").status_code == 200


def test_a_worker_that_is_away_leaves_its_models_known_and_not_ready(service: Service) -> None:
    assert [model["ready"] for model in service.http.get("/v1/models").json()["data"]] == [True]
    service.jobs.retract_models()
    answer = service.http.get("/readyz")
    assert (answer.status_code, list(answer.json()["down"])) == (503, ["worker"])
    assert [model["ready"] for model in service.http.get("/v1/models").json()["data"]] == [False]
    assert service.submit_job(feature="logit:0", image=service.upload())["state"] == "queued"


def test_not_ready_without_redis_and_storage(settings: Settings, durable_redis: RedisServer) -> None:
    service = Service(settings.model_copy(update={"redis_url": SecretStr(durable_redis.url), "redis_timeout_s": 1.0}))
    service.start()
    service.announce()
    try:
        assert service.http.get("/readyz").status_code == 200
        durable_redis.stop()
        answer = service.http.get("/readyz")
        assert (answer.status_code, sorted(answer.json()["down"])) == (503, ["redis", "worker"])
        answer = service.http.get("/v1/batches")
        assert (answer.status_code, answer.json()["code"]) == (503, "state-unavailable")
        assert "accentor_state_up 0.0" in service.http.get("/metrics").text
        durable_redis.start()
        assert service.http.get("/readyz").status_code == 200
        assert service.http.get("/v1/models/toy").status_code == 200
    finally:
        service.stop()


def gauges(service: Service) -> dict[str, float]:
    text = service.http.get("/metrics").text
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_metrics(service: Service) -> None:
    image = service.upload()
    batch = service.submit(features=["logit:0", "logit:1", "logit:2"], images=[image])["id"]
    job = service.submit_job(feature="logit:0", image=image)
    service.begin(batch, 0, Progress(step=1, steps=2))
    before = gauges(service)
    assert before['accentor_jobs{lane="bulk",model="toy",state="queued"}'] == 2
    assert before['accentor_jobs{lane="bulk",model="toy",state="running"}'] == 1
    assert before['accentor_jobs{lane="interactive",model="toy",state="queued"}'] == 1
    assert before["accentor_state_up"] == 1
    service.run(batch, 0, 1, 2)
    service.http.get(f"/v1/jobs/{job['id']}")
    service.http.get("/v1/jobs/nope")
    after = gauges(service)
    assert after['accentor_jobs{lane="bulk",model="toy",state="queued"}'] == 0
    for status, count in (("200", 1), ("404", 1)):
        name = f'accentor_http_requests_total{{method="GET",route="/v1/jobs/{{job_id}}",status="{status}"}}'
        assert after[name] - before.get(name, 0) == count


def test_metrics_of_ends_and_workers(service: Service) -> None:
    image = service.upload()
    batch = service.submit(features=["logit:0", "logit:1", "logit:2"], images=[image], seeds=2)["id"]
    service.run(batch, 0)
    service.jobs.finish_job(batch, 1, JobState.SUCCEEDED, cached=True)
    for index, code in ((2, "out-of-memory"), (3, "not-finite")):
        service.fail(batch, index, Failure(code=code, detail="x"))
    service.http.post(f"/v1/batches/{batch}/cancel")
    service.jobs.measures.add_work("toy", Work(steps=3, seconds=0.5, pairs=12))
    service.jobs.measures.add_work("toy", Work(steps=1, seconds=0.25, pairs=4))
    service.jobs.measures.note_memory("here:1", {"total": 80, "used": 30})
    service.jobs.measures.note_memory("dead:2", {"total": 80, "used": 30})
    found = gauges(service)
    ends = {"succeeded": 1, "cached": 1, "failed": 2, "canceled": 2}
    for end, jobs in ends.items():
        assert found[f'accentor_jobs_ended_total{{end="{end}",lane="bulk",model="toy"}}'] == jobs
    for code in ("out-of-memory", "not-finite"):
        assert found[f'accentor_jobs_failed_total{{code="{code}",lane="bulk",model="toy"}}'] == 1
    assert found['accentor_step_seconds_sum{model="toy"}'] == 0.75
    assert found['accentor_step_seconds_count{model="toy"}'] == found['accentor_step_pairs_count{model="toy"}'] == 4
    assert found['accentor_step_pairs_sum{model="toy"}'] == 16
    assert found['accentor_workers{model="toy"}'] == 1
    memory = {name: value for name, value in found.items() if name.startswith("accentor_gpu_memory_bytes")}
    assert memory == {
        'accentor_gpu_memory_bytes{kind="total",worker="here:1"}': 80,
        'accentor_gpu_memory_bytes{kind="used",worker="here:1"}': 30,
    }


def test_the_guide_names_every_metric(service: Service) -> None:
    text = service.http.get("/metrics").text
    told = {(name, kind) for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)}
    names = {name for name, _ in told if not name.endswith("_created")}
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^\| `(accentor_\w+)`", guide, re.MULTILINE))


def test_the_landing_page_needs_nothing_from_elsewhere(service: Service) -> None:
    answer = service.http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    links = re.findall(r'(?:href|src)="([^"]+)"', answer.text)
    assert {"/static/css/base.css", "/static/js/main.js", "/openapi.json"} <= set(links)
    for link in (link for link in links if not link.startswith("#")):
        assert service.http.get(link).status_code == 200, link
    assert not re.search(r"<style|style=|onclick=|<script>", answer.text)


def test_no_page_loads_from_elsewhere(service: Service) -> None:
    assert service.http.get("/docs").status_code == 404
    assert service.http.get("/redoc").status_code == 404
    paths = service.http.get("/openapi.json").json()["paths"]
    assert {"/v1/jobs", "/v1/batches/{batch_id}/results", "/v1/images/{sha256}", "/readyz"} <= set(paths)


def test_every_answer_has_a_request_id(service: Service) -> None:
    assert service.http.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for unfit in ("a b", "x" * 65, "<script>"):
        given = service.http.get("/nope", headers={"X-Request-Id": unfit})
        assert re.fullmatch(r"[0-9a-f]{32}", given.headers["x-request-id"])
        assert given.json()["request_id"] == given.headers["x-request-id"]


def test_an_unforeseen_error_is_logged_and_told_without_a_traceback(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("accentor_api.routers.batches.batch_status", broken)
    answer = service.http.get("/v1/batches/abc", headers={"X-Request-Id": "find-me"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "find-me" in caplog.text
    assert "secret inside" in caplog.text


def test_a_client_that_hangs_up_is_no_error(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\n"
    with caplog.at_level("INFO", logger="accentor_api"):
        with socket.create_connection(("127.0.0.1", service.settings.port)) as connection:
            connection.sendall(head + b"x" * 100)
            time.sleep(0.2)
        wait_until(lambda: "hung up" in caplog.text, what="the API to notice")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_pages_elsewhere_cannot_submit(service: Service) -> None:
    job = service.submit_job(feature="logit:0", image=service.upload())
    path = f"/v1/jobs/{job['id']}/cancel"
    answer = service.http.post(path, headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert service.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
    for unfit in ("null", "http://[", "", "file://"):
        assert service.http.post(path, headers={"Origin": unfit}).status_code == 403
    assert "access-control-allow-origin" not in service.http.get("/v1/models", headers={"Origin": "null"}).headers
    assert service.http.post(path, headers={"Origin": service.url}).status_code == 200


def test_names_that_were_bound_to_this_machine_are_refused(service: Service) -> None:
    answer = service.http.get("/v1/models", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "misdirected-request")
    for unfit in ("[", "localhost.evil.example", "a:b:c"):
        assert service.http.get("/v1/models", headers={"Host": unfit}).status_code in {400, 421}
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
        assert service.http.get("/healthz", headers={"Host": host}).status_code == 200


def test_making_an_application_connects_to_nothing() -> None:
    app = create_app(Settings(redis_url=SecretStr("redis://127.0.0.1:1/0"), signing_secret=SecretStr("s")))
    assert app.openapi()["info"]["title"] == "Accentor"


def test_a_folder_without_a_secret_is_refused(settings: Settings) -> None:
    bare = settings.model_copy(update={"signing_secret": None})
    with pytest.raises(InvalidRequestError, match="ACCENTOR_SIGNING_SECRET"):
        create_app(bare)
    create_app(bare.model_copy(update={"storage_url": "s3://bucket"}))


def run_api(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ACCENTOR_REDIS_URL": "redis://127.0.0.1:1/0", **variables}
    command = [sys.executable, "-m", "accentor_api"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ACCENTOR_PORT": "many"}, "ACCENTOR_PORT: "),
        ({"ACCENTOR_STORAGE_URL": "file:///tmp/x"}, "ACCENTOR_SIGNING_SECRET"),
    ],
)
def test_what_is_refused_at_the_start_is_said_in_one_line(variables: dict[str, str], said: str) -> None:
    done = run_api(**variables)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_a_server_that_does_not_start_ends_with_an_error() -> None:
    done = run_api(ACCENTOR_STORAGE_URL="ftp://nowhere", ACCENTOR_SIGNING_SECRET="s", ACCENTOR_PORT="0")
    assert done.returncode == 3
    assert "expected file://FOLDER" in done.stderr


def test_a_server_that_only_returns_is_known_not_to_have_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older releases of uvicorn return quietly where newer ones exit."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: None)
    with pytest.raises(SystemExit) as ended:
        serve(settings)
    assert ended.value.code == 3


def test_the_api_does_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
        "from accentor.settings import Settings\n"
        "from accentor_api import create_app\n"
        "create_app(Settings(signing_secret='s')).openapi()\n"
        "rooms = {'accentor_worker', 'accentor_client'} & {name.split('.')[0] for name in sys.modules}\n"
        "assert not rooms, rooms\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
