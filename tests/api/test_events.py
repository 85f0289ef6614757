"""Following jobs and batches by server-sent events."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.api.service import Service, picture

from accentor.spec import Failure, JobState, Progress
from accentor_api import events

READERS = 12


def read_events(service: Service, path: str, known: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return id and data of each event until the stream ends."""
    found, name = [], ""
    headers = {"Last-Event-ID": known} if known else {}
    with service.http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("id: "):
                name = line.removeprefix("id: ")
            if line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


@pytest.fixture
def batch(service: Service) -> str:
    image = service.upload()
    return str(service.submit(features=["logit:0", "logit:1", "logit:2"], images=[image])["id"])


def meanwhile(*steps: Callable[[], object]) -> threading.Thread:
    def work() -> None:
        for step in steps:
            time.sleep(0.3)
            step()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_batch_until_its_end(service: Service, batch: str) -> None:
    worker = meanwhile(lambda: service.run(batch, 0), lambda: service.run(batch, 1), lambda: service.run(batch, 2))
    found = read_events(service, f"/v1/batches/{batch}/events")
    worker.join()
    assert found[0][1]["state"] == "queued"
    assert found[-1][1]["state"] == "succeeded"
    assert [status["counts"]["succeeded"] for _, status in found][-1] == 3
    revisions = [int(name) for name, _ in found]
    assert revisions == sorted(set(revisions))
    assert revisions == [status["revision"] for _, status in found]


def test_many_readers_are_told_at_different_times(service: Service, batch: str) -> None:
    second: list[float] = []

    def follow() -> None:
        with service.http.stream("GET", f"/v1/batches/{batch}/events") as answer:
            told = (line for line in answer.iter_lines() if line.startswith("id: "))
            next(told)
            everybody.wait()
            next(told)
            second.append(time.monotonic())

    everybody = threading.Barrier(READERS, action=lambda: service.begin(batch, 0, Progress(step=1, steps=2)))
    readers = [threading.Thread(target=follow) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20.0)
    assert len(second) == READERS
    assert max(second) - min(second) > 0.3 / service.settings.events_per_s


def test_a_reader_that_comes_back_is_told_what_is_new(service: Service, batch: str) -> None:
    service.run(batch, 0)
    known = str(service.jobs.status(batch).revision)
    worker = meanwhile(lambda: service.run(batch, 1, 2))
    found = read_events(service, f"/v1/batches/{batch}/events", known)
    worker.join()
    assert int(found[0][0]) > int(known)
    assert found[-1][1]["state"] == "succeeded"


def test_a_reader_that_knows_the_end_is_sent_away(service: Service, batch: str) -> None:
    service.run(batch, 0, 1, 2)
    ((name, status),) = read_events(service, f"/v1/batches/{batch}/events")
    assert status["state"] == "succeeded"
    answer = service.http.get(f"/v1/batches/{batch}/events", headers={"Last-Event-ID": name})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_retried_batch_goes_on_for_one_who_asks_right_after(service: Service, batch: str) -> None:
    for index in range(3):
        service.begin(batch, index, Progress(step=1, steps=2))
        service.fail(batch, index, Failure(code="unexpected", detail="it broke", attempts=1))
    assert read_events(service, f"/v1/batches/{batch}/events")[-1][1]["state"] == "failed"
    service.http.post(f"/v1/batches/{batch}/retry").raise_for_status()
    worker = meanwhile(lambda: service.run(batch, 0, 1, 2))
    found = read_events(service, f"/v1/batches/{batch}/events")
    worker.join()
    assert found[0][1]["state"] == "running"
    assert found[-1][1]["state"] == "succeeded"


def test_a_job_with_its_progress(service: Service) -> None:
    job = service.submit_job(feature="logit:0", image=service.upload(picture(5)))
    parent = job["batch"]
    worker = meanwhile(
        lambda: service.begin(parent, 0, Progress(step=5, steps=60, value=0.5)),
        lambda: service.jobs.report_progress(parent, {0: Progress(step=9, steps=60)}),
        lambda: service.run(parent, 0),
    )
    found = read_events(service, f"/v1/jobs/{job['id']}/events")
    worker.join()
    found = [(name, status) for name, status in found if name != "running"]
    assert [name for name, _ in found] == ["queued", "running-5", "running-9", "succeeded"]
    assert found[1][1]["progress"] == {"step": 5, "steps": 60, "value": 0.5, "preview": None}
    assert found[-1][1]["result"]["after"] == 2.0
    assert len(found[-1][1]["urls"]) == 5


def test_the_first_news_of_a_job_are_told_at_once(settings: Any) -> None:
    service = Service(settings.model_copy(update={"events_per_s": 0.2}))
    service.start()
    try:
        service.announce()
        job = service.submit_job(feature="logit:0", image=service.upload(picture(5)))
        told: dict[str, float] = {}
        worker = meanwhile(lambda: service.begin(job["batch"], 0, Progress(step=5, steps=60)))
        with service.http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            began = time.monotonic()
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    told[line.removeprefix("id: ")] = time.monotonic() - began
                if "running-5" in told:
                    break
        worker.join()
        assert told["queued"] < told["running-5"] < 1.5
    finally:
        service.stop()


def test_silence_is_filled(service: Service, batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)
    with service.http.stream("GET", f"/v1/batches/{batch}/events") as answer:
        comments = (line for line in answer.iter_lines() if line.startswith(":"))
        assert next(comments) == ": still here"
        assert next(comments) == ": still here"


def test_readers_that_leave_are_let_go(service: Service, batch: str) -> None:
    for _ in range(50):
        with service.http.stream("GET", f"/v1/batches/{batch}/events") as answer:
            next(answer.iter_lines())
    service.jobs.finish_job(batch, 0, JobState.CANCELED)
    assert service.http.get(f"/v1/batches/{batch}").json()["counts"]["canceled"] == 1


def test_streams_end_when_the_server_is_stopped(settings: Any) -> None:
    service = Service(settings)
    service.start()
    service.announce()
    batch = service.submit(features=["logit:0"], images=[service.upload()])["id"]
    ended = threading.Event()

    def follow() -> None:
        with httpx.stream("GET", f"{service.url}/v1/batches/{batch}/events", timeout=20.0) as answer:
            for _ in answer.iter_lines():
                pass
        ended.set()

    reader = threading.Thread(target=follow)
    reader.start()
    time.sleep(0.3)
    began = time.monotonic()
    service.stop()
    reader.join(5.0)
    assert ended.is_set()
    assert time.monotonic() - began < 4.0
