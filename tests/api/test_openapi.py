"""The OpenAPI document: committed as it is, complete, and its examples are accepted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from docs.make_openapi import TARGET, render
from tests.api.service import CARD, Service

from accentor.spec import BatchSpec, JobSpec
from accentor.spec.atlases import AtlasSpec
from accentor.spec.webhooks import EventType, WebhookSpec
from accentor_api import openapi


def test_the_document_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run: python docs/make_openapi.py"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(json.loads(render()))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert "#/components/schemas/BatchSpec" in found
    for reference in found:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_every_call_says_what_may_go_wrong(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert {"4XX", "5XX"} <= set(operation["responses"]), (method, path)
            assert operation["description"], (method, path)


def test_bodies_that_are_read_by_hand_are_described(document: dict[str, Any]) -> None:
    batch = document["paths"]["/v1/batches"]["post"]["requestBody"]
    assert batch["required"]
    assert set(batch["content"]) == {"application/json", "application/jsonl", "application/x-ndjson"}
    job = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert job["schema"] == {"$ref": "#/components/schemas/JobSpec"}
    names = {parameter["name"] for parameter in document["paths"]["/v1/batches"]["post"]["parameters"]}
    assert names >= {"dry_run", "on_invalid", "model", "recipe", "lane", "seed"}
    assert "304" in document["paths"]["/v1/batches/{batch_id}"]["get"]["responses"]


def test_what_webhooks_are_sent_is_described(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == {*EventType, "webhook.test"}
    for item in document["webhooks"].values():
        body = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/WebhookEvent"}


def test_the_examples_are_valid() -> None:
    JobSpec.model_validate(openapi.JOB)
    WebhookSpec.model_validate(openapi.WEBHOOK)
    for atlas in (openapi.ATLAS, openapi.ATLAS_DICTIONARY):
        AtlasSpec.model_validate(atlas)
    for example in (openapi.PRODUCT, openapi.LAYER, openapi.LISTED):
        BatchSpec.model_validate(example)


def test_the_examples_are_accepted(service: Service, image: str) -> None:
    layers = tuple(
        layer.model_copy(update={"name": name, "shape": (units, 8, 8)})
        for layer, name, units in zip(CARD.layers, ("layer3", "conv", "fc"), (1024, 4, 4), strict=True)
    )
    card = CARD.model_copy(
        update={
            "name": "resnet50",
            "digest": "e" * 64,
            "outputs": 1000,
            "labels": None,
            "layers": layers,
            "regularization_layer": "conv",
        }
    )
    service.announce(card)

    def with_image(example: Any) -> bytes:
        text = example if isinstance(example, str) else json.dumps(example)
        return text.replace(openapi.IMAGE, image).encode()

    totals = []
    for example in (openapi.PRODUCT, openapi.LAYER, openapi.LISTED, openapi.LINES):
        kind = "application/jsonl" if isinstance(example, str) else "application/json"
        answer = service.http.post("/v1/batches", content=with_image(example), headers={"Content-Type": kind})
        assert answer.status_code == 202, answer.text
        totals.append(answer.json()["total"])
    assert totals == [6, 256, 1, 2]
    job = service.http.post("/v1/jobs", content=with_image(openapi.JOB), headers={"Content-Type": "application/json"})
    assert job.status_code == 202
