"""The data beside the site: a line of JSON and a row of Parquet for each feature and picture."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from accentor.atlas.chunks import compact
from accentor.atlas.model import FeatureEntry

ROWS_PER_GROUP = 4096

COLUMNS = {
    "feature": "int64",
    "name": "string",
    "label": "string",
    "density": "float64",
    "mean": "float64",
    "std": "float64",
    "coherence": "float64",
    "image": "int64",
    "chosen": "string",
    "percentile": "float64",
    "fires": "bool_",
    "strength": "float64",
    "value": "float64",
    "reached_percentile": "float64",
    "distance": "float64",
    "strip": "string",
    "marks": "string",
    "failure": "string",
}


def rows_of(feature: FeatureEntry) -> Iterable[dict[str, Any]]:
    """Return a row for each frame of a feature; one without frames for a picture that is missing."""
    own = {name: getattr(feature, name) for name in ("name", "label", "density", "mean", "std", "coherence")}
    for one in feature.shown:
        told = {
            "image": one.image,
            "chosen": one.chosen,
            "percentile": one.percentile,
            "fires": one.fires,
            "strip": one.strip,
            "marks": " ".join(one.marks),
            "failure": one.failure,
        }
        for frame in one.frames or (None,):
            reached = (
                {"strength": None, "value": one.value, "reached_percentile": None, "distance": None}
                if frame is None
                else {
                    "strength": frame.strength,
                    "value": frame.value,
                    "reached_percentile": frame.percentile,
                    "distance": frame.distance,
                }
            )
            yield {"feature": feature.index, **own, **told, **reached}


class Tables:
    """Writes ``features.jsonl`` and ``accentuations.parquet`` a feature at a time."""

    def __init__(self, out: Path) -> None:
        import pyarrow as arrow  # type: ignore[import-untyped]
        from pyarrow import parquet

        self._arrow = arrow
        self._schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in COLUMNS.items()])
        self._parquet = parquet.ParquetWriter(out / "accentuations.parquet", self._schema)
        self._lines = (out / "features.jsonl").open("w", encoding="utf-8")
        self._rows: list[Mapping[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._parquet.close()
        self._lines.close()

    def add(self, feature: FeatureEntry, page: Mapping[str, Any]) -> None:
        """Append a feature."""
        self._lines.write(compact(page) + "\n")
        self._rows.extend(rows_of(feature))
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def summary(values: Sequence[float | None], bins: int = 24) -> dict[str, Any] | None:
    """Return a histogram of the values that there are, with their median; None if there are none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    low, high = known[0], known[-1]
    span = (high - low) or 1.0
    counts = [0] * bins
    for value in known:
        counts[min(bins - 1, int((value - low) / span * bins))] += 1
    return {"low": low, "high": high, "counts": counts, "median": known[len(known) // 2], "known": len(known)}
