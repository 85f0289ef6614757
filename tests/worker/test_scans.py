"""Scans of a dataset that grew: what is computed, and that they say what a scan from scratch says."""

import random
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from pyarrow import parquet
from tests.worker.stubs import Outbox
from tests.worker.test_real_engine import One, model, picture, scan_batch

from accentor.engine import Model
from accentor.engine.scan import scan
from accentor.housekeeping import tidy
from accentor.settings import Settings
from accentor.spec import Counts, sha256_hex
from accentor.spec.datasets import DatasetCard, DatasetSpec
from accentor.spec.scans import ScanBatch, ScanCard
from accentor.storage import ObjectStore, open_store
from accentor.storage.batches import keep_card
from accentor.storage.datasets import DatasetStore
from accentor.storage.keys import batch_prefix, image_key, shard_key
from accentor.storage.scans import TABLES, ScanStore
from accentor_worker.runner import run_shard
from accentor_worker.services import Services

__all__ = ["model"]

SCENES = 40


def noise(seed: int) -> bytes:
    buffer = BytesIO()
    pixels = random.Random(seed).randbytes(3 * 32 * 32)
    Image.frombytes("RGB", (32, 32), pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accentor.spec.scans.SHARD_IMAGES", (4, 4))


@pytest.fixture
def scanned(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Images of each pass through the network."""
    counts: list[int] = []
    forward = model.activations
    monkeypatch.setattr(model, "activations", lambda x, names: counts.append(len(x)) or forward(x, names))
    return counts


class Rig:
    """A worker, and a dataset of one name that has as many versions as there are made."""

    def __init__(self, services: Services, outbox: Outbox, model: Model) -> None:
        self.services = replace(services, models=One(model))
        self.outbox, self.model = outbox, model
        self.store = ScanStore(services.objects)
        keep_card(services.objects, model.card)

    def dataset(self, names: dict[str, int], objects: ObjectStore | None = None) -> DatasetCard:
        objects = objects or self.services.objects
        for key in list(objects.keys("scenes/")):
            objects.delete(key)
        for name, seed in names.items():
            objects.put(f"scenes/{name}.png", noise(seed))
        return DatasetStore(objects).create(DatasetSpec(name="d", prefix="scenes/"))[0]

    def begin(self, dataset: DatasetCard, name: str, **settings: object) -> ScanBatch:
        return scan_batch(self.services, self.model, dataset, name, **settings)

    def work(self) -> None:
        ids, self.outbox.ids[:] = list(self.outbox.ids), []
        for shard in ids:
            run_shard(self.services, shard)

    def scan(self, dataset: DatasetCard, name: str) -> tuple[ScanBatch, ScanCard]:
        batch = self.begin(dataset, name)
        self.work()
        card = self.store.card(dataset.reference, batch.scan)
        assert card is not None
        return batch, card

    def counts(self, name: str) -> Counts:
        return self.services.jobs.status(name).counts


@pytest.fixture
def rig(services: Services, outbox: Outbox, model: Model) -> Rig:
    return Rig(services, outbox, model)


def named(*numbers: int) -> dict[str, int]:
    return {f"{number:03d}": number for number in numbers}


OLD = named(*range(100, 100 + SCENES))
GROWN = {
    "front": named(3, 4) | OLD,
    "middle": OLD | {"119 and a half": 7},
    "behind": OLD | named(*range(200, 210)),
    "taken out": {name: seed for name, seed in OLD.items() if seed != 117},
    "several": named(1) | OLD | {"119 and a half": 7, "zz": 8},
}


def new_shards(old: ScanBatch, new: ScanBatch) -> list[int]:
    known = {shard.key for shard in old.shards}
    return [job for job in range(new.total) if new.shards[job].key not in known]


@pytest.mark.parametrize("change", GROWN)
def test_only_shards_with_new_images_are_computed(rig: Rig, scanned: list[int], tmp_path: Path, change: str) -> None:
    old, _ = rig.scan(rig.dataset(OLD), "old")
    assert sum(scanned) == SCENES
    scanned.clear()
    dataset = rig.dataset(GROWN[change])
    grown, card = rig.scan(dataset, "grown")
    assert (card.dataset, card.seen, card.shards) == (dataset.reference, len(GROWN[change]), grown.total)
    todo = new_shards(old, grown)
    ids = [row.id for row in DatasetStore(rig.services.objects).rows(dataset.reference)]
    fresh = {f"{name}.png" for name in GROWN[change].keys() - OLD.keys()}
    holding = [job for job in range(grown.total) if fresh & {ids[index] for index in grown.range(job)}]
    assert todo == (holding or todo[:1])
    assert len(todo) < grown.total / 2
    assert rig.counts("grown") == Counts(succeeded=grown.total, cached=grown.total - len(todo))
    assert sum(scanned) == sum(grown.shards[job].images for job in todo)
    assert tables(rig.store, card, tmp_path / "grown") == from_scratch(rig, GROWN[change], tmp_path)


@pytest.mark.parametrize(("most", "scanned"), [(2, True), (0, False)], ids=["two at once", "none"])
def test_memory_that_runs_out_halves_the_batch(
    rig: Rig, model: Model, monkeypatch: pytest.MonkeyPatch, most: int, scanned: bool
) -> None:
    """Whatever says that it did: PyTorch's allocator is not the only one."""
    forward = model.activations

    def limited(images: torch.Tensor, names: frozenset[str]) -> dict[str, torch.Tensor]:
        if len(images) > most:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return forward(images, names)

    monkeypatch.setattr(model, "activations", limited)
    batch = rig.begin(rig.dataset(named(1, 2, 3, 4)), "s")
    rig.work()
    assert rig.counts("s") == Counts(**{"succeeded" if scanned else "failed": batch.total})
    failure = rig.services.jobs.failure("s", 0)
    assert failure is None if scanned else failure is not None and failure.code == "out-of-memory"


def from_scratch(rig: Rig, names: dict[str, int], folder: Path) -> list[object]:
    """Return the tables of a scan of the same dataset in a store of its own; they say what a scan in process says."""
    objects = open_store(Settings(storage_url=f"file://{folder}/other"))
    objects.ensure_bucket()
    dataset = rig.dataset(names, objects)
    other = Rig(replace(rig.services, objects=objects), rig.outbox, rig.model)
    _, card = other.scan(dataset, "scratch")
    assert other.counts("scratch").cached == 0
    ours = scan(rig.model, "2", [noise(names[name]) for name in sorted(names)], 2, top_features=3)
    assert list(other.store.tops(card)) == ours.top.notes[..., 0].tolist()
    found = tables(other.store, card, folder / "scratch")
    torch.testing.assert_close(torch.tensor(found[-1].column("mean").to_numpy()), ours.mean)
    return found


def tables(store: ScanStore, card: ScanCard, folder: Path) -> list[object]:
    folder.mkdir()
    store.get(card, folder)
    return [parquet.read_table(folder / f"{name}.parquet") for name in TABLES]


def test_a_repaired_image_is_seen_by_the_next_scan(rig: Rig, scanned: list[int]) -> None:
    """It had changed since the dataset was made; what else is in its shard is not taken for the whole of it."""
    objects, dataset = rig.services.objects, rig.dataset(OLD)
    objects.put("scenes/117.png", picture())
    objects.delete("scenes/131.png")
    old, card = rig.scan(dataset, "old")
    assert (card.seen, card.skipped) == (SCENES - 2, 2)
    damaged = [job for job in range(old.total) if {17, 31} & {*old.range(job)}]
    assert len(damaged) == 2
    assert [job for job in range(old.total) if not objects.exists(shard_key(old.shards[job].key))] == damaged
    scanned.clear()
    grown, card = rig.scan(rig.dataset(named(1) | OLD), "grown")
    assert (card.seen, card.skipped) == (SCENES + 1, 0)
    computed = {*new_shards(old, grown)} | {
        job for job in range(grown.total) if grown.shards[job].key in {old.shards[one].key for one in damaged}
    }
    assert rig.counts("grown").cached == grown.total - len(computed)
    assert sum(scanned) == sum(grown.shards[job].images for job in computed)


def test_an_image_that_has_changed_is_scanned_as_it_was_if_it_was_uploaded_too(rig: Rig) -> None:
    objects, dataset = rig.services.objects, rig.dataset(OLD)
    objects.put("scenes/117.png", picture())
    objects.put(image_key(sha256_hex(noise(117))), noise(117))
    _, card = rig.scan(dataset, "kept")
    assert (card.seen, card.skipped) == (SCENES, 0)


def test_a_scan_that_is_begun_again_reads_again_what_could_not_be_read(rig: Rig) -> None:
    """The first batch was canceled when all but one of its shards were done."""
    objects, dataset = rig.services.objects, rig.dataset(OLD)
    objects.delete("scenes/100.png")
    batch = rig.begin(dataset, "first")
    rig.outbox.ids.pop()
    rig.work()
    assert rig.store.card(dataset.reference, batch.scan) is None
    objects.put("scenes/100.png", noise(100))
    _, card = rig.scan(dataset, "again")
    assert (card.seen, card.skipped) == (SCENES, 0)
    assert rig.counts("again") == Counts(succeeded=batch.total, cached=batch.total - 2)


def test_shards_stay_as_long_as_a_scan_that_has_them(rig: Rig, scanned: list[int]) -> None:
    objects, jobs = rig.services.objects, rig.services.jobs
    first = rig.dataset(OLD)
    old, card = rig.scan(first, "old")
    grown, _ = rig.scan(rig.dataset(named(1) | OLD), "grown")
    DatasetStore(objects).delete(first)
    jobs.delete("old", results=True)
    assert tidy(jobs, objects) == 1
    assert all(objects.exists(shard_key(shard.key)) for shard in grown.shards)
    alone = {shard.key for shard in old.shards} - {shard.key for shard in grown.shards}
    assert alone
    assert not any(objects.exists(shard_key(key)) for key in alone)
    assert list(objects.keys(batch_prefix("old"))) == []
    assert list(rig.store.tops(card))
    scanned.clear()
    _, card = rig.scan(rig.dataset(named(1, 2) | OLD), "more")
    assert card.seen == SCENES + 2
    assert 0 < sum(scanned) < SCENES / 2
    for name in ("grown", "more"):
        jobs.delete(name, results=True)
    tidy(jobs, objects)
    assert list(objects.keys("results/")) == []


def test_no_job_looks_for_all_shards(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job looks on from the shard that the one before it did not find."""
    asked: list[str] = []
    has_shard = ScanStore.has_shard
    monkeypatch.setattr(ScanStore, "has_shard", lambda store, key: asked.append(key) or has_shard(store, key))
    batch, _ = rig.scan(rig.dataset(OLD), "old")
    assert len(asked) <= 6 * batch.total
