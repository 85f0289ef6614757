"""Working on atlases: selecting what is shown, evaluating it part by part, and publishing the site."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from accentor.errors import InvalidRequestError, NotFoundError, TooLargeError
from accentor.spec import BatchLine, Feature, KeyMaker, LinesBatch
from accentor.spec.atlases import (
    AtlasBatch,
    AtlasSelection,
    AtlasSite,
    AtlasStepName,
    again_recipe,
    again_seed,
    step_batch_id,
    sweeping,
)
from accentor.spec.batches import BLOCK_JOBS
from accentor.spec.datasets import DatasetCard
from accentor.storage.atlases import AtlasObjects, SiteFile
from accentor.storage.batches import write_batch, write_block
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore
from accentor.storage.scans import ScanStore
from accentor_worker.scans import item_of

if TYPE_CHECKING:
    from accentor.atlas import Atlas, ErrorEntry, FeatureEntry, ImageEntry, Shown
    from accentor.engine.atlas.entries import Entries
    from accentor.engine.atlas.planning import Plan
    from accentor.engine.dictionaries import Dictionary
    from accentor.engine.scan import Item
    from accentor_worker.services import LoadedModel, Services

PICTURES = "pictures/"
FIRST_PAGE = "index.html"
UNMADE = "it was not made"
PICTURE = ".webp"
"""Suffix of a picture; beside it lies what is known of it."""

TRANSFERS = 8
"""Files that are sent to, or fetched from, the store at once."""

FAILURES_AT_ONCE = 1_000
Done = Callable[[int], None]


class AtlasWork:
    """The jobs of one step of an atlas, in this worker."""

    def __init__(self, services: "Services", batch: AtlasBatch, model: "LoadedModel") -> None:
        self._services, self._batch = services, batch
        self._model: Any = model
        self._spec, self._card = batch.spec, model.card
        self._objects = AtlasObjects(services.objects, batch.atlas)
        self._pictures = step_batch_id(batch.atlas, AtlasStepName.ACCENTUATE)
        self._recipe = sweeping(batch.spec.recipe)

    def size(self, job: int) -> int:
        """Return how much a job has to do: features, or images, or parts."""
        if self._batch.step is AtlasStepName.SELECT:
            return 1
        selection = self._objects.selection()
        if self._batch.step is AtlasStepName.PUBLISH:
            return selection.parts
        is_features = job < selection.feature_parts
        return len(selection.features_of(job) if is_features else selection.images_of(job))

    def run(self, job: int, on_progress: Done) -> bool:
        """Do a job, unless that was done, and return whether it was.

        Raises
        ------
        RequestError
            If the scan, the dataset or the dictionary is gone, or nothing is left to be published.
        """
        if self._batch.step is AtlasStepName.SELECT:
            return self._select()
        if self._batch.step is AtlasStepName.EVALUATE:
            return self._evaluate(job, on_progress)
        return self._publish(on_progress)

    def _select(self) -> bool:
        """Store the batch of the pictures, to be created once this is done."""
        plan = self._plan()
        limit = self._services.settings.max_batch_jobs
        total, lines = 0, list[bytes]()
        for line in self._lines(plan):
            lines.append(line)
            if len(lines) == BLOCK_JOBS:
                write_block(self._services.objects, self._pictures, total // BLOCK_JOBS, lines)
                total, lines = total + len(lines), []
            if total + len(lines) > limit:
                raise TooLargeError(f"the atlas has more than {limit} pictures, so many are taken", limit=limit)
        if lines:
            write_block(self._services.objects, self._pictures, total // BLOCK_JOBS, lines)
        total += len(lines)
        if not plan.units:
            raise InvalidRequestError(f"none of the {plan.dictionary.size} features can be used")
        if total:
            batch = LinesBatch(
                model=self._spec.model,
                total=total,
                recipe=self._recipe,
                seed=self._spec.seed,
                metadata=self._batch.metadata,
            )
            write_batch(self._services.objects, self._pictures, batch)
        self._objects.set_selection(
            AtlasSelection(
                features=len(plan.units),
                images=len(plan.rows),
                pictures=total,
                broken=tuple(sorted(plan.broken)),
            )
        )
        return False

    def _lines(self, plan: "Plan") -> Iterator[bytes]:
        for one in plan.wanted():
            yield BatchLine(feature=one.feature, image=one.sha256).model_dump_json(exclude_none=True).encode()
        recipe, seed = again_recipe(self._recipe), again_seed(self._spec.seed)
        for one in plan.wanted_again():
            line = BatchLine(feature=one.feature, image=one.sha256, seed=seed, recipe=recipe)
            yield line.model_dump_json(exclude_none=True).encode()

    def _evaluate(self, part: int, on_progress: Done) -> bool:
        """Measure features, or tell of images; their pictures go into the site."""
        if self._objects.has_part(part):
            return True
        selection = self._objects.selection()
        plan = self._plan(selection.broken)
        with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
            entries = self._entries(plan, Path(folder))
            said = []
            if part < selection.feature_parts:
                for place in selection.features_of(part):
                    said.append(entries.feature(plan.units[place]).model_dump_json())
                    on_progress(len(said))
            else:
                rows = list(plan.rows.values())
                for place in selection.images_of(part):
                    said.append(entries.image(rows[place]).model_dump_json())
                    on_progress(len(said))
            self._objects.put_part(part, self._send(entries.pictures.folder, PICTURES, on_progress), said)
        return False

    def _publish(self, on_progress: Done) -> bool:
        """Write the site, the first page last."""
        from accentor.atlas import publish

        if self._objects.card() is not None:
            return True
        plan = self._plan(self._objects.selection().broken)
        with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
            entries = self._entries(plan, Path(folder, "own"))
            errors = [entries.error(row) for row in plan.mistakes]
            parts = _Parts(self._objects, Path(folder, "fetched"), self._missing, on_progress)
            parts.note(shown for error in errors for shown in (error.shown_truth, error.shown_predicted))
            files = self._send(entries.pictures.folder, PICTURES, on_progress)
            atlas = self._atlas(plan, parts, errors)
            first = publish(atlas, Path(folder, "site"), with_pictures=False)
            head = json.loads(first.with_name("atlas.json").read_text(encoding="utf-8"))
            files += self._send(Path(folder, "site"), "", on_progress)
        files = sorted({file.name: file for file in [*parts.files, *files]}.values(), key=_first_page_last)
        site = AtlasSite(
            prefix=self._objects.prefix,
            **{count: head[count] for count in ("features", "images", "pictures", "failures")},
            gaps=tuple(atlas.gaps),
            files=len(files),
            bytes=sum(file.bytes for file in files),
            made_at=datetime.now(UTC),
        )
        self._objects.finish(site, files)
        return False

    def _atlas(self, plan: "Plan", parts: "_Parts", errors: "Sequence[ErrorEntry]") -> "Atlas":
        from accentor.atlas import Atlas
        from accentor.engine.atlas.entries import placed

        gaps: list[str] = []

        def features() -> "Iterator[FeatureEntry]":
            yield from placed(plan, parts.features())
            gaps[:] = plan.gaps(parts.gaps)

        return Atlas(
            title=self._spec.shown_title,
            model=self._card.name,
            layer=plan.dictionary.layer,
            dictionary=plan.dictionary.name,
            dataset=self._spec.dataset.partition("@")[0],
            features=features(),
            pictures=parts.folder,
            recipe=self._recipe.model_dump(mode="json", exclude_none=True),
            images=parts.images(),
            errors=errors,
            misclassified=len(plan.misclassified),
            gaps=gaps,
        )

    def _plan(self, broken: Sequence[int] | None = None) -> "Plan":
        """Return what is shown; the last one is kept, as the parts of an atlas come one after the other."""
        plans, name = self._services.plans, self._batch.atlas
        if name not in plans:
            plans.clear()
            plans[name] = self._new_plan(broken)
        plan: Plan = plans[name]
        return plan

    def _new_plan(self, broken: Sequence[int] | None) -> "Plan":
        from accentor.engine.atlas.planning import AtlasOptions, Plan
        from accentor.engine.dictionaries import channels_of
        from accentor.engine.scan import read_scan

        spec, objects = self._spec, self._services.objects
        scans = ScanStore(objects)
        card = scans.card(spec.dataset, self._batch.scan)
        if card is None:
            raise NotFoundError(f"the scan {self._batch.scan} of {spec.dataset} is gone")
        with tempfile.TemporaryDirectory(prefix="accentor-") as folder:
            scan = read_scan(scans.get(card, Path(folder)))
        if spec.dictionary is None:
            dictionary: Dictionary = channels_of(self._model, card.layer)
            feature: Callable[[int], Feature] = dictionary.feature
        else:
            dictionary = self._services.dictionaries.whole(spec.dictionary, self._card)
            feature = DictionaryStore(objects).features(spec.dictionary, self._card).__getitem__
        items = _Items(self._services, spec.dataset)
        return Plan(
            self._card,
            dictionary,
            scan,
            items,
            AtlasOptions(top_k=spec.top_k, images=spec.images, errors=spec.errors, limit=spec.limit, seed=spec.seed),
            items.digest,
            feature,
            None if broken is None else frozenset(broken),
            dataset=items.card,
        )

    def _entries(self, plan: "Plan", folder: Path) -> "Entries":
        from accentor.engine.atlas.entries import Entries, random_images
        from accentor.engine.atlas.evaluating import Evaluator
        from accentor_worker.strips import KeptBesideResults, StoredPictures

        objects, seed = self._services.objects, self._spec.seed
        pictures = StoredPictures(folder / "pictures", self._model, self._recipe, seed, objects)
        again = StoredPictures(folder / "again", self._model, again_recipe(self._recipe), again_seed(seed), objects)
        evaluator = Evaluator(KeptBesideResults(objects), self._model, random_images(plan))
        return Entries(plan, pictures, again, evaluator, lambda wanted: self._reasons.get(pictures.key(wanted), UNMADE))

    @cached_property
    def _reasons(self) -> dict[str, str]:
        """Why pictures could not be made, by their keys."""
        jobs, found, cursor = self._services.jobs, dict[str, str](), 0
        try:
            submitted = self._services.batches.get(self._services.objects, self._pictures, self._card).jobs
            keys = KeyMaker(self._card)
            while page := jobs.failures(self._pictures, cursor, FAILURES_AT_ONCE):
                found |= {keys.key(submitted[index]): f"{why.code}: {why.detail}" for index, why in page}
                cursor = page[-1][0] + 1
        except NotFoundError:
            return found
        return found

    def _missing(self, part: int) -> str:
        """Return why a part is not there."""
        evaluation = step_batch_id(self._batch.atlas, AtlasStepName.EVALUATE)
        try:
            why = self._services.jobs.failure(evaluation, part)
        except NotFoundError:
            why = None
        return UNMADE if why is None else f"{why.code}: {why.detail}"

    def _send(self, folder: Path, prefix: str, on_progress: Done) -> list[SiteFile]:
        """Store what lies in a folder as files of the site, the first page last."""
        wanted = f"*{PICTURE}" if prefix else "*"
        paths = sorted(path for path in folder.rglob(wanted) if path.is_file())
        names = {path: f"{prefix}{path.relative_to(folder).as_posix()}" for path in paths}
        pages = [path for path in paths if names[path] == FIRST_PAGE]
        sent = []
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="accentor-site") as pool:
            for files in ([path for path in paths if path not in pages], pages):
                for file in pool.map(lambda path: self._objects.put_file(names[path], path), files):
                    sent.append(file)
                    on_progress(0)
        return sent


class _Items(Sequence["Item"]):
    """The images of a dataset, as the scan numbers them."""

    def __init__(self, services: "Services", dataset: str) -> None:
        self._services, self._dataset = services, dataset
        self._rows = DatasetStore(services.objects).rows(dataset)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> "Item": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | Sequence[Item]":
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        return item_of(self._services, self._rows[index], self._dataset)

    @property
    def card(self) -> DatasetCard:
        """The dataset's own."""
        return self._rows.card

    def digest(self, image: int) -> str:
        """Return the sha256 of an image."""
        return self._rows[image].image


class _Parts:
    """What was said in the parts of an atlas, with the pictures that thumbnails are made of fetched into a folder."""

    def __init__(self, objects: AtlasObjects, folder: Path, missing: Callable[[int], str], on_progress: Done) -> None:
        self.folder = folder
        self.files: list[SiteFile] = []
        self.failures: list[str] = []
        self._objects, self._missing, self._on_progress = objects, missing, on_progress
        self._selection = objects.selection()
        self._lost: list[str] = []

    @property
    def gaps(self) -> list[str]:
        """What is missing of what was selected."""
        first = f": {self.failures[0]}" if self.failures else ""
        made = [f"{len(self.failures)} pictures could not be made{first}"] if self.failures else []
        return [*made, *self._lost]

    def note(self, shown: "Iterable[Shown | None]") -> None:
        """Take note of pictures that could not be made."""
        self.failures += [one.failure for one in shown if one is not None and one.failure]

    def features(self) -> "Iterator[FeatureEntry]":
        """Yield the features, but for their places on the map."""
        from accentor.atlas import FeatureEntry
        from accentor.atlas.publishing import thumbnail_of

        for part in range(self._selection.feature_parts):
            places = self._selection.features_of(part)
            told = [FeatureEntry.model_validate_json(line) for line in self._read(part, "features", places)]
            sources = [source.path for entry in told if (source := thumbnail_of(entry, self.folder))]
            self._fetch(sources)
            for entry in told:
                self.note(entry.shown)
                yield entry

    def images(self) -> "list[ImageEntry]":
        """Return the images."""
        from accentor.atlas import ImageEntry

        found: list[ImageEntry] = []
        for part in range(self._selection.feature_parts, self._selection.parts):
            places = self._selection.images_of(part)
            told = [ImageEntry.model_validate_json(line) for line in self._read(part, "images", places)]
            self._fetch([self.folder / entry.thumbnail for entry in told if entry.thumbnail is not None])
            self.note(one.shown for entry in told for one in entry.features)
            found += told
        return found

    def _read(self, part: int, what: str, places: range) -> list[str]:
        self._on_progress(part)
        found = self._objects.part(part)
        if found is None:
            self._lost.append(f"{what} {places.start} to {places.stop - 1} are missing: {self._missing(part)}")
            return []
        files, entries = found
        self.files += files
        return entries

    def _fetch(self, paths: Sequence[Path]) -> None:
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="accentor-site") as pool:
            list(pool.map(self._fetch_one, paths))

    def _fetch_one(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._objects.get_file(f"{PICTURES}{path.relative_to(self.folder).as_posix()}"))


def _first_page_last(file: SiteFile) -> tuple[bool, str]:
    return file.name == FIRST_PAGE, file.name
