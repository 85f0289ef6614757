"""The steps of an atlas, one after the other; each keeps what it made, so that a build that was interrupted goes on."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor

from accentor.atlas import Atlas, FeatureEntry, publish
from accentor.dictionaries import check_count
from accentor.engine.atlas.entries import Entries, placed, random_images
from accentor.engine.atlas.evaluating import Evaluator, KeptInFolder
from accentor.engine.atlas.pictures import PictureStore
from accentor.engine.atlas.planning import AtlasOptions, Plan, Wanted
from accentor.engine.canvas import ImageLike
from accentor.engine.dictionaries import Dictionary, channels_of
from accentor.engine.models import Model
from accentor.engine.running import OnStep
from accentor.engine.scan import Item, Scan, scan_in_shards
from accentor.engine.scan.rows import ImageRow
from accentor.engine.scan.shards import mark
from accentor.errors import AccentorError, InvalidImageError, RequestError
from accentor.images import open_image
from accentor.spec import Recipe
from accentor.spec.atlases import SCAN_CODE, again_recipe, again_seed, sweeping

CACHE = ".cache"
SHARD = 256


@dataclass
class Told:
    """What is called while it goes on: a line for a person, images scanned, a step of an accentuation, a picture."""

    say: Callable[[str], None] = lambda _: None
    on_scan: Callable[[int], None] = lambda _: None
    on_step: OnStep | None = None
    on_picture: Callable[[int, int], None] = lambda _done, _total: None


def build_atlas(
    model: Model,
    features: Dictionary | str,
    items: Sequence[Item],
    out: Path,
    recipe: Recipe,
    options: AtlasOptions | None = None,
    *,
    dataset: str = "dataset",
    told: Told | None = None,
) -> Path:
    """Build an atlas of a dictionary over images, and return its first page.

    What each step makes is kept in ``out/.cache`` under its content: run again it goes on, and with more images or
    features only what is new is computed. An image that goes or changes meanwhile is a gap: what is not made of it yet
    is left out, and made of what it is then when the atlas is built again.

    Parameters
    ----------
    model
        From `load_model`.
    features
        A dictionary, or the name of a layer: all its channels.
    items
        Images; their ids are the paths of their files.
    out
        Folder of the site.
    recipe
        Of the accentuations; without strengths of its own those of `accentor.spec.atlases` are kept.
    options
        What is shown.
    dataset
        What the images are called.
    told
        Who is told how far it is.

    Raises
    ------
    RequestError
        If the dictionary is not one of this model's layer or has too many features, the recipe does not go with it, or
        no image can be read.
    """
    dictionary = channels_of(model, features) if isinstance(features, str) else features
    dictionary.check(model.card)
    check_count(dictionary.size, f"the dictionary {dictionary.name!r}")
    build = Build(model, dictionary, items, out, sweeping(recipe), options or AtlasOptions(), dataset, told or Told())
    return build.run()


@dataclass
class Build:
    """One build."""

    model: Model
    dictionary: Dictionary
    items: Sequence[Item]
    out: Path
    recipe: Recipe
    options: AtlasOptions
    dataset: str
    told: Told
    failures: dict[str, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    marks: list[tuple[int, int] | None] = field(default_factory=list)

    def run(self) -> Path:
        """Do all steps."""
        self.model.card.check_recipe(self.recipe)
        self.told.say(f"scan: {len(self.items)} images, {self.dictionary.size} features")
        self.told.say(f"select: {self.plan.scan.seen} images were read")
        steps = (("accentuate", self.pictures, self.plan.wanted), ("second seed", self.again, self.plan.wanted_again))
        for step, store, wanted in steps:
            there = [store.record(one) is not None for one in wanted()]
            self.told.say(f"{step}: {there.count(False)} pictures to make, {there.count(True)} are there")
            self._accentuate(store, wanted(), there.count(False))
        self.told.say(f"evaluate and publish: {len(self.plan.units)} features")
        return publish(self._atlas(), self.out)

    @cached_property
    def cache(self) -> Path:
        """Where the steps keep what they made."""
        return self.out / CACHE

    @cached_property
    def plan(self) -> Plan:
        """What is shown: of the images that are as they were when they were scanned."""
        scan = self.scan()
        lost = self._identify(scan.rows)
        if len(lost) == len(scan.rows):
            raise InvalidImageError(f"none of the {len(lost)} images that were scanned is left: {min(lost.items())[1]}")
        return Plan(
            self.model.card,
            self.dictionary,
            scan,
            [Item(item.id, partial(self.read, image), item.label) for image, item in enumerate(self.items)],
            self.options,
            self.digests.__getitem__,
            self.dictionary.feature,
            lost=lost,
        )

    @cached_property
    def pictures(self) -> PictureStore:
        """The accentuations."""
        return PictureStore(self.cache / "pictures", self.model, self.recipe, self.options.seed)

    @cached_property
    def again(self) -> PictureStore:
        """The first image of each feature with another random seed."""
        return PictureStore(self.cache / "again", self.model, again_recipe(self.recipe), again_seed(self.options.seed))

    def scan(self) -> Scan:
        """Return what the features do over the images."""
        self.marks = [mark(item.id) for item in self.items]
        return scan_in_shards(
            self.model,
            self.dictionary,
            self.items,
            self.cache / "scan",
            shard=SHARD,
            top_k=self.options.top_k,
            code=SCAN_CODE,
            on_progress=self.told.on_scan,
        )

    def read(self, image: int) -> ImageLike:
        """Return an image; `RequestError` if it is gone or another since it was scanned, which is a gap."""
        try:
            source = self.items[image].read()
            found = source if isinstance(source, Tensor) else open_image(source)
            self._check(image)
        except RequestError as error:
            self.lost[image] = error.detail
            raise
        return found

    def _check(self, image: int) -> None:
        name = self.items[image].id
        if mark(name) != self.marks[image]:
            raise InvalidImageError(f"{name} has changed since it was scanned")

    def _identify(self, rows: Iterable[ImageRow]) -> dict[int, str]:
        """Take the digests of the images' files; return which are gone or others since they were scanned, and why."""
        lost = {}
        for row in rows:
            try:
                with Path(row.id).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                self._check(row.image)
                self.digests[row.image] = digest
            except OSError as error:
                lost[row.image] = f"{row.id} cannot be read any more: {error.strerror}"
            except InvalidImageError as error:
                lost[row.image] = error.detail
        return lost

    def _accentuate(self, store: PictureStore, wanted: Iterator[Wanted], total: int) -> None:
        todo = (one for one in wanted if store.record(one) is None)
        made: Iterable[tuple[Wanted, AccentorError | None]] = (
            store.make(todo, self.told.on_step, self.options.micro_batch) if total else ()
        )
        for done, (one, error) in enumerate(made, start=1):
            if error is not None and store is self.pictures:
                self.failures[store.stem(one)] = f"{error.code}: {error.detail}"
            self.told.on_picture(done, total)

    def _failure(self, wanted: Wanted) -> str:
        return self.failures.get(self.pictures.stem(wanted), "it was not made")

    def _atlas(self) -> Atlas:
        plan = self.plan
        failed = len(self.failures)
        missing = [f"{failed} pictures could not be made: {next(iter(self.failures.values()))}"] if failed else []
        gaps: list[str] = []
        evaluator = Evaluator(KeptInFolder(self.cache / "evaluated"), self.model, random_images(plan))
        entries = Entries(plan, self.pictures, self.again, evaluator, self._failure)

        def features() -> Iterator[FeatureEntry]:
            yield from placed(plan, map(entries.feature, plan.units))
            gaps[:] = plan.gaps(missing, self.lost)

        return Atlas(
            title=self.options.title or f"{self.dictionary.name} of {self.model.card.name} over {self.dataset}",
            model=self.model.card.name,
            layer=self.dictionary.layer,
            dictionary=self.dictionary.name,
            dataset=self.dataset,
            features=features(),
            pictures=self.pictures.folder,
            recipe=self.recipe.model_dump(mode="json", exclude_none=True),
            images=[entries.image(row) for row in plan.rows.values()],
            errors=[entries.error(row) for row in plan.mistakes],
            misclassified=len(plan.misclassified),
            gaps=gaps,
        )
