"""A scan shard by shard: what was done is kept, and found again by its content."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from torch import Tensor

from accentor.engine.canvas import ImageLike
from accentor.engine.dictionaries import Dictionary, channels_of
from accentor.engine.loading import Item, as_items
from accentor.engine.models import Model
from accentor.engine.scan.result import Scan, merge
from accentor.engine.scan.rows import ImageRow, ImageRows
from accentor.engine.scan.scanning import scan
from accentor.engine.scan.tables import read_scan, write_scan
from accentor.errors import InvalidRequestError
from accentor.spec import canonical_json
from accentor.spec.scans import SCAN_VERSION, cut

SHARD = 1024


def scan_in_shards(
    model: Model,
    features: Dictionary | str,
    images: Sequence[ImageLike | Item],
    folder: str | Path,
    *,
    shard: int = SHARD,
    on_progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> Scan:
    """Return the scan of the images, made of shards that are kept in a folder.

    A shard that was scanned before, by the same model, dictionary and settings, is read instead: a scan that was
    interrupted goes on, and one of more images, wherever they are put in, scans only the shards that hold new ones; see
    `accentor.spec.scans.cut`. Files are known by path, size and time of change; other items by their id, which must
    change with their content. A shard in which an image could not be read, or changed while it was scanned, is scanned
    again.

    Parameters
    ----------
    model, features
        As for `scan`.
    images
        Paths, or items.
    folder
        Where the shards are kept.
    shard
        Images of a shard, on average.
    on_progress
        Is told how many images are done.
    **settings
        As for `scan`, but without ``rows``.

    Raises
    ------
    InvalidRequestError
        If there is no image that can be read, or one that has no name.
    """
    if shard < 1:
        raise InvalidRequestError(f"shard is {shard}: expected 1 or more")
    if unnamed := [index for index, image in enumerate(images) if not isinstance(image, Item | str | Path)]:
        raise InvalidRequestError(f"image {unnamed[0]} has no name to find it again by: expected a path or an Item")
    dictionary = channels_of(model, features) if isinstance(features, str) else features
    found: Scan | None = None
    rows: list[ImageRow] = []
    start = 0
    for items in cut(as_items(images), shard, lambda item: item.id):
        place = Path(folder) / _name(model, dictionary, items, settings)
        told = None if on_progress is None else _offset(on_progress, start)
        part = (_known(place) or _scanned(model, dictionary, items, place, told, settings)).moved(start)
        if told is not None:
            told(len(items))
        rows += part.rows
        bare = replace(part, rows=ImageRows())
        found = bare if found is None else merge(found, bare)
        start += len(items)
    if found is None or not found.seen:
        raise InvalidRequestError(f"there is no image to scan: none of {len(images)} could be read")
    return replace(found, rows=ImageRows(rows))


def _known(place: Path) -> Scan | None:
    if not (place / "features.parquet").exists():
        return None
    known = read_scan(place)
    return None if known.skipped else known


def _scanned(
    model: Model,
    dictionary: Dictionary,
    items: list[Item],
    place: Path,
    told: Callable[[int], None] | None,
    settings: dict[str, Any],
) -> Scan:
    part = scan(model, dictionary, items, on_progress=told, may_be_empty=True, **settings)
    if _name(model, dictionary, items, settings) != place.name:
        return part
    aside = place.with_name(f".{place.name}.{uuid4().hex}")
    write_scan(part, aside, is_part=True)
    if place.exists():
        shutil.rmtree(place)
    aside.replace(place)
    return part


def _name(model: Model, dictionary: Dictionary, items: list[Item], settings: dict[str, Any]) -> str:
    known = [SCAN_VERSION, model.card.digest, repr(dictionary), _digest(dictionary)]
    measured = {key: value for key, value in settings.items() if key not in {"batch", "threads"}}
    return sha256(
        canonical_json([known, measured, [[item.id, mark(item.id), item.label] for item in items]])
    ).hexdigest()


def _digest(dictionary: Dictionary) -> str:
    found = sha256()
    for key, value in sorted(vars(dictionary).items()):
        content = value.cpu().contiguous().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode()
        found.update(key.encode() + sha256(content).digest())
    return found.hexdigest()


def mark(name: str) -> tuple[int, int] | None:
    """Return size and time of change of a file, which tell that it is another; none if there is no such file."""
    try:
        known = Path(name).stat()
    except (OSError, ValueError):
        return None
    return known.st_size, known.st_mtime_ns


def _offset(told: Callable[[int], None], start: int) -> Callable[[int], None]:
    return lambda done: told(start + done)
