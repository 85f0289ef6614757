"""Datasets over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.api.scans import finish
from tests.api.service import Service, digest, picture
from tests.servers import wait_until

from accentor.spec import BatchStatus, Failure
from accentor.state import JobStore
from accentor_api import openapi


def create(service: Service, **spec: Any) -> dict[str, Any]:
    """Create a dataset and return how it stands once it has been made."""
    answer = service.http.post("/v1/datasets", json={"name": "d", **spec})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == "/v1/datasets/d"
    wait_until(lambda: status(service)["state"] != "indexing", what="the dataset")
    return status(service)


def status(service: Service) -> dict[str, Any]:
    return dict(service.http.get("/v1/datasets/d").json())


def test_created_listed_and_deleted(service: Service) -> None:
    for index in range(5):
        service.objects.put(f"photos/{'ab'[index % 2]}/{index}.png", picture(index))
    service.objects.put("photos/a/9.png", b"broken")
    service.objects.put("photos/b/8.png", picture(1))
    made = create(service, prefix="photos/", description="five")
    assert made["state"] == "ready"
    card = made["card"]
    assert (card["images"], card["skipped"], card["duplicates"], card["classes"]) == (5, 1, 1, {"a": 3, "b": 2})
    reference = f"d@{card['version']}"
    assert service.http.get(f"/v1/datasets/{reference}").json()["card"] == card
    assert service.http.get("/v1/datasets").json() == {"data": [card], "next_cursor": None}
    assert service.http.get("/v1/datasets/d/versions").json() == [card]
    page = service.http.get("/v1/datasets/d/images", params={"limit": 3}).json()
    assert [row["id"] for row in page["data"]] == ["a/0.png", "a/2.png", "a/4.png"]
    rest = service.http.get("/v1/datasets/d/images", params={"cursor": page["next_cursor"]}).json()
    assert [(row["id"], row["label"]) for row in rest["data"]] == [("b/1.png", "b"), ("b/3.png", "b")]
    assert rest["next_cursor"] is None
    skipped = service.http.get("/v1/datasets/d/skipped")
    assert [json.loads(line)["id"] for line in skipped.text.splitlines()] == ["a/9.png"]
    repeated = service.http.get("/v1/datasets/d/duplicates")
    assert [json.loads(line)["first"] for line in repeated.text.splitlines()] == ["b/1.png"]
    assert service.http.get(f"/v1/images/{digest(picture(3))}").content == picture(3)
    assert service.http.head(f"/v1/images/{digest(picture(3))}").headers["Content-Length"] == str(len(picture(3)))
    assert service.http.delete("/v1/datasets/d").status_code == 204
    assert service.http.get("/v1/datasets/d").status_code == 404
    assert service.http.get("/v1/datasets").json()["data"] == []


def test_a_list_of_uploads(service: Service) -> None:
    members = [{"image": service.upload(picture(index)), "id": f"{index}", "label": "x"} for index in range(3)]
    card = create(service, images=members)["card"]
    assert (card["images"], card["source"]) == (3, "images")
    assert service.http.get("/v1/datasets/d/skipped").content == b""
    newer = create(service, images=members[:2])["card"]
    assert newer["images"] == 2
    assert [c["version"] for c in service.http.get("/v1/datasets/d/versions").json()] == [
        newer["version"],
        card["version"],
    ]
    assert service.http.delete(f"/v1/datasets/d@{newer['version']}").status_code == 204
    assert status(service)["card"] == card


def test_a_batch_over_a_dataset(service: Service) -> None:
    for index in range(5):
        service.objects.put(f"photos/{index}.png", picture(index))
    first = create(service, prefix="photos/")["card"]
    batch = service.submit(features=["logit:0", "logit:1"], images={"dataset": "d"}, seeds=2)
    assert batch["total"] == 20
    service.objects.put("photos/9.png", picture(9))
    newer = create(service, prefix="photos/")["card"]
    assert service.submit(features=["logit:0"], images={"dataset": "d"})["total"] == 6
    assert service.submit(features=["logit:0"], images={"dataset": f"d@{first['version']}"})["total"] == 5
    page = service.http.get(f"/v1/batches/{batch['id']}/jobs", params={"limit": 4}).json()["data"]
    assert [job["spec"]["image"] for job in page] == [digest(picture(i)) for i in (0, 0, 1, 1)]
    zipped = service.submit(features=[f"logit:{i % 4}" for i in range(6)], images={"dataset": "d"}, pairing="zip")
    assert zipped["total"] == 6
    assert service.http.delete("/v1/datasets/d").status_code == 204
    for name in ("d", f"d@{newer['version']}", "other"):
        answer = service.http.post(
            "/v1/batches", json={"model": "toy", "features": ["logit:0"], "images": {"dataset": name}}
        )
        assert answer.status_code == 422
        assert [(e["code"], e["pointer"]) for e in answer.json()["errors"]] == [("unknown-dataset", "/images/dataset")]
    assert service.http.get(f"/v1/jobs/{batch['id']}-19").json()["spec"]["image"] == digest(picture(4))
    dry = service.http.post(
        "/v1/batches?dry_run=true", json={"model": "toy", "features": ["logit:0"], "images": {"dataset": "d"}}
    ).json()
    assert not dry["accepted"]


def test_one_that_cannot_be_made(service: Service) -> None:
    failed = create(service, prefix="nothing/")
    assert failed["state"] == "failed"
    assert failed["failure"]["code"] == "invalid-request"
    assert "'nothing/'" in failed["failure"]["detail"]
    assert service.http.get("/v1/datasets").json()["data"] == []
    again = create(service, images=[{"image": service.upload(), "id": "a"}])
    assert (again["state"], again["failure"]) == ("ready", None)


def test_while_it_is_made(service: Service) -> None:
    service.objects.put(
        "datasets/d/status.json",
        json.dumps({"name": "d", "state": "indexing", "done": 7, "updated_at": "2100-01-01T00:00:00Z"}).encode(),
    )
    answer = service.http.post("/v1/datasets", json={"name": "d", "prefix": "photos/"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "illegal-transition"
    assert "7 members are done" in answer.json()["detail"]
    assert status(service)["state"] == "indexing"


def test_what_is_wrong_is_told_where_it_stands(service: Service) -> None:
    for body, pointer in (
        ({"name": "a/b", "prefix": "p/"}, "/name"),
        ({"name": "d", "images": [{"image": "0", "id": "x"}]}, "/images/0/image"),
        ({"name": "d", "prefix": "p/", "folder": "/etc"}, "/folder"),
        ({"name": "d"}, ""),
    ):
        answer = service.http.post("/v1/datasets", json=body)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    for path in ("d", "d@0123456789abcdef", "..", "d/images", "d/versions", "d/skipped"):
        assert service.http.get(f"/v1/datasets/{path}").status_code == 404
    assert service.http.delete("/v1/datasets/d").status_code == 404


def test_the_examples_are_accepted(service: Service) -> None:
    uploaded = service.upload()
    for example in (openapi.PREFIX, openapi.TARS, openapi.UPLOADS):
        body = json.dumps(example).replace(openapi.IMAGE, uploaded)
        answer = service.http.post("/v1/datasets", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 202, answer.text


def scans(service: Service, **spec: Any) -> Any:
    return service.http.post("/v1/datasets/d/scans", json={"model": "toy", **spec})


def test_a_scan_and_what_is_paired_by_it(service: Service, tmp_path: Path) -> None:
    for index in range(5):
        service.objects.put(f"photos/{index}.png", picture(index))
    create(service, prefix="photos/")
    paired = {"features": {"layer": "conv1", "range": "2:5"}, "images": {"dataset": "d"}, "pairing": {"top_k": 2}}
    answer = service.http.post("/v1/batches", json={"model": "toy", **paired})
    assert answer.status_code == 422
    assert "no scan of layer conv1" in answer.json()["errors"][0]["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/pairing"
    started = scans(service, layer="conv1", top_k=3)
    assert started.status_code == 202, started.text
    status = started.json()
    assert (status["state"], status["shards"], status["done"]) == ("queued", 1, 0)
    assert scans(service, layer="conv1", top_k=3).json() == status
    batch = service.http.get(f"/v1/batches/{status['batch']}").json()
    assert (batch["total"], batch["state"]) == (1, "queued")
    for path in ("jobs", "results"):
        answer = service.http.get(f"/v1/batches/{status['batch']}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
        assert f"/v1/datasets/d/scans/{status['id']}" in answer.json()["detail"]
    tops = [[unit % 5, (unit + 2) % 5, (unit + 1) % 5] for unit in range(8)]
    tops[3] = [4]
    finish(service, status, tops, tmp_path)
    ready = service.http.get(started.headers["Location"]).json()
    assert (ready["state"], ready["card"]["features"]) == ("ready", 8)
    assert service.http.get(ready["tables"]["sample"]).content == b"sample"
    assert service.http.get("/v1/datasets/d/scans").json()[0]["card"] == ready["card"]
    assert scans(service, layer="conv1", top_k=3).status_code == 200
    made = service.submit(**paired)
    assert made["total"] == 5
    page = service.http.get(f"/v1/batches/{made['id']}/jobs").json()["data"]
    assert [(job["spec"]["feature"]["unit"], job["spec"]["image"]) for job in page] == [
        (unit, digest(picture(image))) for unit, image in ((2, 2), (2, 4), (3, 4), (4, 4), (4, 1))
    ]
    listed = service.submit(
        features=["channel:conv1:3", "-channel:conv1:2"], images={"dataset": "d"}, pairing={"top_k": 3}
    )
    assert listed["total"] == 4
    for changed, said in (
        ({"pairing": {"top_k": 4}}, "those there are keep 3"),
        ({"pairing": {"top_k": 2, "scan": "0" * 16}}, "no scan"),
        ({"features": ["logit:1"]}, "knows no top images of logit:1"),
        ({"images": [digest(picture(1))]}, "needs the images of a dataset"),
    ):
        answer = service.http.post("/v1/batches", json={"model": "toy", **paired, **changed})
        assert answer.status_code == 422
        assert said in answer.json()["errors"][0]["detail"]


def test_a_scan_that_measured_otherwise_is_taken_by_name_alone(service: Service, tmp_path: Path) -> None:
    for index in range(3):
        service.objects.put(f"photos/{index}.png", picture(index))
    create(service, prefix="photos/")
    paired = {"features": {"layer": "conv1", "range": "0:1"}, "images": {"dataset": "d"}}
    maximum = scans(service, layer="conv1", reduce="max").json()
    finish(service, maximum, [[0, 1, 2]] * 8, tmp_path)
    answer = service.http.post("/v1/batches", json={"model": "toy", **paired, "pairing": {"top_k": 1}})
    assert f"({maximum['id']} is of max and post: name it)" in answer.json()["errors"][0]["detail"]
    usual = scans(service, layer="conv1", code="pre").json()
    assert scans(service, layer="conv1").json() == usual
    finish(service, usual, [[2, 1, 0]] * 8, tmp_path)
    for pairing, image in (({}, 2), ({"scan": usual["id"]}, 2), ({"scan": maximum["id"]}, 0)):
        made = service.submit(**paired, pairing={"top_k": 1, **pairing})
        (job,) = service.http.get(f"/v1/batches/{made['id']}/jobs").json()["data"]
        assert job["spec"]["image"] == digest(picture(image))


def test_a_scan_that_ends_while_it_is_looked_at_is_not_lost(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last shard ends after the look at one store, and before that at the other."""
    create(service, images=[{"image": service.upload(picture(index)), "id": f"{index}"} for index in range(3)])
    scan = service.http.post("/v1/datasets/d/scans", json={"model": "toy", "layer": "conv1", "top_k": 1}).json()
    plain = JobStore.status
    ends = [lambda: finish(service, scan, [[0]] * 4, tmp_path)]

    def status_after_the_end(store: JobStore, batch: str) -> BatchStatus:
        if ends:
            ends.pop()()
        return plain(store, batch)

    monkeypatch.setattr(JobStore, "status", status_after_the_end)
    assert service.http.get(f"/v1/datasets/d/scans/{scan['id']}").json()["state"] == "ready"


def test_scans_that_fail_and_that_cannot_be(service: Service) -> None:
    service.objects.put("photos/0.png", picture())
    create(service, prefix="photos/")
    status = scans(service, layer="conv1").json()
    service.fail(status["batch"], 0, Failure(code="out-of-memory", detail="too large"))
    failed = service.http.get(f"/v1/datasets/d/scans/{status['id']}").json()
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "out-of-memory")
    again = scans(service, layer="conv1").json()
    assert again["batch"] != status["batch"]
    assert (again["id"], again["state"]) == (status["id"], "queued")
    assert service.http.post(f"/v1/batches/{again['batch']}/cancel").status_code == 200
    assert service.http.get(f"/v1/datasets/d/scans/{status['id']}").json()["state"] == "canceled"
    for spec, code in (
        ({"layer": "conv"}, "unknown-layer"),
        ({"dictionary": "sae"}, "unknown-dictionary"),
        ({}, "invalid-request"),
        ({"layer": "conv1", "dictionary": "sae"}, "invalid-request"),
        ({"layer": "conv1", "top_k": 0}, "invalid-request"),
        ({"layer": "conv1", "model": "other"}, "unknown-model"),
    ):
        answer = scans(service, **spec)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == code
    for scan in ("0" * 16, "%2E%2E%2E", "x/y", "x" * 300):
        assert service.http.get(f"/v1/datasets/d/scans/{scan}").status_code == 404
    assert service.http.get("/v1/datasets/other/scans").status_code == 404
