"""Publishing: an atlas written as a static site."""

import json
import os
import posixpath
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accentor.atlas.chunks import compact, remove_chunks, write_chunk
from accentor.atlas.clearing import PICTURES, THUMBNAILS, made_before, remove_made
from accentor.atlas.model import Atlas, ErrorEntry, FeatureEntry, ImageEntry, Shown
from accentor.atlas.ordering import map_order
from accentor.atlas.packing import encode, pack_indices, pack_numbers
from accentor.atlas.sheets import PER_SHEET, Source, write_sheets
from accentor.atlas.tables import Tables, summary
from accentor.errors import InvalidRequestError

SITE = Path(__file__).parent / "site"
NAMES_PER_CHUNK = 512
IMAGES_PER_CHUNK = 256
ERRORS_PER_CHUNK = 32
SITE_FORMAT = 1


@dataclass
class Columns:
    """What the map and the list need of every feature, one column each."""

    indices: list[int] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    coherence: list[float | None] = field(default_factory=list)
    gain: list[float | None] = field(default_factory=list)
    gain_at: set[float] = field(default_factory=set)
    density: list[float | None] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    thumbnails: list[Source | None] = field(default_factory=list)
    dead: int = 0
    marks: dict[str, int] = field(default_factory=dict)

    def add(self, feature: FeatureEntry, thumbnail: Source | None) -> None:
        """Append a feature."""
        self.indices.append(feature.index)
        self.points.append((feature.x, feature.y))
        self.names.append(feature.name)
        self.labels.append(feature.label)
        self.coherence.append(feature.coherence)
        self.gain.append(feature.gain)
        if feature.gain_at is not None:
            self.gain_at.add(feature.gain_at)
        self.density.append(feature.density)
        self.flags.append(flags_of(feature))
        self.thumbnails.append(thumbnail)
        self.dead += feature.dead
        for mark in (mark for one in feature.shown for mark in one.marks):
            self.marks[mark] = self.marks.get(mark, 0) + 1


def publish(atlas: Atlas, out: Path, *, with_pictures: bool = True) -> Path:
    """Write the site into a folder, which is made, and return its first page.

    Pictures are linked where the file system can, else copied, unless ``with_pictures`` is false: then others put them
    there, and the atlas' folder need only have those that thumbnails are made of. Pages of an atlas that was there
    before are removed, and so are pictures that a build put there and this atlas does not show. ``index.html`` comes
    last: a site that has one is whole.

    Raises
    ------
    InvalidRequestError
        If the atlas has no features, or one index twice.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").unlink(missing_ok=True)
    remove_chunks(out)
    columns = Columns()
    kept = Pictures(atlas.pictures if with_pictures else None, out)
    with Tables(out) as tables:
        for feature in atlas.features:
            page = feature_page(feature)
            write_chunk(out, f"features/{feature.index}", page)
            tables.add(feature, page)
            for one in feature.shown:
                kept.keep_of(one)
            columns.add(feature, thumbnail_of(feature, atlas.pictures))
    _check(columns)
    slots = _write_features(columns, out)
    _write_images(atlas.images, out, atlas.pictures, kept)
    _write_errors(atlas.errors, out, kept)
    _write_head(atlas, columns, kept, out)
    _write_lines(out / "images.jsonl", atlas.images)
    _write_lines(out / "errors.jsonl", atlas.errors)
    _write_sheets("features", (columns.thumbnails[place] for place in slots), out, kept)
    kept.remove_others()
    for path in sorted(SITE.iterdir(), key=lambda one: one.name == "index.html"):
        shutil.copyfile(path, out / path.name)
    return out / "index.html"


def feature_page(feature: FeatureEntry) -> dict[str, Any]:
    """Return what a feature's page shows."""
    return feature.model_dump(mode="json", exclude_none=True) | {"gain": feature.gain, "gain_at": feature.gain_at}


def flags_of(feature: FeatureEntry) -> int:
    """Return what the filters ask, a bit each: dead, a failure, a mark, a label, a picture."""
    asked = (
        feature.dead,
        feature.failures > 0,
        any(one.marks for one in feature.shown),
        bool(feature.label),
        any(one.strip for one in feature.shown),
    )
    return sum(answer << bit for bit, answer in enumerate(asked))


def thumbnail_of(feature: FeatureEntry, pictures: Path) -> Source | None:
    """Return the frame at `gain_at` of the first image that has it, else the strongest of the first with pictures."""
    made = [one for one in feature.shown if one.strip is not None and one.frames]
    ranked = [
        (frame.strength != feature.gain_at, order, -frame.strength, place)
        for order, one in enumerate(made)
        for place, frame in enumerate(one.frames)
    ]
    if not ranked:
        return None
    _, order, _, place = min(ranked)
    one = made[order]
    return Source(pictures / str(one.strip), place * one.width, one.width)


class Pictures:
    """Puts the pictures beside the site, each once; without a source, others do. Counts the accentuations."""

    def __init__(self, source: Path | None, out: Path) -> None:
        self._source = source
        self._out = out
        self._target = out / PICTURES
        self._others = made_before(out)
        self._folders: set[Path] = set()
        self.made = 0
        self.failed = 0

    def keep_of(self, shown: Shown | None) -> None:
        """Keep the pictures of a feature in an image."""
        if shown is None:
            return
        self.made += shown.strip is not None
        self.failed += shown.failure is not None
        for name in (shown.strip, shown.where):
            if name is not None:
                self.keep(name)

    def keep(self, name: str) -> None:
        """Link the picture, or copy it."""
        path = self._target / name
        if not path.resolve().is_relative_to(self._target.resolve()):
            raise InvalidRequestError(f"picture {name!r} lies outside of the atlas's folder")
        if self._source is None:
            return
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        self.note(f"{PICTURES}/{posixpath.normpath(name)}")
        if path.exists():
            return
        try:
            os.link(self._source / name, path)
        except OSError:
            shutil.copyfile(self._source / name, path)

    def note(self, name: str) -> None:
        """Take note that a file is one of the site."""
        self._others.discard(name)

    def remove_others(self) -> None:
        """Remove pictures and sheets of an earlier atlas; those that lie where others put them, or came from, stay."""
        is_ours = self._source is not None and not self._target.resolve().is_relative_to(self._source.resolve())
        remove_made(self._out, (one for one in self._others if is_ours or not one.startswith(f"{PICTURES}/")))


def _check(columns: Columns) -> None:
    if not columns.indices:
        raise InvalidRequestError("the atlas has 0 features, expected at least 1")
    if len(set(columns.indices)) < len(columns.indices):
        repeated = next(one for one in columns.indices if columns.indices.count(one) > 1)
        raise InvalidRequestError(f"feature {repeated} is in the atlas twice, expected each once")


def _write_features(columns: Columns, out: Path) -> list[int]:
    order = map_order(columns.points, PER_SHEET)

    def ordered(values: Sequence[float | None]) -> dict[str, Any]:
        return pack_numbers([values[place] for place in order])

    size, packed = pack_indices([columns.indices[place] for place in order])
    places = {
        "index": packed,
        "index_bytes": size,
        "x": ordered([point[0] for point in columns.points]),
        "y": ordered([point[1] for point in columns.points]),
    }
    write_chunk(out, "map", places)
    for name in ("coherence", "gain", "density"):
        write_chunk(out, f"columns/{name}", ordered(getattr(columns, name)))
    write_chunk(out, "columns/flags", encode([columns.flags[place] for place in order]))
    for chunk, first in enumerate(range(0, len(order), NAMES_PER_CHUNK)):
        part = order[first : first + NAMES_PER_CHUNK]
        named = [[columns.names[place], columns.labels[place]] for place in part]
        write_chunk(out, f"names/{chunk}", named)
    return order


def _write_images(images: Sequence[ImageEntry], out: Path, pictures: Path, kept: Pictures) -> None:
    for chunk, first in enumerate(range(0, len(images), IMAGES_PER_CHUNK)):
        part = images[first : first + IMAGES_PER_CHUNK]
        rows = [[one.index, one.name, one.label, one.predicted, one.misclassified] for one in part]
        write_chunk(out, f"images/list-{chunk}", rows)
    for place, image in enumerate(images):
        told = {"place": place, "misclassified": image.misclassified}
        write_chunk(out, f"images/{image.index}", image.model_dump(mode="json") | told)
        if image.thumbnail is not None:
            kept.keep(image.thumbnail)
        for one in image.features:
            kept.keep_of(one.shown)
    sources = (None if one.thumbnail is None else Source(pictures / one.thumbnail) for one in images)
    _write_sheets("images", sources, out, kept)


def _write_sheets(kind: str, sources: Iterable[Source | None], out: Path, kept: Pictures) -> None:
    for sheet in range(write_sheets(out / THUMBNAILS / kind, sources)):
        kept.note(f"{THUMBNAILS}/{kind}/{sheet}.webp")


def _write_errors(errors: Sequence[ErrorEntry], out: Path, kept: Pictures) -> None:
    for chunk, first in enumerate(range(0, len(errors), ERRORS_PER_CHUNK)):
        part = errors[first : first + ERRORS_PER_CHUNK]
        write_chunk(out, f"errors/{chunk}", [one.model_dump(mode="json") for one in part])
    for one in errors:
        kept.keep_of(one.shown_truth)
        kept.keep_of(one.shown_predicted)


def _write_head(atlas: Atlas, columns: Columns, kept: Pictures, out: Path) -> None:
    made_at = atlas.made_at or datetime.now(UTC)
    head = {
        "format": SITE_FORMAT,
        "title": atlas.title,
        "model": atlas.model,
        "layer": atlas.layer,
        "dictionary": atlas.dictionary,
        "dataset": atlas.dataset,
        "recipe": atlas.recipe,
        "made_at": made_at.isoformat(timespec="seconds"),
        "features": len(columns.indices),
        "images": len(atlas.images),
        "errors": len(atlas.errors),
        "misclassified": len(atlas.errors) if atlas.misclassified is None else atlas.misclassified,
        "pictures": kept.made,
        "dead": columns.dead,
        "failures": kept.failed,
        "marks": columns.marks,
        "gaps": list(atlas.gaps),
        "labelled": any(columns.labels),
        "gain_at": sorted(columns.gain_at),
        "summary": {name: summary(getattr(columns, name)) for name in ("coherence", "gain", "density")},
        "chunks": {
            "names": NAMES_PER_CHUNK,
            "images": IMAGES_PER_CHUNK,
            "errors": ERRORS_PER_CHUNK,
            "sheet": PER_SHEET,
        },
    }
    write_chunk(out, "head", head)
    (out / "atlas.json").write_text(json.dumps(head, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, entries: Iterable[ImageEntry | ErrorEntry]) -> None:
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(compact(_as_json(one)) + "\n" for one in entries)


def _as_json(entry: ImageEntry | ErrorEntry) -> Mapping[str, Any]:
    return entry.model_dump(mode="json", exclude_defaults=True)
