"""What Prometheus is told: jobs that wait, run and end, what the workers do, requests and how long they took."""

from collections import Counter
from collections.abc import Callable, Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from accentor.errors import ServiceError
from accentor.state import Measures
from accentor_api.backlog import Load

UNMATCHED = "unmatched"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one application, and a look at the job store whenever they are read."""

    def __init__(self, backlog: Callable[[], Iterable[Load]], measures: Callable[[], Measures]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_StateCollector(backlog, measures))
        self._requests = prometheus_client.Counter(
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


class _StateCollector(Collector):
    """What Redis knows: the same from every API, so that it is to be taken once, not added up."""

    def __init__(self, backlog: Callable[[], Iterable[Load]], measures: Callable[[], Measures]) -> None:
        self._backlog = backlog
        self._measures = measures

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("accentor_state_up", "Whether Redis answers")
        jobs = GaugeMetricFamily("accentor_jobs", "Jobs that have not ended", labels=("lane", "model", "state"))
        try:
            for entry in self._backlog():
                jobs.add_metric((entry.lane, entry.model, "queued"), entry.queued)
                jobs.add_metric((entry.lane, entry.model, "running"), entry.running)
            told = _families(self._measures())
            up.add_metric((), 1)
        except ServiceError:
            told = []
            up.add_metric((), 0)
        return (up, jobs, *told)


def _families(measures: Measures) -> list[Metric]:
    ended = CounterMetricFamily("accentor_jobs_ended", "Jobs that ended", labels=("lane", "model", "end"))
    failed = CounterMetricFamily(
        "accentor_jobs_failed", "Jobs that failed, by reason", labels=("lane", "model", "code")
    )
    failures: Counter[tuple[str, str]] = Counter()
    for entry in measures.ended:
        if entry.failed:
            failed.add_metric((entry.lane, entry.model, entry.how), entry.jobs)
            failures[entry.lane, entry.model] += entry.jobs
        else:
            ended.add_metric((entry.lane, entry.model, entry.how), entry.jobs)
    for place, jobs in failures.items():
        ended.add_metric((*place, "failed"), jobs)
    seconds = SummaryMetricFamily("accentor_step_seconds", "Seconds of a step of the engine", labels=("model",))
    pairs = SummaryMetricFamily("accentor_step_pairs", "Pairs that a step moves: the batch size", labels=("model",))
    for model, work in measures.work.items():
        seconds.add_metric((model,), work.steps, work.seconds)
        pairs.add_metric((model,), work.steps, work.pairs)
    workers = GaugeMetricFamily("accentor_workers", "Living workers that have loaded the model", labels=("model",))
    for model, count in measures.workers.items():
        workers.add_metric((model,), count)
    memory = GaugeMetricFamily("accentor_gpu_memory_bytes", "Bytes of a worker's GPU", labels=("worker", "kind"))
    for worker, kinds in measures.memory.items():
        for kind, size in kinds.items():
            memory.add_metric((worker, kind), size)
    webhooks = dict(measures.webhooks)
    dropped = CounterMetricFamily("accentor_webhook_dropped", "Events that are delivered never")
    dropped.add_metric((), webhooks.pop("dropped", 0))
    attempts = CounterMetricFamily("accentor_webhook_attempts", "Attempts to deliver an event", labels=("outcome",))
    for outcome, count in webhooks.items():
        attempts.add_metric((outcome,), count)
    return [ended, failed, seconds, pairs, workers, memory, attempts, dropped]
