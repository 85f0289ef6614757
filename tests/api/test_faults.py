"""Requests that are wrong: each fault is named where it stands, with a stable code."""

import time
from typing import Any

import pytest
from tests.api.service import Service

from accentor.spec import Feature, ModelCard
from accentor_api.faults import MAX_LISTED

ABSENT = "a" * 64


def problem(service: Service, path: str, body: Any) -> dict[str, Any]:
    answer = service.http.post(path, json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    found = dict(answer.json())
    assert found["status"] == answer.status_code
    assert found["request_id"] == answer.headers["x-request-id"]
    assert found["instance"] == path
    assert found["type"] == f"urn:accentor:problem:{found['code']}"
    return found


def faults(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(fault["pointer"], fault["code"]) for fault in found["errors"]]


JOB_FAULTS = [
    ({"feature": "channel:layer1.0.conv3:1"}, "unknown-layer", "/feature", "layer1.0.conv2"),
    ({"feature": "channel:conv1:8"}, "unit-out-of-range", "/feature", "0 to 7"),
    ({"feature": "logit:4"}, "unit-out-of-range", "/feature", "0 to 3"),
    ({"feature": "neuron:conv1:0@16,0"}, "unit-out-of-range", "/feature", "16 rows"),
    ({"feature": "logit:stripe"}, "invalid-feature", "/feature", "stripes"),
    ({"feature": "texture:3"}, "invalid-feature", "/feature", "channel:LAYER:UNIT"),
    ({"feature": "direction:conv1:/etc/passwd.npy#0"}, "invalid-feature", "/feature", "names a file"),
    ({"feature": {"kind": "direction", "layer": "conv1", "vector": [1, 2]}}, "invalid-feature", "/feature", "8 units"),
    ({"feature": {"kind": "channel", "layer": "conv1"}}, "invalid-request", "/feature/unit", "required"),
    ({"feature": 7}, "invalid-request", "/feature", "given 7"),
    ({"recipe": "baroque"}, "invalid-recipe", "/recipe", "natural, fast, paper"),
    ({"recipe": {"steps": 0}}, "invalid-recipe", "/recipe", "steps = 0"),
    ({"recipe": {"steps": 10**9}}, "invalid-recipe", "/recipe", "steps = 1000000000"),
    ({"recipe": {"stepps": 5}}, "invalid-recipe", "/recipe", "stepps"),
    (
        {"recipe": {"regularization_layer": "conv9"}},
        "unknown-layer",
        "/recipe/regularization_layer",
        "conv1",
    ),
    ({"image": "dog.jpg"}, "invalid-request", "/image", "given 'dog.jpg'"),
    ({"image": None}, "invalid-request", "/image", "string"),
    ({"seed": -1}, "invalid-request", "/seed", "given -1"),
    ({"seed": 1.5}, "invalid-request", "/seed", "given 1.5"),
    ({"colour": "red"}, "invalid-request", "/colour", "not permitted"),
    ({"metadata": {"a": 5}}, "invalid-request", "/metadata/a", "string"),
    ({"custom_id": ""}, "invalid-request", "/custom_id", "at least 1"),
]


@pytest.mark.parametrize(("change", "code", "pointer", "said"), JOB_FAULTS)
def test_a_job_with_one_fault(
    service: Service, image: str, change: dict[str, Any], code: str, pointer: str, said: str
) -> None:
    found = problem(service, "/v1/jobs", {"model": "toy", "feature": "logit:0", "image": image, **change})
    assert (found["status"], found["code"]) == (422, code)
    assert faults(found) == [(pointer, code)]
    assert said in found["detail"]
    assert service.jobs.recent(10) == []


def test_the_nearest_layers_are_listed(service: Service, image: str) -> None:
    found = problem(service, "/v1/jobs", {"model": "toy", "feature": "channel:layer1.conv2:0", "image": image})
    assert found["nearest"][0] == "layer1.0.conv2"


def test_all_faults_are_told(service: Service) -> None:
    found = problem(service, "/v1/jobs", {"feature": "x", "image": 5, "extra/y": 1})
    assert found["code"] == "invalid-request"
    assert sorted(faults(found)) == [
        ("/extra~1y", "invalid-request"),
        ("/feature", "invalid-feature"),
        ("/image", "invalid-request"),
        ("/model", "invalid-request"),
    ]


def test_an_image_that_was_not_uploaded(service: Service) -> None:
    found = problem(service, "/v1/jobs", {"model": "toy", "feature": "logit:0", "image": ABSENT})
    assert (found["status"], found["code"], found["missing"]) == (422, "invalid-request", [ABSENT])
    assert "upload" in found["detail"]
    assert faults(found) == [("/image", "invalid-request")]


def test_images_of_a_batch_that_were_not_uploaded(service: Service, image: str) -> None:
    found = problem(service, "/v1/batches", {"model": "toy", "features": ["logit:0"], "images": [image, ABSENT]})
    assert (found["missing"], faults(found)) == ([ABSENT], [("/images/1", "invalid-request")])
    jobs = [{"feature": "logit:0", "image": name} for name in (ABSENT, image)]
    found = problem(service, "/v1/batches", {"model": "toy", "jobs": jobs})
    assert faults(found) == [("/jobs/0/image", "invalid-request")]


def test_a_model_that_is_not_served(service: Service, image: str) -> None:
    found = problem(service, "/v1/jobs", {"model": "resnet50", "feature": "logit:0", "image": image})
    assert (found["status"], found["code"]) == (422, "unknown-model")
    assert "toy" in found["detail"]


def test_no_worker_has_ever_come(bare: Service) -> None:
    answer = bare.http.post("/v1/jobs", json={"model": "toy", "feature": "logit:0", "image": bare.upload()})
    assert (answer.status_code, answer.json()["code"]) == (503, "model-not-ready")
    assert answer.headers["retry-after"] == "5"


BATCH_FAULTS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (
        {"features": ["logit:0", "logit:9", "channel:conv:0"]},
        [("/features/1", "unit-out-of-range"), ("/features/2", "unknown-layer")],
    ),
    (
        {"features": ["logit:0", "logit", {"kind": "channel", "unit": 1}]},
        [("/features/1", "invalid-feature"), ("/features/2/layer", "invalid-request")],
    ),
    ({"features": []}, [("/features", "invalid-request")]),
    ({"features": {"layer": "conv"}}, [("/features/layer", "unknown-layer")]),
    ({"features": {"layer": 5}}, [("/features/layer", "invalid-request")]),
    ({"images": []}, [("/images", "invalid-request")]),
    ({"images": ["zz"]}, [("/images/0", "invalid-request")]),
    ({"features": ["logit:0", "logit:1"], "pairing": "zip"}, [("/features", "invalid-request")]),
    ({"pairing": "all"}, [("/pairing", "invalid-request")]),
    ({"seeds": 0}, [("/seeds", "invalid-request")]),
    ({"lane": "fast"}, [("/lane", "invalid-request")]),
    ({"jobs": [{"feature": "logit:0", "image": ABSENT}]}, [("", "invalid-request")]),
]


@pytest.mark.parametrize(("change", "expected"), BATCH_FAULTS)
def test_a_batch_with_faults(
    service: Service, image: str, change: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = problem(service, "/v1/batches", {"model": "toy", "features": ["logit:0"], "images": [image], **change})
    assert found["status"] == 422
    assert sorted(set(faults(found))) == sorted(expected)
    assert service.jobs.recent(10) == []


def test_a_fault_in_an_explicit_job(service: Service, image: str) -> None:
    jobs = [{"feature": "logit:0", "image": image}, {"feature": "logit:9", "image": image}]
    assert faults(problem(service, "/v1/batches", {"model": "toy", "jobs": jobs})) == [
        ("/jobs/1/feature", "unit-out-of-range")
    ]


def test_a_custom_id_given_twice_in_a_list(service: Service, image: str) -> None:
    jobs = [
        {"feature": f"logit:{unit}", "image": image, "custom_id": name} for unit, name in enumerate(("a", "b", "a"))
    ]
    found = problem(service, "/v1/batches", {"model": "toy", "jobs": jobs})
    assert (found["status"], found["code"], faults(found)) == (
        422,
        "duplicate-custom-id",
        [("", "duplicate-custom-id")],
    )
    assert "given more than once: ['a']" in found["detail"]
    assert service.jobs.recent(10) == []


def test_many_faults_are_counted_and_the_first_are_listed(service: Service, image: str) -> None:
    features = [f"logit:{number}" for number in range(4, 204)]
    found = problem(service, "/v1/batches", {"model": "toy", "features": features, "images": [image]})
    assert (found["code"], len(found["errors"])) == ("unit-out-of-range", 50)
    assert "at least 50 more" in found["detail"]


def test_very_many_faults_take_no_time(service: Service) -> None:
    began = time.process_time()
    found = problem(service, "/v1/batches", {"model": "toy", "jobs": [{"feature": 1, "image": 2}] * 20_000})
    assert (found["code"], len(found["errors"])) == ("invalid-request", 50)
    assert time.process_time() - began < 10.0


def test_a_batch_above_the_limit(service: Service, image: str) -> None:
    limited = service.settings.max_batch_jobs
    body = {"model": "toy", "features": ["logit:0"] * 100_000, "images": [image] * 2, "seeds": 64}
    found = problem(service, "/v1/batches", body)
    assert (found["status"], found["code"]) == (413, "too-large")
    assert "12800000" in found["detail"]
    assert str(limited) in found["detail"]


WRONG_JSON = {
    "nothing": b"",
    "cut": b"{",
    "cut list": b"[1,",
    "no UTF-8": b"\xff\xfe",
    "word": b"nul",
    "deep": b"[" * 100_000,
    "long number": b'{"a": ' + b"9" * 10_000 + b"}",
    "list": b"[]",
    "null": b"null",
    "string": b'"x"',
}


@pytest.mark.parametrize("body", WRONG_JSON.values(), ids=WRONG_JSON.keys())
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_wrong_json(service: Service, path: str, body: bytes) -> None:
    answer = service.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "image/png"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_json_must_be_declared(service: Service, path: str, kind: str | None) -> None:
    answer = service.http.post(path, content=b"{}", headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/batches?limit=0", "/limit"),
        ("/v1/batches?limit=x", "/limit"),
        ("/v1/objects/results/x?expires=x&signature=y", "/expires"),
    ],
)
def test_wrong_parameters(service: Service, path: str, pointer: str) -> None:
    answer = service.http.get(path)
    assert (answer.status_code, faults(answer.json())) == (422, [(pointer, "invalid-request")])
    assert answer.json()["errors"][0]["in"] == "query"


def test_an_unknown_route(service: Service) -> None:
    answer = service.http.get("/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_wrong_method(service: Service) -> None:
    answer = service.http.delete("/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


def test_faults_beyond_those_listed_are_not_looked_for(
    service: Service, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    resolve = ModelCard.resolve

    def counting(card: ModelCard, feature: Feature) -> Feature:
        looked.append(feature)
        return resolve(card, feature)

    monkeypatch.setattr(ModelCard, "resolve", counting)
    jobs = [{"feature": f"logit:stripe{number}", "image": image} for number in range(1_000)]
    found = problem(service, "/v1/batches", {"model": "toy", "jobs": jobs})
    assert len(found["errors"]) == MAX_LISTED
    assert f"(and at least {MAX_LISTED} more)" in found["detail"]
    assert len(looked) == MAX_LISTED + 1
