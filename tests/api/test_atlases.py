"""Atlases over HTTP: what is told of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.api.service import CARD, Service

from accentor.spec import BatchState, Failure, JobState
from accentor.spec.atlases import AtlasSite, AtlasSpec, AtlasStep, AtlasStepName
from accentor.state import AtlasStore, NewAtlas, NewBatch

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
TITLE = "<b>what</b>"
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


def test_an_atlas_is_told_step_by_step(service: Service, atlases: AtlasStore) -> None:
    create(atlases)
    told_first = told(service)
    assert (told_first["state"], told_first["title"], told_first["step"]) == ("queued", TITLE, "scan")
    assert [step["name"] for step in told_first["steps"]] == ["scan", "select", "accentuate", "evaluate", "publish"]
    assert {step["state"] for step in told_first["steps"]} == {None}
    assert told_first["spec"]["recipe"]["steps"] == 24
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
    gaps = ("3 pictures could not be made",)
    site = AtlasSite(
        prefix="atlases/a/site/", features=2, images=3, pictures=9, gaps=gaps, files=4, bytes=5, made_at=CREATED
    )
    ended = AtlasStep(name=AtlasStepName.SCAN, state=BatchState.SUCCEEDED)
    atlases.end(atlases.get("a"), BatchState.PARTIALLY_FAILED, ended, site=site)
    atlas = told(service)
    assert atlas["state"] == "partially_failed"
    assert atlas["site"]["url"] == "/v1/atlases/a/site/secret/index.html"
    assert atlas["site"]["gaps"] == list(gaps)
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
