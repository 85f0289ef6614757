"""What Prometheus is told: jobs that wait and run, requests, and how long they took."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from accentor.errors import ServiceError
from accentor_api.backlog import Load

UNMATCHED = "unmatched"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one application, and a look at the job store whenever they are read."""

    def __init__(self, backlog: Callable[[], Iterable[Load]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_BacklogCollector(backlog))
        self._requests = Counter(
            "accentor_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "accentor_http_request_seconds",
            "Seconds from a request to the end of its answer",
            ("method", "route"),
            buckets=SECONDS,
            registry=self._registry,
        )

    def count(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Count one request, under its route rather than its path."""
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if route != UNMATCHED else "any"
        self._requests.labels(method, route, str(status or "none")).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _BacklogCollector(Collector):
    def __init__(self, backlog: Callable[[], Iterable[Load]]) -> None:
        self._backlog = backlog

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("accentor_state_up", "Whether Redis answers")
        jobs = GaugeMetricFamily("accentor_jobs", "Jobs that have not ended", labels=("lane", "model", "state"))
        try:
            for entry in self._backlog():
                jobs.add_metric((entry.lane, entry.model, "queued"), entry.queued)
                jobs.add_metric((entry.lane, entry.model, "running"), entry.running)
            up.add_metric((), 1)
        except ServiceError:
            up.add_metric((), 0)
        return (up, jobs)
