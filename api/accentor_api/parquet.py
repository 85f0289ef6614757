"""Results as a Parquet table, streamed in groups of rows."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from accentor.errors import InvalidRequestError
from accentor.spec import JobStatus, canonical_json
from accentor_api.sinks import Sink

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

PARQUET = "application/vnd.apache.parquet"
GROUP_ROWS = 5_000


def parquet_stream(jobs: Iterable[JobStatus]) -> Iterator[bytes]:
    """Return a Parquet file of the jobs, one row each, in pieces; `InvalidRequestError` without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidRequestError(
            "this service cannot write Parquet: pyarrow is not installed; ask for jsonl"
        ) from error
    return _written(pyarrow, parquet, jobs)


def _written(arrow: Any, parquet: Any, jobs: Iterable[JobStatus]) -> Iterator[bytes]:
    sink, schema, iterator = Sink(), _schema(arrow), iter(jobs)
    with parquet.ParquetWriter(arrow.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        while rows := [_row(job) for job in islice(iterator, GROUP_ROWS)]:
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            yield sink.drain()
    yield sink.drain()


def _schema(arrow: Any) -> "pyarrow.Schema":
    text, number = arrow.string(), arrow.float64()
    columns = {
        "index": arrow.int64(),
        "id": text,
        "custom_id": text,
        "state": text,
        "key": text,
        "model": text,
        "feature": text,
        "image": text,
        "seed": arrow.int64(),
        "recipe": text,
        "before": number,
        "after": number,
        "width": arrow.int32(),
        "height": arrow.int32(),
        "seconds": number,
        "created_at": arrow.timestamp("us", tz="UTC"),
        "urls": arrow.map_(text, text),
        "failure_code": text,
        "failure_detail": text,
        "position": arrow.int64(),
    }
    return arrow.schema(list(columns.items()))


def _row(job: JobStatus) -> dict[str, Any]:
    spec, result, failure = job.spec, job.result, job.failure
    return {
        "index": job.index,
        "id": job.id,
        "custom_id": spec.custom_id,
        "state": str(job.state),
        "key": job.key,
        "model": spec.model,
        "feature": str(spec.feature),
        "image": spec.image,
        "seed": spec.seed,
        "recipe": canonical_json(spec.recipe.model_dump(mode="json")).decode(),
        "before": result and result.before,
        "after": result and result.after,
        "width": result and result.width,
        "height": result and result.height,
        "seconds": result and result.seconds,
        "created_at": result and result.created_at,
        "urls": list(job.urls.items()),
        "failure_code": failure and failure.code,
        "failure_detail": failure and failure.detail,
        "position": job.position,
    }
