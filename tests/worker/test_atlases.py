"""Atlases from step to step on real Redis and real S3, with the reference model: what is published, and what is not."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image
from pydantic import SecretStr
from tests.servers import ACCESS_KEY, SECRET_KEY, RedisServer, S3Server
from tests.worker.stubs import Outbox

from accentor.engine import Model, Pair, accentuate_pairs, load_model
from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items
from accentor.engine.reference import sample_paths
from accentor.settings import Settings
from accentor.spec import BatchState, Failure, JobState, Recipe
from accentor.spec.atlases import AtlasSpec, AtlasStepName, step_batch_id
from accentor.spec.datasets import DatasetSpec
from accentor.spec.dictionaries import DictionarySpec
from accentor.state import AtlasRecord, AtlasStore, JobStore, NewAtlas, connect, dispatch
from accentor.state.keys import waiting_key
from accentor.stepping import Stepper
from accentor.storage import open_store
from accentor.storage.atlases import AtlasObjects
from accentor.storage.batches import keep_card, read_batch
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore
from accentor_worker.runner import run_shard
from accentor_worker.services import Services

MODEL = "reference"
LAYER = "block4"
SCENES = 13
RECIPE = Recipe(steps=8, crops=4, size=64, strengths=(-1, 0, 1), snapshots=4)
TITLE = "<img src=x onerror=alert(1)>"
CHUNK = re.compile(r'Atlas\.register\("[^"]+",(.*)\);\n', re.DOTALL)


@dataclass
class One:
    model: Model

    def get(self, name: str) -> Model:
        assert name == MODEL
        return self.model


class Rig:
    """The stores of a service, and a worker in this process that does one thing after the other."""

    def __init__(self, settings: Settings, model: Model) -> None:
        self.settings, self.model = settings, model
        self.client = connect(settings)
        self.outbox = Outbox()
        self.objects = open_store(settings)
        self.jobs, self.atlases = JobStore(self.client), AtlasStore(self.client)
        self.stepper = Stepper(self.atlases, self.jobs, self.objects, settings)
        self.services = self.new_worker()

    def new_worker(self) -> Services:
        return Services(
            settings=self.settings,
            jobs=self.jobs,
            objects=self.objects,
            publish=self.outbox,
            models=One(self.model),
            accentuate=accentuate_pairs,
            make_pair=Pair,
            owner="host:1",
        )

    def dataset(self, name: str, paths: list[Path]) -> str:
        """Put scenes below a prefix, the first of them in folders that label them, and make them a dataset."""
        for place, path in enumerate(paths):
            self.objects.put(f"{name}/{folder_of(place)}{path.name}", path.read_bytes())
        return DatasetStore(self.objects).create(DatasetSpec(name=name, prefix=f"{name}/"))[0].reference

    def create(self, name: str, dataset: str, **fields: Any) -> None:
        """Create an atlas as the API does."""
        given = {"model": MODEL, "layer": LAYER, "dataset": dataset, "recipe": RECIPE, "title": TITLE}
        spec = AtlasSpec.model_validate({**given, "top_k": 2, "limit": 3, "images": 1, "errors": 1, **fields})
        keep_card(self.objects, self.model.card)
        self.atlases.create(NewAtlas(name, spec, self.model.card.digest, "secret", datetime.now(UTC)))

    def run(self, name: str, until: AtlasStepName | None = None) -> AtlasRecord:
        """Do all there is to do until an atlas has ended, or the batch of a step is there, not begun."""
        for _ in range(100):
            self.stepper.step_all()
            atlas = self.atlases.get(name)
            if atlas.finished_at or (atlas.step is until and atlas.batch):
                return atlas
            self.work()
        raise AssertionError(f"atlas {name} does not end")

    def work(self) -> None:
        """Run what is handed out."""
        dispatch(self.jobs, self.outbox, self.settings)
        ids, self.outbox.ids[:] = list(self.outbox.ids), []
        for shard in ids:
            run_shard(self.services, shard)

    def batch(self, name: str, step: AtlasStepName) -> Any:
        """Return the batch of a step."""
        return read_batch(self.objects, step_batch_id(name, step))

    def chunk(self, name: str, chunk: str) -> Any:
        """Return data of a site."""
        text = AtlasObjects(self.objects, name).get_file(f"data/{chunk}.js").decode()
        return json.loads(CHUNK.fullmatch(text)[1])


def folder_of(place: int) -> str:
    return f"{('stripes', 'dots')[place]}/" if place < 2 else ""


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accentor.spec.scans.SHARD_IMAGES", (4, 4))
        yield


@pytest.fixture(scope="module")
def rig(redis_server: RedisServer, s3_server: S3Server) -> Iterator[Rig]:
    settings = Settings(
        redis_url=SecretStr(redis_server.url),
        storage_url="s3://accentor/atlases-of-workers",
        s3_endpoint=s3_server.endpoint,
        s3_access_key=SecretStr(ACCESS_KEY),
        s3_secret_key=SecretStr(SECRET_KEY),
        first_shard_jobs=64,
    )
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    rig = Rig(settings, load_model(MODEL, device="cpu"))
    yield rig
    rig.client.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two features be evaluated together."""
    monkeypatch.setattr("accentor.spec.atlases.FEATURES_PER_PART", 2)


@pytest.fixture(scope="module")
def dataset(rig: Rig) -> str:
    return rig.dataset("scenes", sample_paths()[:SCENES])


@pytest.fixture(scope="module")
def built(rig: Rig, dataset: str) -> AtlasRecord:
    rig.create("a", dataset)
    return rig.run("a")


def counts(rig: Rig, name: str, step: AtlasStepName = AtlasStepName.ACCENTUATE) -> tuple[int, int]:
    found = rig.jobs.status(step_batch_id(name, step)).counts
    assert found.failed == 0
    return found.succeeded, found.cached


def test_a_site_says_what_a_build_in_process_says(
    rig: Rig, built: AtlasRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the images are called decides which are drawn: so the build runs in their folder."""
    assert (built.state, built.failure) == (BatchState.SUCCEEDED, None)
    assert [step.state for step in built.ended] == [BatchState.SUCCEEDED] * 5
    site = built.site
    assert (site.features, site.images, site.failures) == (3, SCENES, 0)
    for place, path in enumerate(sample_paths()[:SCENES]):
        folder = tmp_path / "scenes" / folder_of(place)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    options = AtlasOptions(top_k=2, limit=3, images=1, errors=1, title=TITLE)
    monkeypatch.chdir(tmp_path / "scenes")
    items = folder_items(Path())
    build_atlas(rig.model, LAYER, items, tmp_path / "out", RECIPE, options, dataset="scenes")

    def here(chunk: str) -> Any:
        return json.loads(CHUNK.fullmatch((tmp_path / "out/data" / f"{chunk}.js").read_text())[1])

    for chunk in ("features/0", "features/2", "images/3", "errors/0", "names/0", "map"):
        assert approximately(rig.chunk("a", chunk)) == approximately(here(chunk)), chunk
    head, expected = rig.chunk("a", "head"), here("head")
    assert head["title"] == TITLE
    assert head["misclassified"] > head["errors"] == 1
    assert {**head, "made_at": "", "summary": {}} == {**expected, "made_at": "", "summary": {}}


def approximately(node: Any, tolerance: float = 1e-4) -> Any:
    """Return data whose numbers are compared as those of another run: jobs run together in another way.

    Coherence is measured on stored pictures, which the service compresses once more.
    """
    if isinstance(node, dict):
        return {name: approximately(value, 0.05 if name == "coherence" else tolerance) for name, value in node.items()}
    if isinstance(node, list):
        return [approximately(value, tolerance) for value in node]
    return pytest.approx(node, rel=tolerance, abs=tolerance) if isinstance(node, float) else node


def test_every_file_of_the_site_is_listed_and_the_first_page_comes_last(rig: Rig, built: AtlasRecord) -> None:
    files = list(AtlasObjects(rig.objects, "a").files())
    names = [file.name for file in files]
    there = {key.removeprefix("atlases/a/site/"): rig.objects.size(key) for key in rig.objects.keys("atlases/a/site/")}
    assert {file.name: file.bytes for file in files} == there
    assert names[-1] == "index.html"
    assert {"atlas.json", "features.jsonl", "accentuations.parquet", "data/head.js"} <= set(names)
    assert (built.site.files, built.site.bytes) == (len(files), sum(there.values()))
    assert not list(rig.objects.keys("atlases/a/parts/"))
    strips = [name for name in names if name.startswith("pictures/") and name.endswith("-1.webp")]
    shown = rig.chunk("a", "features/1")["shown"][0]
    assert f"pictures/{shown['strip']}" in strips
    with Image.open(io.BytesIO(AtlasObjects(rig.objects, "a").get_file(f"pictures/{shown['strip']}"))) as strip:
        assert strip.size == (3 * shown["width"], shown["height"])
    assert TITLE.encode() not in AtlasObjects(rig.objects, "a").get_file("index.html")


def test_an_atlas_with_more_computes_only_what_is_new(rig: Rig, built: AtlasRecord, dataset: str) -> None:
    made = counts(rig, "a")[0]
    rig.create("more", dataset, limit=4)
    rig.run("more")
    assert rig.atlases.get("more").ended[0].cached == rig.atlases.get("more").ended[0].total
    all_of_it, there = counts(rig, "more")
    assert there >= made - 1
    assert 0 < all_of_it - there <= 8
    larger = rig.dataset("larger", sample_paths()[: SCENES + 2])
    rig.create("larger", larger)
    rig.run("larger")
    atlas = rig.atlases.get("larger")
    assert atlas.site.images == SCENES + 2
    before, shards = (rig.batch(name, AtlasStepName.SCAN).shards for name in ("a", "larger"))
    new = [shard for shard in shards if shard not in before]
    assert 0 < len(new) < len(shards)
    scan = atlas.ended[0]
    assert (scan.total, scan.cached) == (len(shards), len(shards) - len(new))
    assert sum(shard.images for shard in new) < SCENES
    all_of_it, there = counts(rig, "larger")
    assert there >= made / 3


@pytest.mark.usefixtures("small_parts")
def test_what_a_killed_worker_left_is_not_done_again(rig: Rig, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.create("killed", dataset)
    for step, method in ((AtlasStepName.EVALUATE, "put_part"), (AtlasStepName.PUBLISH, "finish")):
        rig.run("killed", until=step)
        with monkeypatch.context() as patch:
            patch.setattr(
                AtlasObjects, method, killing(getattr(AtlasObjects, method), after=1 if "part" in method else 0)
            )
            with pytest.raises(KeyboardInterrupt):
                rig.work()
        assert rig.atlases.get("killed").site is None
        parts = list(rig.objects.keys("atlases/killed/parts/"))
        assert len(parts) == (1 if step is AtlasStepName.EVALUATE else 3)
        rig.services = rig.new_worker()
        rig.jobs.shards.give_back("host:1")
        rig.outbox.ids += [shard.decode() for shard in rig.client.smembers(waiting_key("bulk", MODEL))]
    ended = rig.run("killed")
    assert (ended.state, ended.site.features) == (BatchState.SUCCEEDED, 3)
    assert len(rig.chunk("killed", "names/0")) == 3


def killing(method: Any, after: int) -> Any:
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return method(*args, **kwargs)

    return call


def test_pictures_that_failed_are_named_as_gaps(rig: Rig, dataset: str) -> None:
    rig.create("gaps", dataset, limit=1, images=0, recipe=RECIPE.model_copy(update={"steps": 5}))
    atlas = rig.run("gaps", until=AtlasStepName.ACCENTUATE)
    why = Failure(code="not-finite", detail="it became NaN <b>")
    rig.jobs.start_jobs(atlas.batch, [0, 2])
    rig.jobs.finish_jobs(atlas.batch, [0, 2], JobState.FAILED, failure=why)
    ended = rig.run("gaps")
    assert ended.state is BatchState.PARTIALLY_FAILED
    assert ended.site.failures == 2
    assert "2 pictures could not be made: not-finite: it became NaN <b>" in ended.site.gaps
    shown = rig.chunk("gaps", "features/0")["shown"]
    assert [one.get("failure") for one in shown[:3]] == ["not-finite: it became NaN <b>", None, shown[0]["failure"]]
    assert shown[1]["strip"]
    assert rig.chunk("gaps", "head")["gaps"] == list(ended.site.gaps)


def test_what_the_dataset_left_out_is_named(rig: Rig) -> None:
    for index in range(12):
        rig.objects.put(f"damaged/{index:02}.png", b"no picture %d" % index)
    dataset = rig.dataset("damaged", sample_paths()[-2:])
    rig.create("damaged", dataset, limit=1, images=0, errors=0)
    ended = rig.run("damaged")
    assert ended.state is BatchState.SUCCEEDED
    gaps = list(ended.site.gaps)
    assert gaps == rig.chunk("damaged", "head")["gaps"]
    assert "12 members of the dataset were left out when it was made" in gaps
    named = [gap.partition(" was left out: ") for gap in gaps if "was left out: " in gap]
    assert [name for name, _, _ in named] == [f"{index:02}.png" for index in range(10)]
    assert all("is no image" in why for _, _, why in named)


def test_an_atlas_without_any_picture_is_published_with_that_gap(rig: Rig, dataset: str) -> None:
    rig.create("none", dataset, limit=1, images=0, recipe=RECIPE.model_copy(update={"steps": 6}))
    atlas = rig.run("none", until=AtlasStepName.ACCENTUATE)
    rig.jobs.request_cancel(atlas.batch)
    ended = rig.run("none")
    assert ended.state is BatchState.PARTIALLY_FAILED
    assert ended.site.pictures == 0
    assert any(re.fullmatch(r"\d+ pictures could not be made: it was not made", gap) for gap in ended.site.gaps)


@pytest.mark.usefixtures("small_parts")
def test_features_have_the_labels_beside_the_dictionary_and_their_jobs_its_version(rig: Rig, dataset: str) -> None:
    rows = io.BytesIO()
    np.save(rows, np.eye(2, rig.model.card.layer(LAYER).shape[0], dtype=np.float32))
    spec = DictionarySpec(name="named", model=MODEL, layer=LAYER, file="0" * 64, labels=("<b>ear</b>", "eye"))
    card, _ = DictionaryStore(rig.objects).create(spec, rig.model.card, rows.getvalue())
    rig.create("labelled", dataset, layer=None, dictionary=card.reference, top_k=1, images=0, errors=0)
    assert rig.run("labelled").state is BatchState.SUCCEEDED
    objects = AtlasObjects(rig.objects, "labelled")
    told = [json.loads(line) for line in objects.get_file("features.jsonl").splitlines()]
    assert [one["label"] for one in told] == ["<b>ear</b>", "eye"]
    jobs = [one["shown"][0]["job"]["feature"] for one in told]
    assert jobs == [f"dictionary:{card.reference}#{unit}" for unit in (0, 1)]
    assert json.loads(objects.get_file("atlas.json"))["labelled"]


@pytest.mark.usefixtures("small_parts")
def test_parts_that_could_not_be_evaluated_are_named(rig: Rig, dataset: str) -> None:
    rig.create("parts", dataset)
    atlas = rig.run("parts", until=AtlasStepName.EVALUATE)
    rig.jobs.start_jobs(atlas.batch, [0])
    rig.jobs.finish_job(atlas.batch, 0, JobState.FAILED, failure=Failure(code="unexpected", detail="gone"))
    ended = rig.run("parts")
    assert (ended.state, ended.site.features) == (BatchState.PARTIALLY_FAILED, 1)
    assert "features 0 to 1 are missing: unexpected: gone" in ended.site.gaps


def test_canceled_it_ends_and_publishes_nothing(rig: Rig, dataset: str) -> None:
    rig.create("canceled", dataset, limit=2, recipe=RECIPE.model_copy(update={"steps": 7}))
    rig.run("canceled", until=AtlasStepName.ACCENTUATE)
    rig.atlases.cancel("canceled")
    ended = rig.run("canceled")
    assert (ended.state, ended.site) == (BatchState.CANCELED, None)
    assert rig.jobs.status(ended.batch).state is BatchState.CANCELED
    assert not list(rig.objects.keys("atlases/canceled/site/"))


def test_a_scan_that_fails_is_the_atlas_failure(rig: Rig) -> None:
    reference = rig.dataset("emptied", sample_paths()[:2])
    for key in list(rig.objects.keys("emptied/")):
        rig.objects.delete(key)
    rig.create("unread", reference)
    ended = rig.run("unread")
    assert (ended.state, ended.step) == (BatchState.FAILED, AtlasStepName.SCAN)
    assert "none of the 2 images" in ended.failure.detail


def test_a_dataset_that_is_gone_is_named(rig: Rig) -> None:
    rig.create("lost", "nowhere@0123456789abcdef")
    ended = rig.run("lost")
    assert (ended.state, ended.failure.code) == (BatchState.FAILED, "unknown-dataset")


def test_many_who_look_after_an_atlas_make_each_batch_once(rig: Rig, dataset: str) -> None:
    rig.create("watched", dataset, limit=1)
    others = [Stepper(rig.atlases, rig.jobs, rig.objects, rig.settings) for _ in range(3)]
    before = len(rig.jobs.recent(500))
    while not rig.atlases.get("watched").finished_at:
        for other in others:
            other.step("watched")
        rig.work()
    ended = rig.atlases.get("watched")
    assert ended.state is BatchState.SUCCEEDED
    assert len(ended.ended) == 5
    assert len(rig.jobs.recent(500)) - before == 4
