"""The steps of an atlas, one after the other; each keeps what it made, so that a build that was interrupted goes on."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from accentor.atlas import Atlas, publish
from accentor.dictionaries import check_count
from accentor.engine.atlas.entries import Entries, placed, random_images
from accentor.engine.atlas.evaluating import Evaluator, KeptInFolder
from accentor.engine.atlas.pictures import PictureStore
from accentor.engine.atlas.planning import AtlasOptions, Plan, Wanted
from accentor.engine.dictionaries import Dictionary, channels_of
from accentor.engine.models import Model
from accentor.engine.running import OnStep
from accentor.engine.scan import Item, Scan, scan_in_shards
from accentor.engine.scan.shards import mark
from accentor.errors import AccentorError, InvalidImageError
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
    features only what is new is computed.

    Parameters
    ----------
    model
        From `load_model`.
    features
        A dictionary, or the name of a layer: all its channels.
    items
        Images; their ids are paths.
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
        """What is shown."""
        return Plan(
            self.model.card,
            self.dictionary,
            self.scan(),
            self.items,
            self.options,
            self.sha256,
            self.dictionary.feature,
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

    def sha256(self, image: int) -> str:
        """Return the digest of an image's file; `InvalidImageError` if it is gone or another since it was scanned."""
        if image not in self.digests:
            path = Path(self.items[image].id)
            if (now := mark(self.items[image].id)) != self.marks[image] and now is not None:
                raise InvalidImageError(f"{path} has changed since it was scanned; built again, it is scanned anew")
            try:
                with path.open("rb") as file:
                    self.digests[image] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                gone = (
                    f"{path} was scanned, and cannot be read any more: {error.strerror}; built again, the rest goes on"
                )
                raise InvalidImageError(gone) from error
        return self.digests[image]

    def _accentuate(self, store: PictureStore, wanted: Iterator[Wanted], total: int) -> None:
        todo = (one for one in wanted if store.record(one) is None)
        made: Iterable[tuple[Wanted, AccentorError | None]] = (
            store.make(todo, self.told.on_step, self.options.micro_batch) if total else ()
        )
        for done, (one, error) in enumerate(made, start=1):
            if error is not None:
                self.failures[store.stem(one)] = f"{error.code}: {error.detail}"
            self.told.on_picture(done, total)

    def _failure(self, wanted: Wanted) -> str:
        return self.failures.get(self.pictures.stem(wanted), "it was not made")

    def _atlas(self) -> Atlas:
        plan = self.plan
        failed = len(self.failures)
        missing = [f"{failed} pictures could not be made: {next(iter(self.failures.values()))}"] if failed else []
        evaluator = Evaluator(KeptInFolder(self.cache / "evaluated"), self.model, random_images(plan))
        entries = Entries(plan, self.pictures, self.again, evaluator, self._failure)
        return Atlas(
            title=self.options.title or f"{self.dictionary.name} of {self.model.card.name} over {self.dataset}",
            model=self.model.card.name,
            layer=self.dictionary.layer,
            dictionary=self.dictionary.name,
            dataset=self.dataset,
            features=placed(plan, map(entries.feature, plan.units)),
            pictures=self.pictures.folder,
            recipe=self.recipe.model_dump(mode="json", exclude_none=True),
            images=[entries.image(row) for row in plan.scan.rows],
            errors=[entries.error(row) for row in plan.mistakes],
            misclassified=len(plan.scan.rows.misclassified),
            gaps=plan.gaps(missing),
        )
