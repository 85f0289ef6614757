"""Requests made up from the OpenAPI document, valid and not: no answer is a 5xx, and none is undocumented."""

import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import requests
import schemathesis
from docs.make_openapi import TARGET
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi import checks
from tests.api.service import CARD, Service

from accentor.spec import Failure
from accentor.spec.atlases import AtlasSpec
from accentor.spec.webhooks import WebhookSpec
from accentor.state import AtlasStore, NewAtlas, WebhookStore
from accentor.state.keys import ANONYMOUS
from accentor_api import openapi

REQUESTS = 10
"""Requests of random content to each call, beside those that are listed systematically."""

RARE = ("Blur", "Cosine", "CosinePower", "Direction", "Encoder", "Entry", "Likeness", "Product", "Spatial", "Sum")
"""Kinds of features that are left out: making up features of features takes minutes; tests/spec does it by hand."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def without(node: Any, names: tuple[str, ...]) -> Any:
    """Return a part of the document without the choice of these schemas."""
    if isinstance(node, dict):
        return {name: without(value, names) for name, value in node.items()}
    if isinstance(node, list):
        return [
            without(value, names)
            for value in node
            if not (isinstance(value, dict) and value.get("$ref", "").endswith(tuple(f"/{name}" for name in names)))
        ]
    return node


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def _lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def read_schema() -> Any:
    generation = GenerationConfig(deterministic=True, max_examples=REQUESTS, with_security_parameters=False)
    projects = ProjectsConfig(default=ProjectConfig(generation=generation))
    document = without(json.loads(TARGET.read_text(encoding="utf-8")), RARE)
    schemas = document["components"]["schemas"]
    schemas |= {name: without(schemas[name], ("Recipe",)) for name in ("BatchJob", "BatchSpec")}
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig(seed=1, projects=projects))


schema = read_schema()


class Known(NamedTuple):
    """A service in which something has happened, and the names by which it can be asked for."""

    service: Service
    session: requests.Session
    names: dict[str, str]

    def put_names(self, case: schemathesis.Case) -> None:
        """Let every other request, chosen by its content, be about something that is there."""
        if zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode()) % 2:
            return
        for name in (case.path_parameters or {}).keys() & self.names.keys():
            case.path_parameters[name] = self.names[name]
        if isinstance(case.body, dict):
            given = {"model": "toy", "image": self.names["sha256"], "images": [self.names["sha256"]]}
            case.body |= {name: given[name] for name in case.body.keys() & given.keys()}
        elif isinstance(case.body, str):
            case.body = case.body.replace(openapi.IMAGE, self.names["sha256"]).replace("resnet50", "toy")


@pytest.fixture(scope="module")
def known(running: Service) -> Iterator[Known]:
    """Return a service with a finished job and a batch in which jobs have succeeded, failed and wait."""
    running.forget()
    running.announce()
    running.announce(CARD.model_copy(update={"name": "resnet50", "digest": "e" * 64}))
    image = running.upload()
    job = running.submit_job(feature="logit:0", image=image)
    running.run(job["batch"], 0)
    batch = running.submit(features=["logit:0", "logit:1", "logit:2"], images=[image], seeds=2)
    running.run(batch["id"], 1)
    running.fail(batch["id"], 2, Failure(code="out-of-memory", detail="x"))
    webhook = WebhookStore(running.redis).create(WebhookSpec(url="https://192.0.2.1/refused"), ANONYMOUS)
    atlas = AtlasSpec(model="toy", layer="conv1", dataset="d@0123456789abcdef")
    AtlasStore(running.redis).create(NewAtlas("a", atlas, CARD.digest, "secret", datetime.now(UTC)))
    names = {"sha256": image, "job_id": job["id"], "batch_id": batch["id"], "webhook_id": webhook.id, "name": "toy"}
    names |= {"atlas_id": "a", "secret": "secret"}
    with requests.Session() as session:
        yield Known(running, session, names)
    running.forget()


@schema.parametrize()
@settings(
    max_examples=REQUESTS,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_undocumented(case: schemathesis.Case, known: Known) -> None:
    known.put_names(case)
    case.call_and_validate(base_url=known.service.url, session=known.session, checks=CHECKS, timeout=20)
