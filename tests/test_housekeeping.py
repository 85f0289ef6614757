"""Removing what nobody needs any more, and nothing else."""

from datetime import UTC, datetime

import pytest
import redis
from tests.worker.stubs import CARD, MODEL, RECIPE

from accentor.errors import NotFoundError
from accentor.housekeeping import tidy
from accentor.settings import Settings
from accentor.spec import BatchSpec, JobState, LinesBatch, canonical_json
from accentor.state import JobStore, NewBatch
from accentor.state.keys import EXPIRIES
from accentor.storage import ObjectStore, open_store
from accentor.storage.batches import jobs_of, write_batch, write_block
from accentor.storage.keys import artefact_key, batch_prefix, card_key, result_key, upload_key

IMAGES = tuple(f"{number:064x}" for number in range(3))


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    opened = open_store(settings)
    opened.ensure_bucket()
    opened.put(card_key(CARD.digest), canonical_json(CARD.model_dump(mode="json")))
    return opened


def create(
    store: JobStore, objects: ObjectStore, name: str, spec: BatchSpec | LinesBatch, *, ended: bool = True
) -> list[str]:
    """Create a batch with its results, and return their keys."""
    write_batch(objects, name, spec)
    jobs = jobs_of(objects, name, spec, CARD)
    store.create_batch(NewBatch(name, MODEL, CARD.digest, spec.lane, len(jobs), datetime.now(UTC), lifetime_s=3_600))
    keys = [job.key(CARD) for job in jobs]
    for index, key in enumerate(keys):
        objects.put(artefact_key(key, "accentuated.png"), b"pixels")
        objects.put(result_key(key), b"{}")
        if ended:
            store.finish_job(name, index, JobState.SUCCEEDED)
    return keys


def product(features: list[str], images: tuple[str, ...]) -> BatchSpec:
    return BatchSpec.model_validate({"model": MODEL, "features": features, "images": images, "recipe": RECIPE})


def left(objects: ObjectStore, keys: list[str]) -> list[bool]:
    return [objects.exists(result_key(key)) and objects.exists(artefact_key(key, "accentuated.png")) for key in keys]


def test_a_deleted_batch_loses_its_objects_and_keeps_its_results(store: JobStore, objects: ObjectStore) -> None:
    keys = create(store, objects, "a", product(["logit:0"], IMAGES[:2]))
    create(store, objects, "b", product(["logit:1"], IMAGES[:1]))
    store.delete("a")
    assert tidy(store, objects) == 1
    assert tidy(store, objects) == 0
    assert list(objects.keys(batch_prefix("a"))) == []
    assert left(objects, keys) == [True, True]
    assert [status.id for status in store.recent(10)] == ["b"]
    assert list(objects.keys(batch_prefix("b"))) != []


def test_results_go_unless_another_batch_may_need_them(store: JobStore, objects: ObjectStore) -> None:
    keys = create(store, objects, "a", product(["logit:0", "logit:1"], IMAGES))
    create(store, objects, "b", product(["logit:5"], IMAGES[1:2]), ended=False)
    store.delete("a", results=True)
    tidy(store, objects)
    assert left(objects, keys) == [False, True, False, False, True, False]
    assert not objects.exists(artefact_key(keys[0], "accentuated.png"))


def test_the_images_of_lines_count_too(store: JobStore, objects: ObjectStore) -> None:
    line = b'{"feature": "logit:1", "image": "%b"}' % IMAGES[2].encode()
    write_block(objects, "b", 0, [line, line])
    create(store, objects, "b", LinesBatch(model=MODEL, total=2, recipe=RECIPE))
    keys = create(store, objects, "a", product(["logit:0"], IMAGES))
    store.delete("a", results=True)
    tidy(store, objects)
    assert left(objects, keys) == [False, False, True]


def test_a_batch_whose_lifetime_is_over_goes_with_its_results(
    store: JobStore, objects: ObjectStore, redis_client: "redis.Redis[bytes]"
) -> None:
    old = create(store, objects, "old", product(["logit:0"], IMAGES[:1]))
    young = create(store, objects, "young", product(["logit:0"], IMAGES[1:2]))
    redis_client.zadd(EXPIRIES, {"old": 1})
    assert tidy(store, objects) == 1
    with pytest.raises(NotFoundError):
        store.status("old")
    assert (left(objects, old), left(objects, young)) == ([False], [True])
    assert store.status("young").state == "succeeded"


def test_a_batch_that_is_retried_meanwhile_stays(
    store: JobStore, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = create(store, objects, "a", product(["logit:0"], IMAGES[:1]), ended=False)
    monkeypatch.setattr(store, "expired", lambda: [("a", CARD.digest, True)])
    assert tidy(store, objects) == 0
    assert left(objects, keys) == [True]
    assert store.status("a").state == "queued"


def test_what_is_cut_short_is_done_the_next_time(store: JobStore, objects: ObjectStore) -> None:
    keys = create(store, objects, "a", product(["logit:0"], IMAGES[:1]))
    store.delete("a", results=True)
    objects.delete(result_key(keys[0]))
    tidy(store, objects)
    assert not objects.exists(artefact_key(keys[0], "accentuated.png"))
    assert store.expired() == []


def test_a_file_that_nothing_was_made_from_goes(store: JobStore, objects: ObjectStore) -> None:
    for name, alive_s in (("a", -1), ("b", 60)):
        objects.put(upload_key(name * 64), b"numbers")
        store.note_upload(upload_key(name * 64), alive_s=alive_s)
    assert tidy(store, objects) == 1
    assert list(objects.keys("uploads/")) == [upload_key("b" * 64)]
    assert tidy(store, objects) == 0


def test_an_abandoned_upload_goes(store: JobStore, objects: ObjectStore) -> None:
    write_block(objects, "half", 0, [b"{}"])
    write_block(objects, "growing", 0, [b"{}"])
    store.note_upload("half", alive_s=-1)
    store.note_upload("growing", alive_s=60)
    assert tidy(store, objects) == 1
    assert list(objects.keys(batch_prefix("half"))) == []
    assert len(list(objects.keys(batch_prefix("growing")))) == 1
