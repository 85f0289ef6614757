"""Scans of shards, in folders, made one."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from accentor.engine.outputs.extras import needed
from accentor.engine.scan.result import Scan, merge
from accentor.engine.scan.rows import ImageRows
from accentor.engine.scan.tables import IMAGES, image_schema, moved_images, read_scan, write_scan
from accentor.errors import InvalidRequestError


def join(folders: Iterable[str | Path], out: str | Path) -> Scan:
    """Write the scan of all shards' images, and return it without what is said of every image.

    Each folder is read once, and one at a time: memory is that of two scans, whatever the number of images.

    Parameters
    ----------
    folders
        What `write_scan` wrote, in the order of the images; those of each are numbered from 0.
    out
        Where the whole is written.

    Raises
    ------
    InvalidRequestError
        If there are none, or they measure different things.
    """
    arrow, parquet = (needed(name, "atlas", "joining scans") for name in ("pyarrow", "pyarrow.parquet"))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    found: Scan | None = None
    start = 0
    with parquet.ParquetWriter(out / IMAGES, image_schema(arrow), compression="zstd") as writer:
        for folder in folders:
            part = read_scan(folder, rows=False).moved(start)
            found = part if found is None else merge(found, part)
            writer.write_table(moved_images(parquet.read_table(Path(folder) / IMAGES), start))
            start += part.images
    if found is None:
        raise InvalidRequestError("there are no scans to join")
    whole = replace(found, rows=ImageRows())
    write_scan(whole, out, images=False)
    return whole
