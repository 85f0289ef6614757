"""Is it alive, is it ready, what does it do: for orchestrators and Prometheus."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from accentor.errors import ModelNotReadyError, ServiceError
from accentor_api.problems import problem_of_error
from accentor_api.services import Services, WithServices

router = APIRouter(tags=["health"])


@router.get("/healthz")
def live() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(request: Request, services: WithServices) -> Response:
    """Answer 200 if jobs can be taken, else 503 with the names of what is down."""
    checks: dict[str, Callable[[], None]] = {
        "redis": services.jobs.ping,
        "storage": services.objects.check,
        "worker": lambda: _check_models(services),
    }
    down = {name: reason for name, check in checks.items() if (reason := _fault(check)) is not None}
    if down:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in down.items())
        return problem_of_error(request.scope, ServiceError(reasons, down=down))
    return Response('{"status":"ready"}', media_type="application/json")


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Return the counters in Prometheus' text format."""
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _check_models(services: Services) -> None:
    if not services.jobs.ready_models():
        raise ModelNotReadyError("no worker is there that has loaded its models")


def _fault(check: Callable[[], None]) -> str | None:
    try:
        check()
    except ServiceError as error:
        return error.detail
    return None
