"""Dictionaries over HTTP, and jobs and batches that name them."""

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.scans import finish
from tests.api.service import CARD, Service, picture
from tests.servers import wait_until

from accentor.housekeeping import tidy
from accentor.spec import BatchSpec, DatasetImages, DictionaryCard, Entry, JobSpec, LineJobs, LinesBatch, sha256_hex
from accentor.state.keys import UPLOADS
from accentor.storage.batches import jobs_of, read_batch
from accentor.storage.keys import upload_key

OCTETS = {"Content-Type": "application/octet-stream"}
ROWS = np.eye(8, dtype="f4")[[0, 1, 2, 2, 3]] * 2
ROWS[4] = np.nan


def npy(array: Any = ROWS) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def upload(service: Service, data: bytes) -> str:
    answer = service.http.put(f"/v1/dictionaries/files/{sha256_hex(data)}", content=data, headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def create(service: Service, **fields: Any) -> DictionaryCard:
    answer = service.http.post("/v1/dictionaries", json={"model": "toy", "layer": "conv1"} | fields)
    assert answer.status_code == 201, answer.text
    return DictionaryCard.model_validate(answer.json())


@pytest.fixture
def card(service: Service) -> DictionaryCard:
    labels = ["eyes", "Dog ears", "fur", "fur again", "nothing"]
    return create(
        service, name="sae", file=upload(service, npy()), labels=labels, statistics={"density": [0.5, 0.25, 0, None, 1]}
    )


def refused(service: Service, status: int, code: str, **fields: Any) -> dict[str, Any]:
    answer = service.http.post("/v1/dictionaries", json={"model": "toy", "layer": "conv1", "name": "d"} | fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return dict(answer.json())


def test_a_file_waits_a_day_for_its_dictionary(service: Service, card: DictionaryCard) -> None:
    """None is made of the second one: once it counts as abandoned it goes, the file of a dictionary stays."""
    assert service.redis.zcard(UPLOADS) == 0
    left = upload(service, npy(ROWS[:2]))
    ((_, until),) = service.redis.zscan_iter(UPLOADS)
    assert until == pytest.approx(time.time() + 86_400, abs=60)
    assert tidy(service.jobs, service.objects) == 0
    service.redis.zadd(UPLOADS, {upload_key(left): 1})
    assert tidy(service.jobs, service.objects) == 1
    assert service.http.head(f"/v1/dictionaries/files/{left}").status_code == 404
    assert service.http.get(f"/v1/dictionaries/{card.name}").status_code == 200


def test_an_uploaded_file_becomes_a_dictionary_once(service: Service, card: DictionaryCard) -> None:
    assert (card.features, card.units, card.layer, card.model_digest) == (5, 8, "conv1", CARD.digest)
    assert (card.not_finite, card.dead_features, card.duplicate_features) == (1, (4,), ((3, 2),))
    assert service.http.head(f"/v1/dictionaries/files/{card.file}").status_code == 404
    upload(service, npy())
    assert service.http.head(f"/v1/dictionaries/files/{card.file}").headers["content-length"] == str(len(npy()))
    answer = service.http.post(
        "/v1/dictionaries", json={"name": "other", "model": "toy", "layer": "conv1", "file": card.file}
    )
    assert answer.headers["location"] == f"/v1/dictionaries/other@{answer.json()['version']}"
    found = service.http.get("/v1/dictionaries/sae").json()
    assert DictionaryCard.model_validate(found) == card
    assert [one["name"] for one in service.http.get("/v1/dictionaries").json()["data"]] == ["other", "sae"]
    page = service.http.get("/v1/dictionaries", params={"limit": 1}).json()
    assert page["next_cursor"] == "sae"
    assert service.http.get("/v1/dictionaries", params={"model": "none"}).json()["data"] == []


def test_statistics_of_a_scan(service: Service, card: DictionaryCard, tmp_path: Path) -> None:
    assert service.http.get("/v1/dictionaries/sae/scans").json() == []
    service.objects.put("photos/0.png", picture())
    service.http.post("/v1/datasets", json={"name": "d", "prefix": "photos/"})
    wait_until(lambda: service.http.get("/v1/datasets/d").json()["state"] == "ready")
    status = service.http.post("/v1/datasets/d/scans", json={"model": "toy", "dictionary": "sae"}).json()
    finish(service, status, [[0]] * card.features, tmp_path)
    assert [scan["id"] for scan in service.http.get("/v1/dictionaries/sae/scans").json()] == [status["id"]]
    for params in ({}, {"scan": status["id"]}):
        features = service.http.get("/v1/dictionaries/sae/features", params=params).json()["data"]
        told = [feature["statistics"] for feature in features]
        assert [one["density"] for one in told] == [0.5, 0.25, 0, None, 1]
        assert [one["fires"] for one in told] == [one["max"] for one in told] == [0, 0.25, 0.5, 0.75, None]
    answer = service.http.get("/v1/dictionaries/sae/features", params={"scan": "0" * 16})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_the_same_contents_answer_200(service: Service) -> None:
    first = create(service, name="c", channels=True)
    answer = service.http.post(
        "/v1/dictionaries", json={"name": "c", "model": "toy", "layer": "conv1", "channels": True}
    )
    assert (answer.status_code, answer.json()["version"]) == (200, first.version)


def test_from_storage(service: Service) -> None:
    service.objects.put("mine/rows.npy", npy())
    assert create(service, name="d", object="mine/rows.npy").file == sha256_hex(npy())
    assert "no object" in refused(service, 422, "invalid-request", object="mine/none.npy")["detail"]
    assert service.objects.exists("mine/rows.npy")


def test_features_are_paged_and_searched(service: Service, card: DictionaryCard) -> None:
    page = service.http.get("/v1/dictionaries/sae/features", params={"limit": 2, "cursor": 1}).json()
    assert [one["index"] for one in page["data"]] == [1, 2]
    assert page["next_cursor"] == "3"
    assert page["data"][0] == {
        "index": 1,
        "feature": f"dictionary:{card.reference}#1",
        "label": "Dog ears",
        "state": "ok",
        "duplicate_of": None,
        "norm": 2.0,
        "statistics": {"density": 0.25},
    }

    def found(**params: Any) -> list[int]:
        answer = service.http.get("/v1/dictionaries/sae/features", params=params).json()
        assert answer["next_cursor"] is None
        return [one["index"] for one in answer["data"]]

    assert found(search="FUR") == [2, 3]
    assert found(search="ears") == [1]
    assert found(state="not-finite") == [4]
    assert found(state="duplicate", search="fur") == [3]


def test_what_does_not_fit_is_refused_with_both_numbers(service: Service) -> None:
    wide = upload(service, npy(np.ones((2, 5), "f4")))
    assert "5 units, conv1 of toy has 8 units" in refused(service, 422, "invalid-feature", file=wide)["detail"]
    empty = upload(service, npy(np.ones((0, 8), "f4")))
    assert "0 features" in refused(service, 422, "invalid-feature", file=empty)["detail"]
    large = upload(service, npy(np.ones((1_000_000, 8), "f2")))
    assert refused(service, 413, "too-large", file=large)["features"] == 1_000_000
    assert "nearest" in refused(service, 422, "unknown-layer", file=wide, layer="conv9")
    refused(service, 422, "unknown-model", file=wide, model="other")
    assert "upload it first" in refused(service, 422, "invalid-request", file="e" * 64)["detail"]
    refused(service, 422, "invalid-request", file=wide, channels=True)
    refused(service, 422, "invalid-request", channels=True, name="../etc")
    assert service.http.put(f"/v1/dictionaries/files/{'e' * 64}", content=b"x", headers=OCTETS).status_code == 422


def test_a_job_is_stored_with_the_version_it_meant(service: Service, card: DictionaryCard, image: str) -> None:
    job = service.submit_job(feature="dictionary:sae#1 - 2*dictionary:sae#0", image=image)
    create(service, name="sae", channels=True)
    stored = JobSpec.model_validate(service.http.get(f"/v1/jobs/{job['id']}").json()["spec"])
    assert stored.feature.references == (f"{card.reference}#1", f"{card.reference}#0")
    again = service.submit_job(feature="dictionary:sae#1 - 2*dictionary:sae#0", image=image)
    assert again["key"] != job["key"]
    pinned = service.submit_job(
        feature=f"dictionary:{card.reference}#1 - 2*dictionary:sae@{card.version}#0", image=image
    )
    assert pinned["key"] == job["key"]


def test_a_batch_takes_a_range(service: Service, card: DictionaryCard, image: str) -> None:
    batch = service.submit(features={"dictionary": "sae", "range": "1:4"}, images=[image])
    assert batch["total"] == 3
    create(service, name="sae", channels=True)
    jobs = jobs_of(service.objects, batch["id"], read_batch(service.objects, batch["id"]), CARD)
    assert [job.feature for job in jobs] == [Entry(dictionary=card.reference, unit=unit) for unit in (1, 2, 3)]
    answer = service.http.post(
        "/v1/batches", json={"model": "toy", "features": {"dictionary": "none"}, "images": [image]}
    )
    assert answer.json()["errors"][0]["pointer"] == "/features/dictionary"


def test_results_are_found_by_name_with_and_without_the_version(
    service: Service, card: DictionaryCard, image: str
) -> None:
    batch = service.submit(features=["dictionary:sae#1", "encoder:conv1:sae#2", "logit:1"], images=[image])
    for feature, expected in (
        ("dictionary:sae#1", [0]),
        (f"dictionary:{card.reference}#1", [0]),
        ("encoder:conv1:sae#2", [1]),
        ("dictionary:sae#2", []),
        (f"dictionary:sae@{'0' * 16}#1", []),
        ("logit:1", [2]),
    ):
        params = {"status": "queued", "feature": feature}
        answer = service.http.get(f"/v1/batches/{batch['id']}/results", params=params)
        assert [json.loads(line)["index"] for line in answer.text.splitlines()] == expected


def test_lines_and_their_recipes_are_pinned(service: Service, card: DictionaryCard, image: str) -> None:
    lines = [
        {"feature": "dictionary:sae#1", "image": image, "recipe": {"opacity_feature": "dictionary:sae#2"}},
        {"feature": "logit:1", "image": image},
    ]
    body = "\n".join(map(json.dumps, lines))
    answer = service.http.post(
        "/v1/batches", params={"model": "toy"}, content=body, headers={"Content-Type": "application/jsonl"}
    )
    assert answer.status_code == 202, answer.text
    stored = read_batch(service.objects, answer.json()["id"])
    assert isinstance(stored, LinesBatch)
    jobs = jobs_of(service.objects, answer.json()["id"], stored, CARD)
    assert isinstance(jobs, LineJobs)
    assert jobs[0].feature == Entry(dictionary=card.reference, unit=1)
    assert jobs[0].recipe.opacity_feature == Entry(dictionary=card.reference, unit=2)
    assert str(jobs[1].feature) == "logit:1"


@pytest.mark.parametrize(
    ("feature", "code", "said"),
    [
        ("dictionary:none#1", "unknown-dictionary", "no dictionary 'none'"),
        ("dictionary:sae#5", "unit-out-of-range", "0 to 4; 5"),
        ("dictionary:sae#4", "invalid-feature", "all zero or not finite"),
        ("dictionary:./sae.npy#4", "invalid-feature", "names a file"),
        ("direction:conv1:/etc/rows.npy#4", "invalid-feature", "names a file"),
        ("encoder:fc:sae#1", "invalid-feature", "for layer 'conv1', not for 'fc'"),
        ("encoder:conv1:sae#1:post", "invalid-feature", "no code after an activation"),
    ],
)
@pytest.mark.usefixtures("card")
def test_a_feature_that_is_not_there_is_refused(
    service: Service, image: str, feature: str, code: str, said: str
) -> None:
    answer = service.http.post("/v1/jobs", json={"model": "toy", "feature": feature, "image": image})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert said in answer.text
    shown = {"opacity_feature": feature}
    answer = service.http.post("/v1/jobs", json={"model": "toy", "feature": "logit:1", "image": image, "recipe": shown})
    assert answer.json()["code"] == code


def test_another_models_dictionary_is_refused(service: Service, card: DictionaryCard, image: str) -> None:
    service.announce(CARD.model_copy(update={"name": "other", "digest": "e" * 64}))
    body = {"model": "other", "features": {"dictionary": card.name}, "images": [image]}
    answer = service.http.post("/v1/batches", json=body)
    assert "for the model toy, not for other" in answer.text


def test_a_deleted_dictionary_is_gone_but_its_batches_are_read(
    service: Service, card: DictionaryCard, image: str
) -> None:
    batch = service.submit(features={"dictionary": "sae"}, images=[image])
    newer = create(service, name="sae", channels=True)
    assert [one["version"] for one in service.http.get("/v1/dictionaries/sae/versions").json()] == [
        newer.version,
        card.version,
    ]
    assert service.http.delete(f"/v1/dictionaries/{newer.reference}").status_code == 204
    assert service.http.get("/v1/dictionaries/sae").json()["version"] == card.version
    assert service.http.delete("/v1/dictionaries/sae").status_code == 204
    assert service.http.get("/v1/dictionaries/sae").status_code == 404
    assert service.http.get(f"/v1/dictionaries/{card.reference}/features").status_code == 404
    assert service.http.delete("/v1/dictionaries/sae").status_code == 404
    assert len(service.http.get(f"/v1/batches/{batch['id']}/jobs").json()["data"]) == 5
    assert create(service, name="sae", channels=True) == newer


def test_a_dictionary_over_a_dataset(service: Service, card: DictionaryCard, image: str) -> None:
    def dataset(*images: str) -> str:
        body = {"name": "mine", "images": [{"image": one, "id": one[:8]} for one in images]}
        assert service.http.post("/v1/datasets", json=body).status_code in {200, 201, 202}
        wait_until(lambda: service.http.get("/v1/datasets/mine").json()["state"] == "ready", what="the dataset")
        found = service.http.get("/v1/datasets/mine").json()["card"]
        return f"mine@{found['version']}"

    first = dataset(image)
    batch = service.submit(features={"dictionary": "sae", "range": "0:2"}, images={"dataset": "mine"})
    second = dataset(image, service.upload(picture(1)))
    assert first != second
    stored = read_batch(service.objects, batch["id"])
    assert isinstance(stored, BatchSpec)
    assert stored.images == DatasetImages(dataset=first)
    jobs = jobs_of(service.objects, batch["id"], stored, CARD)
    assert [(str(job.feature), job.image) for job in jobs] == [
        (f"dictionary:{card.reference}#{unit}", image) for unit in range(2)
    ]
    assert service.submit(features={"dictionary": "sae"}, images={"dataset": second})["total"] == 10
