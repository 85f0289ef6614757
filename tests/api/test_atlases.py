"""Atlases over HTTP: what is told of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.service import CARD, Service, digest, picture
from tests.servers import wait_until

import accentor.atlas
from accentor.housekeeping import tidy_atlases
from accentor.spec import PRESETS, BatchState, Failure, JobState
from accentor.spec.atlases import AtlasSite, AtlasSpec, AtlasStep, AtlasStepName
from accentor.spec.datasets import DatasetSpec
from accentor.state import AtlasStore, NewAtlas, NewBatch
from accentor.storage.atlases import AtlasObjects
from accentor.storage.datasets import DatasetStore

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
TITLE = "<b>what</b>"
GAPS = ("3 pictures could not be made",)
SPEC = AtlasSpec(model="toy", layer="conv1", dataset="d@0123456789abcdef", title=TITLE, recipe="fast")


@pytest.fixture
def atlases(service: Service) -> AtlasStore:
    return AtlasStore(service.redis)


def create(atlases: AtlasStore, name: str = "a", minutes: int = 0) -> None:
    atlases.create(NewAtlas(name, SPEC, CARD.digest, "secret", CREATED + timedelta(minutes=minutes)))


def told(service: Service, path: str = "/a") -> dict[str, Any]:
    answer = service.http.get(f"/v1/atlases{path}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def dataset(service: Service) -> str:
    """Return the reference of a dataset of three pictures, called d."""
    for index in range(3):
        service.objects.put(f"photos/{index}.png", picture(index))
    return DatasetStore(service.objects).create(DatasetSpec(name="d", prefix="photos/"))[0].reference


def post(service: Service, *, key: str | None = None, **fields: Any) -> httpx.Response:
    given = {"model": "toy", "dataset": "d", **({} if "dictionary" in fields else {"layer": "conv1"}), **fields}
    return service.http.post("/v1/atlases", json=given, headers={} if key is None else {"Idempotency-Key": key})


def publish(service: Service, atlases: AtlasStore, name: str = "a") -> None:
    """Let an atlas have a site of two files."""
    objects = AtlasObjects(service.objects, name)
    paths = [Path(accentor.atlas.__file__).parent / "site" / file for file in ("core.js", "index.html")]
    files = [objects.put_file(path.name, path) for path in paths]
    site = AtlasSite(
        prefix=objects.prefix, features=2, images=3, pictures=9, gaps=GAPS, files=2, bytes=9, made_at=CREATED
    )
    objects.finish(site, files)
    ended = AtlasStep(name=AtlasStepName.SCAN, state=BatchState.SUCCEEDED)
    assert atlases.end(atlases.get(name), BatchState.PARTIALLY_FAILED, ended, site=site)


def test_an_atlas_that_is_accepted_begins_with_its_scan(service: Service, dataset: str) -> None:
    answer = post(service, title=TITLE, metadata={"study": "x"})
    assert answer.status_code == 202, answer.text
    atlas = answer.json()
    assert answer.headers["location"] == f"/v1/atlases/{atlas['id']}"
    assert answer.headers["retry-after"] == "1"
    assert (atlas["state"], atlas["title"], atlas["spec"]["dataset"]) == ("running", TITLE, dataset)
    assert atlas["steps"][0] | {"started_at": None} == {
        **dict.fromkeys(("eta_s", "finished_at", "started_at")),
        "name": "scan",
        "state": "queued",
        "batch": f"{atlas['id']}1",
        **{"total": 1, "done": 0, "failed": 0, "cached": 0},
    }
    batch = service.http.get(f"/v1/batches/{atlas['id']}1").json()
    assert (batch["total"], batch["metadata"]) == (1, {"atlas": atlas["id"]})
    assert told(service, f"/{atlas['id']}") == atlas


def test_two_atlases_share_a_scan(service: Service, dataset: str) -> None:
    first, second = (post(service, top_k=top_k).json() for top_k in (1, 2))
    assert first["id"] != second["id"]
    assert second["steps"][0]["batch"] == first["steps"][0]["batch"]
    service.http.post(f"/v1/atlases/{second['id']}/cancel")
    assert told(service, f"/{second['id']}")["state"] == "canceled"
    assert told(service, f"/{first['id']}")["steps"][0]["state"] == "queued"


def test_a_request_that_is_sent_again_makes_one_atlas(service: Service, dataset: str) -> None:
    first, again = (post(service, key="k") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["id"] == first.json()["id"]
    other = post(service, key="k", top_k=3)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(told(service, "")["data"]) == 1


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"dataset": "none"}, "unknown-dataset", "/dataset"),
        ({"layer": "conv9"}, "unknown-layer", "/layer"),
        ({"dictionary": "none"}, "unknown-dictionary", "/dictionary"),
        ({"dictionary": "none", "layer": "conv1"}, "invalid-request", ""),
        ({"top_k": 0}, "invalid-request", "/top_k"),
        ({"title": ""}, "invalid-request", "/title"),
        ({"recipe": {"stop_at": 1.0}}, "invalid-request", ""),
        ({"recipe": {"regularization_layer": "none"}}, "unknown-layer", "/recipe"),
        ({"limit": 0}, "invalid-request", "/limit"),
        ({"surprise": 1}, "invalid-request", "/surprise"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(
    service: Service, dataset: str, fields: dict[str, Any], code: str, pointer: str
) -> None:
    answer = post(service, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert told(service, "")["data"] == []


def test_an_unknown_model_is_named(service: Service, dataset: str) -> None:
    answer = post(service, model="none")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-model")


def test_canceled_and_deleted(service: Service, dataset: str) -> None:
    name = post(service).json()["id"]
    assert service.http.delete(f"/v1/atlases/{name}").status_code == 409
    canceled = service.http.post(f"/v1/atlases/{name}/cancel").json()
    assert (canceled["state"], canceled["steps"][0]["state"]) == ("canceled", "canceled")
    assert service.http.post(f"/v1/atlases/{name}/cancel").status_code == 200
    assert service.http.delete(f"/v1/atlases/{name}").status_code == 204
    assert service.http.get(f"/v1/atlases/{name}").status_code == 404


def test_a_site_is_served_to_who_knows_its_address(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    assert service.http.get("/v1/atlases/a/files").status_code == 404
    publish(service, atlases)
    url = told(service)["site"]["url"]
    page = service.http.get(url)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert b"<title>Atlas</title>" in page.content
    script = service.http.get(url.replace("index.html", "core.js"))
    assert script.headers["content-type"].startswith("text/javascript")
    assert service.http.get(url, headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    for wrong in (url.replace("secret", "guess"), url.replace("index.html", "none.html"), url.replace("/a/", "/b/")):
        assert service.http.get(wrong).status_code == 404, wrong
    for outside in ("../card.json", "%2e%2e/card.json", "..%2fcard.json"):
        found = service.http.get(url.replace("index.html", outside), follow_redirects=True)
        assert found.status_code in {404, 422}, outside


def test_the_files_of_a_site_are_listed_page_by_page(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    publish(service, atlases)
    first = told(service, "/a/files?limit=1")
    rest = told(service, f"/a/files?limit=1&cursor={first['next_cursor']}")
    (script,), (page,) = first["data"], rest["data"]
    assert (script["name"], page["name"], rest["next_cursor"]) == ("core.js", "index.html", None)
    data = service.http.get(told(service)["site"]["url"]).content
    assert (page["bytes"], page["sha256"]) == (len(data), digest(data))


def test_a_deleted_site_is_gone(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    publish(service, atlases)
    url = told(service)["site"]["url"]
    assert service.http.delete("/v1/atlases/a").status_code == 204
    assert service.http.get(url).status_code == 404
    wait_until(lambda: not list(service.objects.keys("atlases/")), what="its objects are removed")
    wait_until(lambda: not atlases.deleted(), what="nothing is left of it")


def test_what_an_api_left_of_a_deleted_atlas_is_removed_later(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    publish(service, atlases)
    atlases.delete("a")
    assert tidy_atlases(atlases, service.objects) == 1
    assert not list(service.objects.keys("atlases/"))
    assert tidy_atlases(atlases, service.objects) == 0


def test_an_atlas_is_told_step_by_step(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    told_first = told(service)
    assert (told_first["state"], told_first["title"], told_first["step"]) == ("queued", TITLE, "scan")
    assert [step["name"] for step in told_first["steps"]] == ["scan", "select", "accentuate", "evaluate", "publish"]
    assert {step["state"] for step in told_first["steps"]} == {None}
    assert told_first["spec"]["recipe"]["steps"] == PRESETS["fast"].steps
    service.jobs.create_batch(NewBatch("s", "toy", CARD.digest, "bulk", 4, CREATED))
    atlases.begin(atlases.get("a"), "s")
    service.jobs.start_jobs("s", [0, 1])
    service.jobs.finish_job("s", 0, JobState.SUCCEEDED)
    service.jobs.finish_job("s", 1, JobState.FAILED, failure=Failure(code="x", detail="y"))
    scan = told(service)["steps"][0]
    assert (scan["state"], scan["batch"], scan["total"]) == ("running", "s", 4)
    assert (scan["done"], scan["failed"], scan["cached"]) == (2, 1, 0)


def test_nothing_new_is_not_sent_again(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    first = service.http.get("/v1/atlases/a")
    headers = {"If-None-Match": first.headers["etag"]}
    assert first.headers["retry-after"] == "1"
    assert service.http.get("/v1/atlases/a", headers=headers).status_code == 304
    service.jobs.create_batch(NewBatch("s", "toy", CARD.digest, "bulk", 4, CREATED))
    atlases.begin(atlases.get("a"), "s")
    second = service.http.get("/v1/atlases/a", headers=headers)
    assert second.status_code == 200
    headers = {"If-None-Match": second.headers["etag"]}
    assert service.http.get("/v1/atlases/a", headers=headers).status_code == 304
    service.jobs.start_jobs("s", [0])
    assert service.http.get("/v1/atlases/a", headers=headers).status_code == 200


def test_a_finished_atlas_has_a_site_that_stays_where_it_is(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    publish(service, atlases)
    atlas = told(service)
    assert atlas["state"] == "partially_failed"
    assert atlas["site"]["url"] == "/v1/atlases/a/site/secret/index.html"
    assert atlas["site"]["gaps"] == list(GAPS)
    assert "retry-after" not in service.http.get("/v1/atlases/a").headers


def test_atlases_are_listed_the_newest_first(service: Service, atlases: AtlasStore) -> None:
    assert told(service, "") == {"data": [], "next_cursor": None}
    for minutes, name in enumerate("cab"):
        create(atlases, name, minutes)
    page = told(service, "?limit=2")
    assert [atlas["id"] for atlas in page["data"]] == ["b", "a"]
    rest = told(service, f"?limit=2&cursor={page['next_cursor']}")
    assert ([atlas["id"] for atlas in rest["data"]], rest["next_cursor"]) == (["c"], None)


@pytest.mark.parametrize("name", ["none", "NONE", "a" * 50, "%2e%2e"])
def test_what_is_not_there_is_a_404(service: Service, name: str) -> None:
    answer = service.http.get(f"/v1/atlases/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
