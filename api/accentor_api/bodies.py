"""What a request's body must be."""

from fastapi import Request
from starlette.exceptions import HTTPException


def require_json(request: Request) -> None:
    """Refuse a body that is not declared as JSON: no form of a web page elsewhere can declare it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"the body must be JSON: content type application/json, given {kind!r}")
