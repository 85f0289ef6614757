"""Every error as RFC 9457 problem details with a stable code."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from accentor.errors import AccentorError, InvalidRequestError, MissingScopeError, ServiceError, UnauthorizedError
from accentor.spec import Problem
from accentor_api.faults import error_of, faults_of_validation

REQUEST_ID = "accentor.request_id"
"""Where the request's id is kept in its ASGI scope."""

RETRY_AFTER_S = 5
CHALLENGE = 'Bearer realm="accentor"'
HTTP_CODES: Mapping[int, str] = {
    400: "bad-request",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    415: "unsupported-media-type",
    421: "misdirected-request",
    500: "internal-error",
}

PROBLEM_TYPE = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Your request is wrong", "model": Problem},
    "5XX": {"description": "We are broken", "model": Problem},
}
"""How the errors of every endpoint are described in OpenAPI."""


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = PROBLEM_TYPE


def problem_of_error(scope: Scope, error: AccentorError) -> ProblemResponse:
    """Answer with an error of ours."""
    title = (type(error).__doc__ or error.code).partition("\n")[0].rstrip(".")
    return _answer(scope, error.status, error.code, title, error.detail, headers=_headers(error), **error.extra)


def problem_of_status(
    scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> ProblemResponse:
    """Answer with an error of HTTP's own: a route, method or content type that is not."""
    return _answer(scope, status, HTTP_CODES.get(status, f"http-{status}"), _phrase(status), detail, headers=headers)


def _answer(
    scope: Scope,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> ProblemResponse:
    content = {
        **extra,
        "type": f"urn:accentor:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": scope["path"],
        "request_id": scope.get(REQUEST_ID),
    }
    return ProblemResponse(content, status_code=status, headers=headers)


def _headers(error: AccentorError) -> dict[str, str]:
    """Return when to try again, and what to show instead of the key that was shown."""
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": 'Bearer realm="accentor"'}
    if isinstance(error, MissingScopeError):
        return {
            "WWW-Authenticate": f'Bearer realm="accentor", error="insufficient_scope", scope="{error.extra["needed"]}"'
        }
    seconds = error.extra.get("retry_after_s", RETRY_AFTER_S if isinstance(error, ServiceError) else None)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


async def _on_error(request: Request, error: AccentorError) -> Response:
    return problem_of_error(request.scope, error)


async def _on_validation(request: Request, error: RequestValidationError) -> Response:
    return problem_of_error(request.scope, error_of(faults_of_validation(error.errors(), error.body)))


async def _on_http(request: Request, error: HTTPException) -> Response:
    cause = error.__cause__
    if isinstance(cause, AccentorError):
        return problem_of_error(request.scope, cause)
    if error.status_code == HTTPStatus.BAD_REQUEST and cause is not None:
        return problem_of_error(request.scope, InvalidRequestError(f"the body cannot be read: {cause}"))
    detail = error.detail
    if detail == _phrase(error.status_code):
        detail = f"{request.method} {request.url.path}: {detail.lower()}"
    return problem_of_status(request.scope, error.status_code, detail, error.headers)


def install(app: FastAPI) -> None:
    """Let the application answer every error it foresees with a problem document."""
    app.exception_handler(AccentorError)(_on_error)
    app.exception_handler(RequestValidationError)(_on_validation)
    app.exception_handler(HTTPException)(_on_http)
