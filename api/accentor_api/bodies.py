"""What a request's body must be, and reading it without holding up the other requests."""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from accentor.errors import DigestMismatchError, InvalidRequestError
from accentor.spec import is_sha256, sha256_hex
from accentor_api.faults import error_of, faults_of_validation
from accentor_api.unpacking import unpack

JSON = "application/json"
OCTETS = "application/octet-stream"
JSON_LINES = "application/jsonl"
LINES_TYPES = (JSON_LINES, "application/x-ndjson", "application/x-jsonlines")

M = TypeVar("M", bound=BaseModel)


def content_type(request: Request) -> str:
    """Return the type that the body is declared as."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require(request: Request, kinds: Iterable[str]) -> str:
    """Return the body's type if it is one of these: no form of a web page elsewhere can declare them."""
    kind = content_type(request)
    expected = list(kinds)
    if kind not in expected:
        raise HTTPException(415, f"the body must be of content type {' or '.join(expected)}, given {kind!r}")
    return kind


async def read_model(request: Request, model: type[M], limit: int) -> M:
    """Return the JSON body as a contract, checked in a thread; its faults are told where they stand."""
    require(request, [JSON])
    data = await request.body()
    return await run_in_threadpool(parse, model, data, request.headers.get("content-encoding", ""), limit)


async def read_announced(request: Request, sha256: str) -> bytes:
    """Return the body if it has the sha256 that it was announced with."""
    if not is_sha256(sha256):
        raise InvalidRequestError(f"{sha256[:80]!r} is no sha256: expected 64 hexadecimal digits in lower case")
    data = await request.body()
    actual = await run_in_threadpool(sha256_hex, data)
    if actual != sha256:
        raise DigestMismatchError(f"the body has the sha256 {actual}, announced was {sha256}", actual=actual)
    return data


def parse(model: type[M], data: bytes, encoding: str, limit: int) -> M:
    """Return a JSON document as a contract; the error names each fault."""
    plain = unpack(data, encoding, limit)
    try:
        return model.model_validate_json(plain)
    except ValidationError as error:
        raise error_of(faults_of_validation(located(error), loaded(plain))) from error


def located(error: ValidationError) -> list[dict[str, Any]]:
    """Return pydantic's errors as they are told of a request's body."""
    return [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]


def loaded(data: bytes) -> Any:
    """Return the document that faults are looked up in, or none if it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
