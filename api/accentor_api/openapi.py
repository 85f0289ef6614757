"""The OpenAPI document: what FastAPI finds in the endpoints, the bodies that we read ourselves, and examples."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from accentor.spec import BatchHeader, BatchLine, BatchSpec, DictionarySpec, JobSpec, Problem
from accentor.spec.atlases import AtlasSpec
from accentor.spec.datasets import DatasetSpec
from accentor.spec.scans import ScanSpec
from accentor.spec.webhooks import TEST, EventType, WebhookEvent, WebhookSpec
from accentor_api.access import is_open
from accentor_api.problems import PROBLEM_TYPE, RESPONSES

IMAGE = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"
TEMPLATE = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    JobSpec,
    BatchSpec,
    BatchHeader,
    BatchLine,
    DatasetSpec,
    ScanSpec,
    DictionarySpec,
    AtlasSpec,
    WebhookSpec,
    WebhookEvent,
)

JOB = {"model": "resnet50", "feature": "logit:207", "image": IMAGE, "seed": 0, "recipe": {"steps": 60}}
PRODUCT = {
    "model": "resnet50",
    "features": ["logit:207", "channel:layer3:12"],
    "images": [IMAGE],
    "pairing": "product",
    "seeds": 3,
    "recipe": "natural",
    "custom_id": "{feature}-{image:.8}-{seed}",
    "metadata": {"study": "dogs"},
}
LAYER = {"model": "resnet50", "features": {"layer": "layer3", "range": "0:512", "stride": 2}, "images": [IMAGE]}
LISTED = {"model": "resnet50", "jobs": [{"feature": "logit:207", "image": IMAGE, "custom_id": "dog-1"}]}
WEBHOOK = {
    "url": "https://example.org/accentor",
    "events": ["batch.succeeded", "batch.partially_failed", "batch.failed"],
}
LINES = (
    '{"batch": {"model": "resnet50", "recipe": "fast", "metadata": {"study": "dogs"}}}\n'
    f'{{"custom_id": "dog-1", "feature": "logit:207", "image": "{IMAGE}"}}\n'
    f'{{"custom_id": "dog-2", "feature": "channel:layer3:12", "image": "{IMAGE}", "seed": 1}}\n'
)
LINES_TEXT = (
    'One job a line, each a `BatchLine`. The first line may be `{"batch": {…}}`, a `BatchHeader`: what holds for all. '
    "Packed with gzip if `Content-Encoding: gzip` says so."
)


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": TEMPLATE.format(model=model.__name__)}


def _examples(**values: Any) -> dict[str, Any]:
    return {name: {"value": value} for name, value in values.items()}


def _lines() -> dict[str, Any]:
    return {"schema": {"type": "string", "description": LINES_TEXT}, "examples": _examples(two_jobs=LINES)}


JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _ref(JobSpec), "examples": _examples(job=JOB)}},
    }
}
WEBHOOK_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _ref(WebhookSpec), "examples": _examples(webhook=WEBHOOK)}},
    }
}
BATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _ref(BatchSpec),
                "examples": _examples(product=PRODUCT, all_of_a_layer=LAYER, listed=LISTED),
            },
            "application/jsonl": _lines(),
            "application/x-ndjson": _lines(),
        },
    }
}
PREFIX = {"name": "birds", "prefix": "photos/birds/"}
TARS = {"name": "train", "tars": ["shards/train-"], "labels_file": "shards/labels.csv"}
UPLOADS = {"name": "mine", "images": [{"image": IMAGE, "id": "dog.jpg", "label": "dog"}]}
DATASET_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _ref(DatasetSpec),
                "examples": _examples(prefix=PREFIX, tars=TARS, uploaded=UPLOADS),
            }
        },
    }
}
CHANNELS = {"name": "layer3-channels", "model": "resnet50", "layer": "layer3", "channels": True}
SAE = {"name": "sae", "model": "resnet50", "layer": "layer3", "file": IMAGE, "activation": "topk", "k": 32}
DICTIONARY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _ref(DictionarySpec),
                "examples": _examples(channels=CHANNELS, uploaded=SAE),
            }
        },
    }
}
SCAN = {"model": "resnet50", "layer": "layer3", "top_k": 16}
SCAN_DICTIONARY = {"model": "resnet50", "dictionary": "sae", "code": "pre"}
SCAN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _ref(ScanSpec),
                "examples": _examples(layer=SCAN, dictionary=SCAN_DICTIONARY),
            }
        },
    }
}
ATLAS = {"model": "resnet50", "layer": "layer3", "dataset": "birds", "top_k": 6, "limit": 512, "recipe": "fast"}
ATLAS_DICTIONARY = {"model": "resnet50", "dictionary": "sae", "dataset": "birds", "title": "What the SAE sees in birds"}
ATLAS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _ref(AtlasSpec),
                "examples": _examples(layer=ATLAS, dictionary=ATLAS_DICTIONARY),
            }
        },
    }
}
_WHERE = {
    "Location": {"schema": {"type": "string"}, "description": "Where to look at it"},
    "Retry-After": {
        "schema": {"type": "integer"},
        "description": "Seconds after which to look; missing if it has ended",
    },
}
CREATED: dict[int | str, dict[str, Any]] = {
    200: {"description": "It has ended already, or it was only a dry run"},
    202: {"description": "Accepted", "headers": _WHERE},
}
ONCE: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 255, "pattern": "^[\\x21-\\x7e]{1,255}$"},
            "description": "Sent again within 24 hours with the same request, nothing is made twice; the answer "
            "then carries `Idempotency-Replayed: true`",
        }
    ]
}
SECURITY = "api_key"
SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key. GET and HEAD need its scope `read`, webhooks and everything else `submit`; "
    "`admin` stands for both. A service that listens on 127.0.0.1 alone asks for none",
}
EVENTS = {
    EventType.RUNNING: "The batch's first job has begun, or its failed jobs were queued again",
    EventType.SUCCEEDED: "The batch has ended, and all its jobs that were not canceled succeeded",
    EventType.PARTIALLY_FAILED: "The batch has ended: some of its jobs succeeded and some failed",
    EventType.FAILED: "The batch has ended, and no job succeeded",
    EventType.CANCELED: "The batch was canceled",
    TEST: "Somebody asked for it with `POST /v1/webhooks/{webhook_id}/test`",
}
EVENT_HEADERS = {
    "webhook-id": "The event's id, the same for every attempt to deliver it",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970",
    "webhook-signature": "Signatures by each secret that counts: `v1,` and base64 of HMAC-SHA256, parted by spaces",
}
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing new"}}
STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}},
    204: {"description": "It has ended, and the reader knows"},
}


def events() -> dict[str, Any]:
    """Return what webhooks are sent, by the type of the event."""
    headers = [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}, "description": text}
        for name, text in EVENT_HEADERS.items()
    ]
    body = {"required": True, "content": {"application/json": {"schema": _ref(WebhookEvent)}}}
    answers = {"2XX": {"description": "It was heard; any other answer, and it is sent again later"}}
    return {
        str(kind): {"post": {"summary": text, "parameters": headers, "requestBody": body, "responses": answers}}
        for kind, text in EVENTS.items()
    }


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application, the same every time."""
    found = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
    )
    _, extra = models_json_schema([(model, "validation") for model in BODIES], ref_template=TEMPLATE)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in extra.get("$defs", {}).items():
        schemas.setdefault(name, schema)
    found["components"]["securitySchemes"] = {SECURITY: SCHEME}
    for path, item in found["paths"].items():
        for method, operation in item.items():
            for status in RESPONSES:
                response = operation["responses"][status]
                response["content"] = {PROBLEM_TYPE: {"schema": _ref(Problem)}}
            if not is_open(method.upper(), path):
                operation["security"] = [{SECURITY: []}, {}]
    found["webhooks"] = events()
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    return found


def install(app: FastAPI) -> None:
    """Let the application answer with this document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
