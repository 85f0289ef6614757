"""A scan as Parquet tables in a folder, for anyone's tools; and read back.

``features.parquet``: a row per feature with its statistics, histogram and quantiles. ``top.parquet``: its top images
with positions. ``percentiles.parquet``: its images at percentiles. ``images.parquet``: a row per image.
``sample.parquet`` and ``skipped.parquet``: what the name says.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accentor.engine.loading import Skipped
from accentor.engine.outputs.extras import needed
from accentor.engine.scan.bins import BINS
from accentor.engine.scan.ranked import IMAGE, NOTES, Ranked
from accentor.engine.scan.result import PERCENTILES, Scan, Settings
from accentor.engine.scan.rows import ImageRow, ImageRows
from accentor.engine.scan.sample import Sample
from accentor.errors import InvalidRequestError
from accentor.spec.scans import SCAN_VERSION

QUANTILES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
SETTINGS = b"accentor.scan"
IMAGES = "images.parquet"
AT_ONCE = 4_096


def write_scan(scan: Scan, folder: str | Path, *, images: bool = True, is_part: bool = False) -> Path:
    """Write the tables and return the folder; where ``features.parquet`` is, all is there.

    Parameters
    ----------
    scan
        What was found.
    folder
        Made if need be.
    images
        Whether the table of images is written.
    is_part
        Whether it will be merged with others: quantiles and images at percentiles, which take time, are left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrow = needed("pyarrow", "atlas", "writing a scan")
    if images:
        _write(folder / IMAGES, arrow.Table.from_pylist([_image(row) for row in scan.rows], image_schema(arrow)))
    _write(folder / "skipped.parquet", arrow.Table.from_pylist([asdict(s) for s in scan.skipped], _skipped(arrow)))
    _write(folder / "percentiles.parquet", arrow.concat_tables(_percentiles(arrow, scan, is_part=is_part)))
    _write(folder / "top.parquet", arrow.table(_top(arrow, scan)))
    sample = {
        "priority": scan.sampled.priorities.numpy(),
        "image": scan.sampled.images.numpy(),
        "values": _lists(arrow, scan.sampled.values),
        "fires": _lists(arrow, scan.sampled.fires),
    }
    _write(folder / "sample.parquet", arrow.table(sample))
    known = json.dumps({"version": SCAN_VERSION, "seen": scan.seen, "settings": asdict(scan.settings)})
    columns = _features(arrow, scan)
    if not is_part:
        columns["quantiles"] = _lists(arrow, scan.quantiles(QUANTILES))
    _write(folder / "features.parquet", arrow.table(columns, metadata={SETTINGS: known.encode()}))
    return folder


def read_scan(folder: str | Path, *, rows: bool = True) -> Scan:
    """Read what `write_scan` wrote; without the rows of the images if they are not wanted.

    Raises
    ------
    InvalidRequestError
        If there is no scan in the folder, or one of another version.
    """
    folder = Path(folder)
    parquet = needed("pyarrow.parquet", "atlas", "reading a scan")
    if not (folder / "features.parquet").exists():
        raise InvalidRequestError(f"{folder} holds no scan: there is no features.parquet")
    table = parquet.read_table(folder / "features.parquet")
    known = json.loads((table.schema.metadata or {}).get(SETTINGS, b"{}"))
    if known.get("version") != SCAN_VERSION:
        raise InvalidRequestError(f"{folder} holds a scan of version {known.get('version')}, expected {SCAN_VERSION}")
    grid = known["settings"]["grid"]
    settings = Settings(**{**known["settings"], "grid": grid and tuple(grid)})
    top = parquet.read_table(folder / "top.parquet")
    sample = parquet.read_table(folder / "sample.parquet")
    images = parquet.read_table(folder / IMAGES).to_pylist() if rows else []
    return Scan(
        settings=settings,
        seen=known["seen"],
        skipped=tuple(Skipped(**row) for row in parquet.read_table(folder / "skipped.parquet").to_pylist()),
        top=_ranked(top, settings.features, settings.top_k),
        bottom=_ranked_bottom(table),
        count=_column(table, "count"),
        total=_column(table, "total"),
        squares=_column(table, "squares"),
        fired=_column(table, "fired"),
        histogram=_matrix(table, "histogram", BINS),
        sampled=Sample(
            _column(sample, "priority"),
            _column(sample, "image"),
            _matrix(sample, "values", settings.features),
            _matrix(sample, "fires", settings.features),
        ),
        rows=ImageRows([_row(row) for row in images]),
    )


def _write(path: Path, table: Any) -> None:
    parquet = needed("pyarrow.parquet", "atlas", "writing a scan")
    part = path.with_name(f".{path.name}.part")
    parquet.write_table(table, part, compression="zstd")
    part.replace(path)


def _features(arrow: Any, scan: Scan) -> dict[str, Any]:
    columns: dict[str, Any] = {"feature": list(range(scan.settings.features))}
    for name in ("count", "total", "squares", "fired", "mean", "std", "fires"):
        columns[name] = getattr(scan, name).numpy()
    columns["min"], columns["max"] = scan.smallest.numpy(), scan.largest.numpy()
    columns["min_note"] = _lists(arrow, scan.bottom.notes[:, 0])
    columns["histogram"] = _lists(arrow, scan.histogram)
    return columns


def _top(arrow: Any, scan: Scan) -> dict[str, Any]:
    there = scan.top.notes[..., IMAGE] >= 0
    notes = scan.top.notes[there]
    feature, rank = there.nonzero().T
    row, column, y, x = scan.places(notes) or (None,) * 4
    columns = {"feature": feature, "rank": rank, "image": notes[:, IMAGE], "value": scan.top.values[there]}
    kinds = {"feature": arrow.int32(), "rank": arrow.int32(), "image": arrow.int64(), "value": arrow.float32()}
    columns |= {"row": row, "column": column, "y": y, "x": x}
    kinds |= {"row": arrow.int32(), "column": arrow.int32(), "y": arrow.float32(), "x": arrow.float32()}
    told = {name: _array(arrow, columns[name], kind, len(notes)) for name, kind in kinds.items()}
    return {**told, "note": _lists(arrow, notes)}


def _array(arrow: Any, values: Tensor | None, kind: Any, count: int) -> Any:
    return arrow.nulls(count, kind) if values is None else arrow.array(values.numpy()).cast(kind, safe=False)


def _percentiles(arrow: Any, scan: Scan, *, is_part: bool) -> Iterator[Any]:
    """Yield a table of some features at a time: sorting takes as much memory again."""
    percentiles = torch.tensor(PERCENTILES)
    for start in (0,) if is_part else range(0, scan.settings.features, AT_ONCE):
        images, values, fires = scan.percentiles(slice(start, 0 if is_part else start + AT_ONCE))
        there = images >= 0
        feature, percentile = there.nonzero().T
        columns = {
            "feature": arrow.array((feature + start).int().numpy()),
            "percentile": arrow.array(percentiles[percentile].int().numpy()),
            "image": arrow.array(images[there].numpy()),
            "value": arrow.array(values[there].numpy()),
            "fires": arrow.array(fires[there].numpy()),
        }
        yield arrow.table(columns)


def _skipped(arrow: Any) -> Any:
    return arrow.schema([("image", arrow.int64()), ("id", arrow.string()), ("reason", arrow.string())])


def image_schema(arrow: Any) -> Any:
    """Return the columns of the table of images."""
    number, real = arrow.int32(), arrow.float32()
    columns = {"image": arrow.int64(), "id": arrow.string(), "height": number, "width": number, "label": number}
    columns |= {"prediction": number, "probability": real, "features": arrow.list_(number), "values": arrow.list_(real)}
    return arrow.schema([*columns.items(), ("misclassified", arrow.bool_())])


def moved_images(table: Any, start: int) -> Any:
    """Return a table of images with their numbers higher by ``start``."""
    arrow = needed("pyarrow", "atlas", "joining scans")
    return table.set_column(0, "image", arrow.array(table.column("image").to_numpy() + start))


def _image(row: ImageRow) -> dict[str, Any]:
    return {**asdict(row), "misclassified": row.misclassified}


def _row(row: dict[str, Any]) -> ImageRow:
    del row["misclassified"]
    return ImageRow(**{**row, "features": tuple(row["features"]), "values": tuple(row["values"])})


def _lists(arrow: Any, rows: Tensor) -> Any:
    return arrow.FixedSizeListArray.from_arrays(arrow.array(rows.contiguous().flatten().numpy()), rows.shape[1])


def _column(table: Any, name: str) -> Tensor:
    return torch.tensor(table.column(name).to_numpy())


def _matrix(table: Any, name: str, width: int) -> Tensor:
    return torch.tensor(table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)).view(-1, width)


def _ranked(table: Any, features: int, k: int) -> Ranked:
    found = Ranked.empty(features, k)
    feature, rank = _column(table, "feature").long(), _column(table, "rank").long()
    found.values[feature, rank] = _column(table, "value")
    found.notes[feature, rank] = _matrix(table, "note", NOTES)
    return found


def _ranked_bottom(table: Any) -> Ranked:
    return Ranked(-_column(table, "min")[:, None], _matrix(table, "min_note", NOTES)[:, None])
