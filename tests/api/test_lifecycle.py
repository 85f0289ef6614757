"""Batches in short form, forced, with a deadline; retried, deleted, polled, and used from pages elsewhere."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.api.service import CARD, Service, picture
from tests.api.test_faults import faults, problem
from tests.servers import wait_until

from accentor.logs import ContextFilter
from accentor.settings import Settings
from accentor.spec import PRESETS, Failure, JobSpec, JobState, Progress, Recipe
from accentor.state.keys import DEADLINES, UPLOADS
from accentor_api import estimates
from accentor_api.looks import Looks

ORIGIN = "https://atlas.example.org"


@pytest.fixture
def images(service: Service) -> list[str]:
    return [service.upload(picture(shade)) for shade in range(2)]


# --- short forms --------------------------------------------------------------------------------------------------


def test_a_range_of_a_layer_with_names(service: Service, images: list[str]) -> None:
    features = {"layer": "layer1.0.conv2", "range": "2:10", "stride": 3}
    batch = service.submit(features=features, images=images, custom_id="{feature}/{image:.8}")
    assert batch["total"] == 6
    job = service.http.get(f"/v1/jobs/{batch['id']}-5").json()
    assert job["spec"]["custom_id"] == f"channel:layer1.0.conv2:8/{images[1][:8]}"


@pytest.mark.parametrize(
    ("change", "pointer", "code", "said"),
    [
        ({"features": {"layer": "conv1", "range": "0:9"}}, "/features/range", "unit-out-of-range", "units 0 to 7"),
        ({"features": {"layer": "conv1", "range": "7:3"}}, "/features/range", "invalid-request", "is empty"),
        ({"features": {"layer": "conv1", "range": "x"}}, "/features/range", "invalid-request", "pattern"),
        ({"features": {"layer": "conv1", "stride": 0}}, "/features/stride", "invalid-request", "greater than"),
        ({"features": {"dictionary": "sae"}}, "/features/dictionary", "unknown-dictionary", "'sae'"),
        ({"images": {"dataset": "dogs"}}, "/images/dataset", "unknown-dataset", "'dogs'"),
        ({"pairing": {"top_k": 8}}, "/pairing", "invalid-request", "needs the images of a dataset"),
        ({"pairing": {"top_k": 0}}, "/pairing/top_k", "invalid-request", "greater than"),
        ({"custom_id": "{layer}"}, "/custom_id", "invalid-request", "the placeholder {layer}"),
        ({"custom_id": "{image}"}, "/custom_id", "duplicate-custom-id", "differ by feature"),
        ({"deadline_s": 0}, "/deadline_s", "invalid-request", "greater than"),
        ({"force": "perhaps"}, "/force", "invalid-request", "boolean"),
    ],
)
def test_faults_of_short_forms(
    service: Service, images: list[str], change: dict[str, Any], pointer: str, code: str, said: str
) -> None:
    body = {"model": "toy", "features": ["logit:0", "logit:1"], "images": images, **change}
    found = problem(service, "/v1/batches", body)
    assert (found["status"], found["code"]) == (422, code)
    assert (pointer, code) in faults(found)
    assert said in found["detail"]
    assert service.jobs.recent(10) == []


def test_a_million_million_jobs(service: Service, images: list[str]) -> None:
    body = {"model": "toy", "features": ["logit:0"] * 100_000, "images": images[:1] * 100_000, "seeds": 64}
    found = problem(service, "/v1/batches", body)
    assert (found["status"], found["code"]) == (413, "too-large")
    assert (found["jobs"], found["limit"]) == (640_000_000_000, service.settings.max_batch_jobs)


# --- dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_be_refused(service: Service, images: list[str]) -> None:
    body = {"model": "toy", "features": ["logit:0", "logit:9"], "images": [images[0], "e" * 64], "seeds": 3}
    found = service.http.post("/v1/batches?dry_run=true", json=body).json()
    assert (found["total"], found["accepted"]) == (12, False)
    assert [(fault["pointer"], fault["code"]) for fault in found["refused"]] == [("/features/1", "unit-out-of-range")]
    body["features"] = ["logit:0"]
    found = service.http.post("/v1/batches?dry_run=true", json=body).json()
    assert (found["total"], found["accepted"], found["refused"][0]["code"]) == (6, False, "invalid-request")
    body["features"] = {"layer": "nowhere"}
    found = service.http.post("/v1/batches?dry_run=true", json=body).json()
    assert (found["total"], found["accepted"], found["refused"][0]["code"]) == (0, False, "unknown-layer")


def test_a_dry_run_of_many_is_an_estimate(service: Service, images: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "EXACT_JOBS", 100)
    for unit in range(2):
        for seed in range(64):
            service.store_result(JobSpec(model="toy", feature=f"logit:{unit}", image=images[0], seed=seed))
    service.jobs.shards.note_speed("bulk", "toy", 6.0, work=600)
    body = {"model": "toy", "features": [f"logit:{unit}" for unit in range(4)], "images": images[:1], "seeds": 64}
    found = service.http.post("/v1/batches?dry_run=true", json=body).json()
    assert (found["total"], found["checked"], found["exact"], found["cached"]) == (256, 100, False, 128)
    assert found["device_seconds"] == pytest.approx(0.01 * 256 * Recipe().steps * Recipe().crops / 2)
    assert service.http.post("/v1/batches?dry_run=true", json=body).json() == found


# --- force, retry, delete, deadline -------------------------------------------------------------------------------


def test_a_forced_job_is_queued_though_its_result_is_there(service: Service, images: list[str]) -> None:
    job = {"feature": "logit:1", "image": images[0]}
    service.store_result(JobSpec(model="toy", **job))
    assert service.submit_job(**job)["state"] == "succeeded"
    forced = service.http.post("/v1/jobs?force=true", json={"model": "toy", **job}).json()
    assert forced["state"] == "queued"
    assert service.submit(jobs=[job], force=True)["counts"]["queued"] == 1
    assert service.submit(jobs=[job])["counts"]["cached"] == 1


def test_a_retry_over_http(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=images[:1])["id"]
    path = f"/v1/batches/{batch}/retry"
    assert service.http.post(path).json()["code"] == "illegal-transition"
    service.run(batch, 0)
    service.fail(batch, 1, Failure(code="not-finite", detail="NaN"))
    answer = service.http.post(path)
    assert (answer.status_code, answer.json()["state"], answer.json()["counts"]["queued"]) == (202, "running", 1)
    assert service.http.get(f"/v1/batches/{batch}/errors").text == ""
    assert service.redis.exists(f"accentor:shard:{batch}.1-2")
    service.run(batch, 1)
    answer = service.http.post(path)
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal-transition")
    assert service.http.post("/v1/batches/nowhere/retry").status_code == 404


def test_a_deleted_batch_is_gone_and_its_results_stay(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0"], images=images[:1])["id"]
    path = f"/v1/batches/{batch}"
    assert service.http.delete(path).json()["code"] == "illegal-transition"
    service.run(batch, 0)
    answer = service.http.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    for what in ("", "/jobs", "/results", "/archive", "/skipped", "/events"):
        assert service.http.get(path + what).status_code == 404
    assert service.http.delete(path).status_code == 404
    wait_until(lambda: not list(service.objects.keys(f"batches/{batch}/")), what="the batch's objects to go")
    assert service.submit(features=["logit:0"], images=images[:1])["counts"]["cached"] == 1


def test_results_may_go_too(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0"], images=images)["id"]
    other = service.submit(features=["logit:1"], images=images[1:])["id"]
    keys = [spec.key(CARD) for spec in service.specs(batch)]
    service.run(batch, 0, 1)
    service.http.delete(f"/v1/batches/{batch}?results=true")
    wait_until(lambda: not service.redis.exists(f"accentor:batch:{batch}"), what="the batch to be removed")
    assert {key.split("/")[2] for key in service.objects.keys("results/")} == {keys[1]}
    assert service.http.get(f"/v1/batches/{other}").status_code == 200


def test_a_deadline_over_http(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=images, deadline_s=3_600)["id"]
    service.begin(batch, 0, Progress(step=1, steps=4))
    service.redis.zadd(DEADLINES, {batch: 1})
    service.jobs.pass_deadlines()
    status = service.http.get(f"/v1/batches/{batch}").json()
    assert (status["counts"]["running"], status["counts"]["failed"]) == (1, 3)
    assert status["failure"]["code"] == "deadline"
    assert status["deadline_at"][11:19] in status["failure"]["detail"]
    job = service.http.get(f"/v1/jobs/{batch}-2").json()
    assert (job["state"], job["failure"]["code"]) == ("failed", "deadline")
    assert service.http.get(f"/v1/batches/{batch}/errors").text.count('"code":"deadline"') == 3


def test_an_ended_batch_says_when_it_goes(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0"], images=images[:1])["id"]
    service.run(batch, 0)
    status = service.jobs.status(batch)
    assert status.expires_at is not None
    assert status.finished_at is not None
    assert (status.expires_at - status.finished_at).total_seconds() == pytest.approx(service.settings.batch_lifetime_s)


# --- polling ------------------------------------------------------------------------------------------------------


def test_a_batch_is_polled(service: Service, images: list[str]) -> None:
    body = {"model": "toy", "features": ["logit:0", "logit:1"], "images": images[:1]}
    accepted = service.http.post("/v1/batches", json=body)
    assert (accepted.status_code, accepted.headers["retry-after"]) == (202, "1")
    path = accepted.headers["location"]
    batch = accepted.json()["id"]
    assert path == f"/v1/batches/{batch}"
    first = service.http.get(path)
    assert first.headers["retry-after"] == "1"
    again = service.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["retry-after"]) == (304, b"", "1")
    assert again.headers["etag"] == first.headers["etag"]
    service.run(batch, 0)
    third = service.http.get(path, headers={"If-None-Match": f'"x", {first.headers["etag"]}'})
    assert (third.status_code, third.json()["counts"]["succeeded"]) == (200, 1)
    service.run(batch, 1)
    last = service.http.get(path)
    assert "retry-after" not in last.headers
    for known in (last.headers["etag"], f'"x", {last.headers["etag"]}', "*"):
        assert service.http.get(path, headers={"If-None-Match": known}).status_code == 304


def test_a_job_is_polled(service: Service, images: list[str]) -> None:
    job = service.submit_job(feature="logit:0", image=images[0])
    path, batch = f"/v1/jobs/{job['id']}", job["batch"]
    tags = []
    for step in (
        lambda: None,
        lambda: service.begin(batch, 0, Progress(step=3, steps=9, preview="data:image/webp;base64,AAAA")),
        lambda: service.jobs.report_progress(batch, {0: Progress(step=4, steps=9)}),
        lambda: service.run(batch, 0),
    ):
        step()
        answer = service.http.get(path, headers={"If-None-Match": tags[-1] if tags else ""})
        assert answer.status_code == 200
        tags.append(answer.headers["etag"])
        assert service.http.get(path, headers={"If-None-Match": tags[-1]}).status_code == 304
    assert len(set(tags)) == 4
    assert "retry-after" not in answer.headers


def test_a_preview_is_told(service: Service, images: list[str]) -> None:
    job = service.submit_job(feature="logit:0", image=images[0])
    service.begin(job["batch"], 0, Progress(step=3, steps=9, preview="data:image/webp;base64,AAAA"))
    assert service.http.get(f"/v1/jobs/{job['id']}").json()["progress"]["preview"] == "data:image/webp;base64,AAAA"


def test_looks_are_shared() -> None:
    async def run() -> list[int]:
        looks, count = Looks(0.2), 0

        def look() -> int:
            nonlocal count
            count += 1
            time.sleep(0.05)
            return count

        first = await asyncio.gather(*[looks.look("a", look) for _ in range(50)])
        other = await looks.look("b", look)
        again = await looks.look("a", look)
        await asyncio.sleep(0.25)
        return [*set(first), other, again, await looks.look("a", look)]

    assert asyncio.run(run()) == [1, 2, 1, 3]


def test_a_look_that_fails_is_told_to_all_and_not_kept() -> None:
    async def run() -> tuple[list[str], int]:
        looks = Looks(10.0)

        def broken() -> int:
            time.sleep(0.02)
            raise ValueError("no")

        found = await asyncio.gather(*[looks.look("a", broken) for _ in range(3)], return_exceptions=True)
        return [str(one) for one in found], await looks.look("a", lambda: 7)

    assert asyncio.run(run()) == (["no"] * 3, 7)


# --- pages elsewhere, request ids ---------------------------------------------------------------------------------


@pytest.fixture
def open_to_atlas(settings: Settings) -> Iterator[Service]:
    service = Service(settings.model_copy(update={"cors_origins": (ORIGIN,), "gzip_min_bytes": 0}))
    service.start()
    service.announce()
    yield service
    service.stop()


def test_a_page_that_is_named_may_submit(open_to_atlas: Service) -> None:
    service = open_to_atlas
    image = service.upload()
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = service.http.options("/v1/jobs", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    body = {"model": "toy", "feature": "logit:0", "image": image}
    answer = service.http.post("/v1/jobs", json=body, headers={"Origin": ORIGIN})
    assert answer.status_code == 202
    assert "Location" in answer.headers["access-control-expose-headers"]
    refused = service.http.post("/v1/jobs", json=body, headers={"Origin": "https://elsewhere.example.org"})
    assert refused.status_code == 403
    assert "content-encoding" not in service.http.get("/openapi.json", headers={"Accept-Encoding": "gzip"}).headers


def test_log_lines_carry_the_id_of_their_request(
    service: Service, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        logging.getLogger("accentor_api").warning("from a thread of the request")
        raise RuntimeError("nobody foresaw this")

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    handler.addFilter(ContextFilter())
    logging.getLogger("accentor_api").addHandler(handler)
    monkeypatch.setattr(type(service.jobs), "status", broken)
    answer = service.http.get("/v1/batches/abc", headers={"X-Request-Id": "mine-7"})
    wait_until(lambda: any(one.getMessage().startswith("GET") for one in records), what="the request's last line")
    logging.getLogger("accentor_api").removeHandler(handler)
    records = [record for record in records if "/v1/images" not in record.getMessage()]  # a fixture's, told late
    assert len(records) == 3
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine-7")
    assert {record.request_id for record in records} == {"mine-7"}  # type: ignore[attr-defined]
    assert records[-1].fields["status"] == 500  # type: ignore[attr-defined]


def test_a_long_list_is_stored_in_blocks(service: Service, images: list[str]) -> None:
    jobs = [
        {"feature": f"logit:{number % 4}", "image": images[number % 2], "custom_id": f"n{number}", "seed": number % 7}
        for number in range(9_000)
    ]
    jobs[8_999] |= {"recipe": "fast", "feature": {"kind": "channel", "layer": "conv1", "unit": 2}}
    batch = service.submit(jobs=jobs, recipe={"steps": 9}, metadata={"a": "b"})["id"]
    sizes = [service.objects.size(key) or 0 for key in service.objects.keys(f"batches/{batch}/")]
    assert len(sizes) == 4
    assert max(sizes) < 100_000
    first, last = (service.http.get(f"/v1/jobs/{batch}-{index}").json()["spec"] for index in (4_100, 8_999))
    assert (first["custom_id"], first["seed"], first["recipe"]["steps"]) == ("n4100", 4_100 % 7, 9)
    assert (first["feature"]["unit"], first["image"], first["metadata"]) == (0, images[0], {"a": "b"})
    assert (last["feature"]["unit"], last["recipe"]["steps"], last["image"]) == (2, PRESETS["fast"].steps, images[1])
    assert service.redis.zcard(UPLOADS) == 0


def test_other_requests_are_answered_while_a_large_body_is_checked(service: Service, images: list[str]) -> None:
    """The body is checked beside the event loop: were it checked there, no answer would come for the whole time."""
    jobs = [{"feature": f"logit:{number % 4}", "image": images[0], "seed": number} for number in range(50_000)]
    ended: list[httpx.Response] = []
    content = httpx.Request("POST", service.url, json={"model": "toy", "jobs": jobs}).read()
    headers = {"Content-Type": "application/json"}

    def send() -> None:
        ended.append(httpx.post(f"{service.url}/v1/batches", content=content, headers=headers, timeout=60))

    sender = threading.Thread(target=send)
    sender.start()
    answered = 0
    while not ended:
        assert service.http.get("/healthz").status_code == 200
        answered += 1
    sender.join()
    assert ended[0].json()["total"] == 50_000
    assert answered > 20
    assert service.jobs.job_state(ended[0].json()["id"], 49_999) is JobState.QUEUED
