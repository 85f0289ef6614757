"""Batches: submitting, looking at them, their jobs, results and errors."""

import json
import threading
from typing import Any

import httpx
import pytest
from tests.api.service import CARD, Service, picture
from tests.shards import outstanding

from accentor.spec import PRESETS, Failure, JobSpec, JobState, Progress


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def images(service: Service) -> list[str]:
    return [service.upload(picture(shade)) for shade in range(2)]


def test_a_product_is_accepted(service: Service, images: list[str]) -> None:
    body = {
        "model": "toy",
        "features": ["logit:0", "channel:conv1:3"],
        "images": images,
        "seeds": 2,
        "metadata": {"a": "b"},
    }
    answer = service.http.post("/v1/batches", json=body)
    batch = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/batches/{batch['id']}"
    assert (batch["state"], batch["total"], batch["lane"], batch["metadata"]) == ("queued", 8, "bulk", {"a": "b"})
    assert batch["counts"] == {"queued": 8, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0, "cached": 0}
    assert outstanding(service.redis, "bulk", "toy") == (2, 0)
    specs = service.specs(batch["id"])
    assert [(str(spec.feature), spec.image, spec.seed) for spec in (specs[0], specs[1], specs[2], specs[7])] == [
        ("logit:0", images[0], 0),
        ("logit:0", images[0], 1),
        ("logit:0", images[1], 0),
        ("channel:conv1:3", images[1], 1),
    ]


def test_a_zip_a_layer_and_a_list(service: Service, images: list[str]) -> None:
    assert service.submit(features=["logit:0", "logit:1"], images=images, pairing="zip")["total"] == 2
    assert service.submit(features={"layer": "layer1.0.conv2"}, images=images)["total"] == 24
    jobs = [{"feature": "logit:0", "image": images[0], "custom_id": "a", "recipe": "fast"}]
    batch = service.submit(jobs=jobs, lane="interactive")
    job = service.http.get(f"/v1/jobs/{batch['id']}-0").json()
    assert (job["spec"]["custom_id"], job["spec"]["recipe"]["steps"]) == ("a", PRESETS["fast"].steps)


def test_status_follows_the_jobs(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=images)["id"]
    service.run(batch, 0, 1)
    service.fail(batch, 2, Failure(code="not-finite", detail="NaN"))
    service.begin(batch, 3, Progress(step=1, steps=60))
    status = service.http.get(f"/v1/batches/{batch}").json()
    assert status["state"] == "running"
    assert status["counts"] == {"queued": 0, "running": 1, "succeeded": 2, "failed": 1, "canceled": 0, "cached": 0}
    service.run(batch, 3)
    assert service.http.get(f"/v1/batches/{batch}").json()["state"] == "partially_failed"


def test_batches_are_listed_newest_first_page_by_page(service: Service, images: list[str]) -> None:
    ids = [service.submit(features=["logit:0"], images=images)["id"] for _ in range(5)]
    seen, cursor = [], None
    for size in (2, 2, 1):
        page = service.http.get("/v1/batches", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["data"]) == size
        seen += [batch["id"] for batch in page["data"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == ids[::-1]
    assert service.http.get("/v1/batches?limit=5").json()["next_cursor"] is None


def test_jobs_are_listed_by_state_page_by_page(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0", "logit:1", "logit:2"], images=images)["id"]
    service.run(batch, 1, 4, 5)
    service.fail(batch, 2, Failure(code="out-of-memory", detail="too big"))
    path = f"/v1/batches/{batch}/jobs"

    def listed(**params: Any) -> tuple[list[tuple[int, str]], str | None]:
        page = service.http.get(path, params=params).json()
        return [(job["index"], job["state"]) for job in page["data"]], page["next_cursor"]

    assert listed(limit=2) == ([(0, "queued"), (1, "succeeded")], "2")
    assert listed(limit=2, cursor="4") == ([(4, "succeeded"), (5, "succeeded")], None)
    assert listed(status="succeeded", limit=2) == ([(1, "succeeded"), (4, "succeeded")], "5")
    assert listed(status=["failed", "queued"]) == ([(0, "queued"), (2, "failed"), (3, "queued")], None)
    assert listed(status="canceled") == ([], None)
    assert listed(cursor="600") == ([], None)
    job = service.http.get(path, params={"status": "failed"}).json()["data"][0]
    assert job["failure"] == {"code": "out-of-memory", "detail": "too big", "attempts": 1}
    for params in ({"cursor": "x"}, {"cursor": "-1"}, {"status": "done"}, {"limit": 1_001}):
        assert service.http.get(path, params=params).json()["code"] == "invalid-request"


def test_results_and_errors_stream_in_order(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=images)["id"]
    service.run(batch, 3, 0)
    service.fail(batch, 1, Failure(code="not-finite", detail="NaN"))
    results = lines(service.http.get(f"/v1/batches/{batch}/results"))
    assert [(job["index"], job["result"]["after"]) for job in results] == [(0, 2.0), (3, 5.0)]
    assert results[0]["result"]["key"] == results[0]["key"] == JobSpec.model_validate(results[0]["spec"]).key(CARD)
    errors = lines(service.http.get(f"/v1/batches/{batch}/errors"))
    assert [(job["index"], job["failure"]["code"]) for job in errors] == [(1, "not-finite")]


def test_a_deleted_result_leaves_the_job_readable(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0"], images=images[:1])["id"]
    service.run(batch, 0)
    for key in list(service.objects.keys("results/")):
        service.objects.delete(key)
    job = service.http.get(f"/v1/jobs/{batch}-0").json()
    assert (job["state"], job["result"], job["urls"]) == ("succeeded", None, {})


def test_a_dry_run_counts_and_stores_nothing(service: Service, images: list[str]) -> None:
    service.store_result(JobSpec(model="toy", feature="logit:2", image=images[0]))
    body = {"model": "toy", "features": ["logit:1", "logit:stripes"], "images": images, "seeds": 2}
    before = set(service.objects.keys(""))
    answer = service.http.post("/v1/batches?dry_run=true", json=body)
    found = answer.json()
    assert answer.status_code == 200
    assert (found["total"], found["checked"], found["cached"], found["images"]) == (8, 8, 1, 2)
    assert (found["exact"], found["accepted"], found["refused"]) == (True, True, [])
    assert set(service.objects.keys("")) == before
    assert service.jobs.recent(10) == []


def test_a_dry_run_says_how_many_it_has_looked_for(service: Service, images: list[str]) -> None:
    body = {"model": "toy", "features": ["logit:1"] * 6_000, "images": images}
    answer = service.http.post("/v1/batches", params={"dry_run": True}, json=body)
    found = answer.json()
    assert (found["total"], found["checked"], found["cached"], found["exact"]) == (12_000, 10_000, 0, False)


def test_cancel(service: Service, images: list[str]) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=images)["id"]
    service.run(batch, 0)
    service.begin(batch, 1, Progress(step=1, steps=60))
    status = service.http.post(f"/v1/batches/{batch}/cancel").json()
    assert (status["state"], status["counts"]["canceled"], status["counts"]["running"]) == ("canceling", 2, 1)
    service.jobs.finish_job(batch, 1, JobState.CANCELED)
    status = service.http.post(f"/v1/batches/{batch}/cancel").json()
    assert (status["state"], status["counts"]["canceled"], status["counts"]["succeeded"]) == ("canceled", 3, 1)


@pytest.mark.parametrize("name", ["nothere", "a%00b", "a%2F..%2Fb", "a:states", "A", "x" * 100])
@pytest.mark.parametrize("what", ["", "/jobs", "/events", "/results", "/errors"])
def test_unknown_batches(service: Service, name: str, what: str) -> None:
    answer = service.http.get(f"/v1/batches/{name}{what}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_cancel_an_unknown_batch(service: Service) -> None:
    assert service.http.post("/v1/batches/nothere/cancel").json()["code"] == "not-found"


def test_many_submit_at_once(service: Service, images: list[str]) -> None:
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(service.submit(features=["logit:0"], images=images)["id"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 8
    assert {batch["id"] for batch in service.http.get("/v1/batches").json()["data"]} == set(ids)
