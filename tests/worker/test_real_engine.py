"""A shard through the real engine: what is stored is what the in-process call gives."""

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from tests.worker.stubs import MODEL, Outbox, upload
from torch import nn

from accentor.engine import Dictionary, Model, Pair, accentuate, accentuate_pairs
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary, register_dictionary
from accentor.engine.scan import read_scan, scan
from accentor.spec import (
    BatchSpec,
    Channel,
    Counts,
    DatasetImages,
    DictionaryCard,
    DictionaryFeatures,
    DictionarySpec,
    LayerFeatures,
    Logit,
    Progress,
    Recipe,
    Result,
    TopK,
    canonical_json,
    parse_feature,
    sha256_hex,
)
from accentor.spec.datasets import DatasetCard, DatasetSpec, Named
from accentor.spec.scans import ScanBatch, ScanSettings, WantedScan
from accentor.state import NewBatch, dispatch
from accentor.storage.batches import write_batch
from accentor.storage.catalog import StoredCatalog
from accentor.storage.datasets import DatasetStore
from accentor.storage.dictionaries import DictionaryStore
from accentor.storage.keys import artefact_key, batch_spec_key, result_key, shard_key
from accentor.storage.pinning import Pins
from accentor.storage.scans import TABLES, ScanStore, table_key
from accentor_worker.runner import run_shard
from accentor_worker.services import Services

RECIPE = Recipe(steps=2, crops=2, size=48, snapshots=2)


@dataclass
class One:
    model: Model

    def get(self, name: str) -> Model:
        assert name == MODEL
        return self.model


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    return Model(network.eval(), input_size=32, regularization_layer="0", name=MODEL)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_stored_is_what_the_in_process_call_gives(services: Services, outbox: Outbox, model: Model) -> None:
    image = upload(services.objects, picture())
    features = (Logit(unit=2), Channel(layer="2", unit=1), -Logit(unit=3))
    spec = BatchSpec(model=MODEL, features=features, images=(image,), recipe=RECIPE)
    services.objects.put(batch_spec_key("b"), canonical_json(spec.model_dump(mode="json")))
    services.jobs.create_batch(NewBatch("b", MODEL, model.card.digest, "bulk", 3, datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    real = replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair)
    for shard in outbox.ids:
        run_shard(real, shard)
    assert services.jobs.status("b").counts == Counts(succeeded=3)
    for job in spec.expand(model.card):
        expected = accentuate(model, picture(), job.feature, RECIPE, seed=job.seed)
        key = job.key(model.card)
        for name, data in expected.files(key).items():
            assert services.objects.get(artefact_key(key, name)) == data
        result = Result.model_validate_json(services.objects.get(result_key(key)))
        assert (result.key, result.spec, result.model_digest) == (key, job, model.card.digest)
        assert (result.before, result.after) == (expected.before, expected.after)
        assert (result.width, result.height) == expected.image.size == (48, 36)


def test_a_single_job_shows_its_image_on_the_way(
    services: Services, outbox: Outbox, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    monkeypatch.setattr(
        type(services.jobs), "report_progress", lambda jobs, batch, progress: told.extend(progress.values())
    )
    image = upload(services.objects, picture())
    features = (Logit(unit=2),)
    spec = BatchSpec(model=MODEL, features=features, images=(image,), recipe=RECIPE, lane="interactive")
    services.objects.put(batch_spec_key("b"), canonical_json(spec.model_dump(mode="json")))
    services.jobs.create_batch(NewBatch("b", MODEL, model.card.digest, "interactive", 1, datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    run_shard(replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair), outbox.ids[0])
    assert services.jobs.status("b").counts == Counts(succeeded=1)
    assert told[0].preview is not None
    kind, _, data = told[0].preview.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (48, 36)


@dataclass(frozen=True)
class Made:
    """A dictionary as it is in the store and as the engine has it."""

    card: DictionaryCard
    here: Dictionary


def make(services: Services, model: Model, here: Dictionary, folder: Path) -> Made:
    data = here.save(folder / f"{here.name}.safetensors").read_bytes()
    spec = DictionarySpec(name=here.name, model=MODEL, file=sha256_hex(data))
    return Made(DictionaryStore(services.objects).create(spec, model.card, data)[0], here)


def run_features(services: Services, outbox: Outbox, model: Model, spec: BatchSpec) -> BatchSpec:
    """Run a batch as the API stores it, and return it so."""
    pinned = Pins(DictionaryStore(services.objects), DatasetStore(services.objects), model.card).batch(spec)
    jobs = pinned.expand(model.card, StoredCatalog(services.objects))
    services.objects.put(batch_spec_key("b"), canonical_json(pinned.model_dump(mode="json")))
    services.jobs.create_batch(NewBatch("b", MODEL, model.card.digest, "bulk", len(jobs), datetime.now(UTC)))
    dispatch(services.jobs, services.publish, services.settings)
    real = replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair)
    for shard in outbox.ids:
        run_shard(real, shard)
    return pinned


def test_a_dictionary_of_the_store_gives_what_its_features_by_value_give(
    services: Services, outbox: Outbox, model: Model, tmp_path: Path
) -> None:
    vectors = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    vectors[2, 0] = torch.nan
    made = make(services, model, DirectionDictionary(name="rows", layer="2", vectors=vectors), tmp_path)
    image = upload(services.objects, picture())
    spec = BatchSpec(model=MODEL, features={"dictionary": "rows", "range": "1:4"}, images=(image,), recipe=RECIPE)
    pinned = run_features(services, outbox, model, spec)
    assert services.jobs.status("b").counts == Counts(succeeded=2, failed=1)
    [(index, failure)] = services.jobs.failures("b")
    assert index == 1
    assert (failure.code, "feature 2 of dictionary 'rows'" in failure.detail) == ("invalid-feature", True)
    jobs = pinned.expand(model.card, StoredCatalog(services.objects))
    for index, unit in ((0, 1), (2, 3)):
        assert str(jobs[index].feature) == f"dictionary:{made.card.reference}#{unit}"
        expected = accentuate(model, picture(), made.here.feature(unit), RECIPE, seed=0)
        result = Result.model_validate_json(services.objects.get(result_key(jobs[index].key(model.card))))
        assert (result.before, result.after) == (expected.before, expected.after)
        assert result.spec == jobs[index]


def test_the_code_of_a_topk_dictionary_and_an_opacity_feature(
    services: Services, outbox: Outbox, model: Model, tmp_path: Path
) -> None:
    vectors = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    here = EncoderDictionary(name="sae", layer="2", vectors=vectors, activation="topk", k=3)
    made = make(services, model, here, tmp_path)
    image = upload(services.objects, picture())
    recipe = RECIPE.model_copy(update={"opacity_feature": parse_feature("dictionary:sae#1")})
    feature = parse_feature("encoder:2:sae#0:post")
    spec = BatchSpec(model=MODEL, features=(feature,), images=(image,), recipe=recipe)
    pinned = run_features(services, outbox, model, spec)
    assert services.jobs.status("b").counts == Counts(succeeded=1)
    register_dictionary(here, made.card.reference)
    shown = RECIPE.model_copy(update={"opacity_feature": here.feature(1)})
    stored = parse_feature(f"encoder:2:{made.card.reference}#0:post")
    expected = accentuate(model, picture(), stored, shown, seed=0)
    job = pinned.expand(model.card)[0]
    assert job.feature == stored
    key = job.key(model.card)
    result = Result.model_validate_json(services.objects.get(result_key(key)))
    assert (result.before, result.after) == (expected.before, expected.after)
    opacity = expected.files(key)["opacity.png"]
    assert services.objects.get(artefact_key(key, "opacity.png")) == opacity


def test_a_batch_over_a_dataset_that_lies_in_the_store(services: Services, outbox: Outbox, model: Model) -> None:
    for index in range(3):
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30), (60 * index, 90, 200)).save(buffer, "PNG")
        services.objects.put(f"photos/{index}.png", buffer.getvalue())
    card, _ = DatasetStore(services.objects).create(DatasetSpec(name="d", prefix="photos/"))
    images = DatasetImages(dataset=card.reference)
    spec = BatchSpec(model=MODEL, features=(Logit(unit=2),), images=images, recipe=RECIPE)
    services.objects.put(batch_spec_key("b"), canonical_json(spec.model_dump(mode="json")))
    services.jobs.create_batch(NewBatch("b", MODEL, model.card.digest, "bulk", 3, datetime.now(UTC)))
    services.objects.put("photos/1.png", picture())
    dispatch(services.jobs, services.publish, services.settings)
    for shard in outbox.ids:
        run_shard(replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair), shard)
    assert services.jobs.status("b").counts == Counts(succeeded=2, failed=1)
    failure = services.jobs.failure("b", 1)
    assert failure is not None
    assert failure.code == "digest-mismatch"
    assert f"1.png has changed since the dataset {card.reference} was made" in failure.detail
    jobs = spec.expand(model.card, StoredCatalog(services.objects))
    expected = accentuate(model, services.objects.get("photos/2.png"), "logit:2", RECIPE)
    key = jobs[2].key(model.card)
    assert services.objects.get(artefact_key(key, "accentuated.png")) == expected.files(key)["accentuated.png"]
    assert not list(services.objects.keys("images/"))


@pytest.mark.parametrize("turned", [False, True])
def test_what_the_file_of_an_encoder_does_not_say_is_in_the_card(
    services: Services, outbox: Outbox, model: Model, turned: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    vectors, bias, center = (torch.randn(*shape, generator=generator) for shape in ((5, 8), (5,), (8,)))
    data = save({"W_enc": vectors.T.contiguous() if turned else vectors, "b_enc": bias, "b_dec": center})
    spec = DictionarySpec(
        name="plain", model=MODEL, layer="2", file=sha256_hex(data), activation="jumprelu", threshold=0.1
    )
    DictionaryStore(services.objects).create(spec, model.card, data)
    here = EncoderDictionary(
        name="plain",
        layer="2",
        vectors=vectors,
        bias=bias,
        center=center,
        activation="jumprelu",
        threshold=torch.full((5,), 0.1),
    )
    image = upload(services.objects, picture())
    feature = parse_feature("dictionary:plain#3 - 0.5*encoder:2:plain#1:post")
    batch = BatchSpec(model=MODEL, features=(feature,), images=(image,), recipe=RECIPE)
    pinned = run_features(services, outbox, model, batch)
    assert services.jobs.status("b").counts == Counts(succeeded=1)
    expected = accentuate(model, picture(), here.feature(3) - 0.5 * here.feature(1, "post"), RECIPE, seed=0)
    result = Result.model_validate_json(services.objects.get(result_key(pinned.expand(model.card)[0].key(model.card))))
    assert (result.before, result.after) == (expected.before, expected.after)


@pytest.fixture
def in_twos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let shards of scans have two images each."""

    def cut(images: Iterable[Named], *_: object) -> Iterator[list[Named]]:
        listed = list(images)
        return (listed[start : start + 2] for start in range(0, len(listed), 2))

    monkeypatch.setattr("accentor.spec.scans.cut", cut)


def scan_batch(
    services: Services,
    model: Model,
    dataset: DatasetCard,
    name: str = "b",
    dictionary: DictionaryCard | None = None,
    **settings: object,
) -> ScanBatch:
    """Store a scan as the API does, and hand out its shards."""
    asked = ScanSettings.model_validate({"top_k": 2, "top_features": 3, **settings})
    wanted = WantedScan(asked, dataset, model.card, "2", dictionary)
    batch = wanted.batch(name, DatasetStore(services.objects).names(dataset.reference))
    write_batch(services.objects, name, batch)
    services.jobs.create_batch(
        NewBatch(name, MODEL, model.card.digest, "bulk", batch.total, datetime.now(UTC), shard_jobs=1)
    )
    dispatch(services.jobs, services.publish, services.settings)
    return batch


def photographs(services: Services, count: int = 5) -> DatasetCard:
    for index in range(count):
        buffer = io.BytesIO()
        Image.effect_noise((40, 30), 20 * index + 10).convert("RGB").save(buffer, "PNG")
        services.objects.put(f"photos/{index}.png", buffer.getvalue())
    return DatasetStore(services.objects).create(DatasetSpec(name="d", prefix="photos/"))[0]


@pytest.mark.usefixtures("in_twos")
def test_a_scan_in_shards_is_the_scan_at_once(services: Services, outbox: Outbox, model: Model, tmp_path: Path) -> None:
    card = photographs(services)
    batch = scan_batch(services, model, card)
    real = replace(services, models=One(model), accentuate=accentuate_pairs, make_pair=Pair)
    assert len(outbox.ids) == 3
    for shard in reversed(outbox.ids[1:]):
        run_shard(real, shard)
    store = ScanStore(services.objects)
    assert store.card(card.reference, batch.scan) is None
    run_shard(real, outbox.ids[0])
    assert services.jobs.status("b").counts == Counts(succeeded=3)
    found = store.card(card.reference, batch.scan)
    assert found is not None
    assert (found.features, found.seen, found.skipped, found.top_k) == (8, 5, 0, 2)
    data = [services.objects.get(f"photos/{index}.png") for index in range(5)]
    expected = scan(model, "2", data, 2)
    assert list(store.tops(found)) == expected.top.notes[..., 0].tolist()
    for name in TABLES:
        (tmp_path / f"{name}.parquet").write_bytes(services.objects.get(table_key(found, name)))
    stored = read_scan(tmp_path)
    torch.testing.assert_close(stored.top.values, expected.top.values)
    torch.testing.assert_close(stored.mean, expected.mean)
    assert [row.id for row in stored.rows] == [f"{index}.png" for index in range(5)]
    assert (found.shards, len(list(services.objects.keys("results/")))) == (3, 3)
    scan_batch(services, model, card, "again")
    for shard in outbox.ids[3:]:
        run_shard(real, shard)
    assert services.jobs.status("again").counts == Counts(succeeded=3, cached=3)

    pairing = BatchSpec(model=MODEL, features=LayerFeatures(layer="2"), images=DatasetImages(dataset="d"),
                        pairing=TopK(top_k=2), seeds=2)  # fmt: skip
    jobs = pairing.expand(model.card, StoredCatalog(services.objects))
    assert len(jobs) == 8 * 2 * 2
    ids = [sha256_hex(one) for one in data]
    told = [(str(job.feature), ids.index(job.image), job.seed) for job in jobs]
    assert told == [
        (f"channel:2:{unit}", image, seed)
        for unit in range(8) for image in expected.top.notes[unit, :, 0].tolist() for seed in (0, 1)
    ]  # fmt: skip


@pytest.mark.usefixtures("in_twos")
def test_a_scan_over_images_that_changed(services: Services, outbox: Outbox, model: Model) -> None:
    card = photographs(services)
    batch = scan_batch(services, model, card)
    services.objects.put("photos/1.png", picture())
    services.objects.delete("photos/4.png")
    for shard in outbox.ids:
        run_shard(replace(services, models=One(model)), shard)
    found = ScanStore(services.objects).card(card.reference, batch.scan)
    assert found is not None
    assert (found.seen, found.skipped) == (3, 2)
    for index in range(5):
        services.objects.delete(f"photos/{index}.png")
    scan_batch(services, model, card, "gone", top_k=3)
    for shard in outbox.ids[3:]:
        run_shard(replace(services, models=One(model)), shard)
    status = services.jobs.status("gone")
    assert (status.counts.succeeded, status.counts.failed) == (2, 1)
    failure = services.jobs.failures("gone")[0][1]
    assert "none of the 5 images" in failure.detail


@pytest.mark.usefixtures("in_twos")
def test_a_scan_of_a_dictionary(services: Services, outbox: Outbox, model: Model, tmp_path: Path) -> None:
    card = photographs(services)
    draw = torch.Generator().manual_seed(0)
    here = EncoderDictionary(name="five", layer="2", vectors=torch.randn(5, 8, generator=draw), activation="topk", k=2)
    made = make(services, model, here, tmp_path)
    batch = scan_batch(services, model, card, dictionary=made.card, code="pre")
    for shard in outbox.ids:
        run_shard(replace(services, models=One(model)), shard)
    found = ScanStore(services.objects).card(card.reference, batch.scan)
    assert found is not None
    data = [services.objects.get(f"photos/{index}.png") for index in range(5)]
    expected, store = scan(model, here, data, 2, code="pre"), ScanStore(services.objects)
    assert list(store.tops(found)) == expected.top.notes[..., 0].tolist()
    assert store.of_dictionary(made.card.reference) == [found]
    told = store.statistics(found)
    assert told["mean"] == pytest.approx(expected.mean.tolist())
    assert told["fires"] == expected.fires.tolist()
    assert told["max"] == pytest.approx(expected.largest.tolist())


@pytest.mark.usefixtures("in_twos")
def test_a_shard_that_is_not_there_is_scanned_again(services: Services, outbox: Outbox, model: Model) -> None:
    """A worker was killed before it stored a shard, and later while it made all shards one."""
    card = photographs(services)
    batch = scan_batch(services, model, card)
    store, real = ScanStore(services.objects), replace(services, models=One(model))
    for shard in outbox.ids[:2]:
        run_shard(real, shard)
    services.objects.delete(shard_key(batch.shards[1].key))
    run_shard(replace(services, models=One(model)), outbox.ids[2])
    assert store.card(card.reference, batch.scan) is None
    scan_batch(services, model, card, "again")
    for shard in outbox.ids[3:]:
        run_shard(real, shard)
    assert services.jobs.status("again").counts == Counts(succeeded=3, cached=2)
    found = store.card(card.reference, batch.scan)
    assert found is not None
    assert found.seen == 5


def test_a_scan_of_one_image_and_of_broken_features(
    services: Services, outbox: Outbox, model: Model, tmp_path: Path
) -> None:
    card = photographs(services, 1)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 8, generator=draw)
    rows[1], rows[2] = torch.nan, 0.0
    made = make(services, model, DirectionDictionary(name="broken", layer="2", vectors=rows), tmp_path)
    batch = scan_batch(services, model, card, dictionary=made.card)
    run_shard(replace(services, models=One(model)), outbox.ids[0])
    store = ScanStore(services.objects)
    found = store.card(card.reference, batch.scan)
    assert found is not None
    assert (found.seen, found.features) == (1, 4)
    assert list(store.tops(found)) == [[0], [], [0], [0]]
    told = store.statistics(found)
    assert told["mean"][1] is told["max"][1] is None
    assert (told["mean"][2], told["fires"][1]) == (0.0, 0.0)
    pairing = BatchSpec(
        model=MODEL,
        features=DictionaryFeatures(dictionary="broken"),
        images=DatasetImages(dataset="d"),
        pairing=TopK(top_k=2),
    )
    jobs = pairing.expand(model.card, StoredCatalog(services.objects))
    assert [str(job.feature).rpartition("#")[2] for job in jobs] == ["0", "2", "3"]
