"""Single jobs."""

import threading
from typing import Any

import pytest
from tests.api.service import CARD, Service
from tests.shards import outstanding

from accentor.spec import Failure, JobSpec, Progress


def job_of(image: str, **fields: Any) -> dict[str, Any]:
    return {"feature": "logit:stripes", "image": image, **fields}


def test_a_job_is_accepted_and_queued(service: Service, image: str) -> None:
    answer = service.http.post(
        "/v1/jobs", json={"model": "toy", **job_of(image, seed=3, custom_id="mine", metadata={"who": "me"})}
    )
    job = answer.json()
    assert answer.status_code == 202
    assert (answer.headers["location"], answer.headers["retry-after"]) == (f"/v1/jobs/{job['id']}", "1")
    assert (job["state"], job["index"], job["id"]) == ("queued", 0, f"{job['batch']}-0")
    assert job["spec"]["feature"] == {"kind": "logit", "unit": "stripes"}
    assert (job["spec"]["seed"], job["spec"]["custom_id"], job["spec"]["metadata"]) == (3, "mine", {"who": "me"})
    assert job["key"] == JobSpec(model="toy", feature="logit:2", image=image, seed=3).key(CARD)
    batch = service.jobs.status(job["batch"])
    assert (batch.lane, batch.total, batch.metadata) == ("interactive", 1, {"who": "me"})
    assert outstanding(service.redis, "interactive", "toy") == (1, 0)
    assert service.redis.llen("accentor.interactive.toy") == 1


def test_a_job_through_its_states(service: Service, image: str) -> None:
    job = service.submit_job(**job_of(image))
    service.begin(job["batch"], 0, Progress(step=10, steps=60, value=1.5))
    running = service.http.get(f"/v1/jobs/{job['id']}").json()
    assert (running["state"], running["progress"]) == (
        "running",
        {"step": 10, "steps": 60, "value": 1.5, "preview": None},
    )
    service.run(job["batch"], 0)
    done = service.http.get(f"/v1/jobs/{job['id']}").json()
    assert (done["state"], done["progress"], done["failure"]) == ("succeeded", None, None)
    assert (done["result"]["before"], done["result"]["after"]) == (0.5, 2.0)
    assert set(done["urls"]) == {"accentuated.png", "overlay.png", "opacity.png", "frames.webp", "result.json"}


def test_a_failed_job_says_why(service: Service, image: str) -> None:
    job = service.submit_job(**job_of(image))
    failure = Failure(code="not-finite", detail="NaN at step 3", attempts=2)
    service.fail(job["batch"], 0, failure)
    failed = service.http.get(f"/v1/jobs/{job['id']}").json()
    assert (failed["state"], failed["failure"], failed["urls"]) == ("failed", failure.model_dump(), {})


def test_a_result_that_is_there_needs_no_worker(service: Service, image: str) -> None:
    service.store_result(JobSpec(model="toy", feature="logit:2", image=image))
    job = service.submit_job(**job_of(image))
    assert (job["state"], job["result"]["after"]) == ("succeeded", 2.0)
    assert service.jobs.status(job["batch"]).counts.cached == 1
    assert service.redis.llen("accentor.interactive.toy") == 0


def test_a_result_that_was_there_is_told_as_ones_own(service: Service, image: str) -> None:
    theirs = JobSpec(model="toy", feature="logit:2", image=image, custom_id="theirs", metadata={"who": "they"})
    service.store_result(theirs)
    job = service.submit_job(**job_of(image, custom_id="mine", metadata={"who": "me"}))
    assert job["state"] == "succeeded"
    told = job["result"]["spec"]
    assert (told["custom_id"], told["metadata"]) == ("mine", {"who": "me"})
    assert told == job["spec"]


def test_waiting_until_the_end(service: Service, image: str) -> None:
    def work() -> None:
        while not (batches := service.jobs.recent(1)):
            pass
        service.run(batches[0].id, 0)

    worker = threading.Thread(target=work)
    worker.start()
    answer = service.http.post("/v1/jobs", json={"model": "toy", **job_of(image)}, headers={"Prefer": "wait=10"})
    worker.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=10"
    assert "retry-after" not in answer.headers


def test_waiting_in_vain(service: Service, image: str) -> None:
    headers = {"Prefer": "respond-async, wait=1"}
    answer = service.http.post("/v1/jobs", json={"model": "toy", **job_of(image)}, headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize(
    "preferences",
    [["respond-async", "wait=1"], ["WAIT=1"], ['wait = "1"'], ["handling=strict;x, wait=1"]],
)
def test_a_preference_is_read_as_http_has_it(service: Service, image: str, preferences: list[str]) -> None:
    headers = [("Prefer", preference) for preference in preferences]
    answer = service.http.post("/v1/jobs", json={"model": "toy", **job_of(image)}, headers=headers)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


@pytest.mark.parametrize("preference", ["await=1", "wait=-1", "wait=1s", 'wait="1', "wait=", "wait=1234567890"])
def test_other_preferences_are_passed_over(service: Service, image: str, preference: str) -> None:
    answer = service.http.post("/v1/jobs", json={"model": "toy", **job_of(image)}, headers={"Prefer": preference})
    assert (answer.status_code, "preference-applied" in answer.headers) == (202, False)


def test_cancel_a_queued_job(service: Service, image: str) -> None:
    job = service.submit_job(**job_of(image))
    answer = service.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    assert service.http.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "canceled"


def test_cancel_one_job_of_a_batch_leaves_the_others(service: Service, image: str) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=[image])
    assert service.http.post(f"/v1/jobs/{batch['id']}-1/cancel").json()["state"] == "canceled"
    assert service.http.get(f"/v1/jobs/{batch['id']}-0").json()["state"] == "queued"
    assert service.jobs.status(batch["id"]).counts.canceled == 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_has_ended_cannot_be_canceled(service: Service, image: str, jobs: int) -> None:
    batch = service.submit(features=["logit:0"] * jobs, images=[image])["id"]
    service.run(batch, 0)
    answer = service.http.post(f"/v1/jobs/{batch}-0/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal-transition")
    assert "it is succeeded" in answer.json()["detail"]
    assert service.http.get(f"/v1/jobs/{batch}-0").json()["state"] == "succeeded"


def test_a_batch_of_which_every_job_was_canceled_is_canceled(service: Service, image: str) -> None:
    batch = service.submit(features=["logit:0", "logit:1"], images=[image])["id"]
    for index in (0, 1, 1):
        assert service.http.post(f"/v1/jobs/{batch}-{index}/cancel").json()["state"] == "canceled"
    assert service.http.get(f"/v1/batches/{batch}").json()["state"] == "canceled"


def test_a_job_stays_readable_when_its_models_name_means_another(service: Service, image: str) -> None:
    job = service.submit_job(**job_of(image))
    service.announce(CARD.model_copy(update={"digest": "e" * 64, "labels": None, "outputs": 2}))
    assert service.http.get(f"/v1/jobs/{job['id']}").json()["key"] == job["key"]


@pytest.mark.parametrize(
    "name", ["nothere-0", "x", "-0", "%00-0", "a%2Fb-0", "..%2F..-0", "a:states-0", "nothere--1", "a" * 5_000 + "-0"]
)
def test_unknown_jobs(service: Service, name: str) -> None:
    for answer in (
        service.http.get(f"/v1/jobs/{name}"),
        service.http.get(f"/v1/jobs/{name}/events"),
        service.http.post(f"/v1/jobs/{name}/cancel"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_an_index_beyond_the_batch(service: Service, image: str) -> None:
    job = service.submit_job(**job_of(image))
    answer = service.http.get(f"/v1/jobs/{job['batch']}-1")
    assert answer.status_code == 404
    assert "0 to 0" in answer.json()["detail"]
