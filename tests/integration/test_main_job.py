"""The main job through every room: HTTP → Redis → worker → engine → S3 → pictures."""

import hashlib
import io

import httpx
import numpy as np
import pytest
from PIL import Image

import accentor
from accentor.engine.reference import sample_paths
from accentor.settings import Settings
from accentor.spec import BatchState, JobState, Recipe
from accentor.storage import ObjectStore, open_store
from accentor.storage.keys import image_key, result_prefix
from accentor_client import Client

pytestmark = pytest.mark.service

RECIPE = Recipe(steps=6, crops=4, size=96, snapshots=2)
FEATURES = ["logit:stripes", "-logit:red", "channel:block2:3", "logit:star - logit:ring"]


def store_of(environment: dict[str, str]) -> ObjectStore:
    """Return the service's object store."""
    values = {name.removeprefix("ACCENTOR_").lower(): value for name, value in environment.items()}
    return open_store(Settings(**{name: value for name, value in values.items() if name in Settings.model_fields}))


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_batch_has_the_pixels_of_the_call_in_process(distributed):
    images = sample_paths()[:2]
    with Client(distributed["URL"]) as client:
        batch = client.batches.create(model="reference", features=FEATURES, images=images, recipe=RECIPE, seeds=2)
        results = {result.index: result for result in batch.results(timeout=120)}
        assert batch.state == BatchState.SUCCEEDED
        assert batch.counts.succeeded == batch.status.total == len(results) == 16
        model = accentor.load_model("reference", device="cpu")
        for index, seed in ((0, 0), (1, 1), (6, 0), (15, 1)):
            pair = index // 2
            feature, image = FEATURES[pair // 2], images[pair % 2]
            ours = accentor.accentuate(model, image, feature, RECIPE, seed=seed)
            theirs = results[index]
            assert str(theirs.spec.feature) == feature
            assert theirs.spec.seed == seed
            assert theirs.after == pytest.approx(ours.after, abs=1e-3)
            assert np.abs(rgb(theirs.image) - rgb(ours.image)).max() <= 1
            assert np.abs(rgb(theirs.overlay) - rgb(ours.overlay)).max() <= 1
            assert np.abs(rgb(theirs.opacity) - rgb(ours.opacity_image)).max() <= 1
            assert len(theirs.frames) == len(ours.frames)


def test_links_are_the_object_stores_own(distributed):
    with Client(distributed["URL"]) as client:
        job = client.jobs.create(model="reference", feature="logit:disc", image=sample_paths()[3], recipe=RECIPE).wait(
            timeout=60
        )
        assert job.state is JobState.SUCCEEDED
        url = job.status.urls["accentuated.png"]
        assert url.startswith(distributed["ACCENTOR_S3_ENDPOINT"])
        assert Image.open(io.BytesIO(httpx.get(url).content)).size == (96, 96)
        files = sorted(name.rpartition("/")[2] for name in store_of(distributed).keys(result_prefix(job.status.key)))
        assert files == ["accentuated.png", "frames.webp", "opacity.png", "overlay.png", "result.json"]


def test_same_job_again_is_cached(distributed):
    options = {"model": "reference", "features": FEATURES[:2], "images": sample_paths()[4:5], "recipe": RECIPE}
    with Client(distributed["URL"]) as client:
        client.batches.create(**options).wait(timeout=60)
        again = client.batches.create(**options).wait(timeout=60)
        assert again.state == BatchState.SUCCEEDED
        assert again.counts.cached == again.counts.succeeded == 2


def test_bad_job_fails_alone(distributed):
    """An image that has rotted in the store fails the jobs that need it, and only those."""
    rotten = b"no image at all"
    name = hashlib.sha256(rotten).hexdigest()
    with Client(distributed["URL"]) as client:
        good = client.images.upload(sample_paths()[5])
        store_of(distributed).put(image_key(name), rotten)
        batch = client.batches.create(
            model="reference", features=FEATURES[:2], images=[good, name], recipe=RECIPE
        ).wait(timeout=60)
        assert batch.state == BatchState.PARTIALLY_FAILED
        assert (batch.counts.succeeded, batch.counts.failed) == (2, 2)
        failures = [job.status.failure for job in batch.errors()]
        assert {failure.code for failure in failures} == {"invalid-image"}


def test_events_of_a_job_tell_its_steps(distributed):
    with Client(distributed["URL"]) as client:
        job = client.jobs.create(
            model="reference",
            feature="logit:waves",
            image=sample_paths()[6],
            recipe=Recipe(steps=150, crops=4, size=96),
        )
        seen = list(job.events())
        assert seen[-1].state is JobState.SUCCEEDED
        steps = [status.progress.step for status in seen if status.progress is not None]
        assert steps == sorted(steps)
        assert len(steps) >= 1
        assert max(steps) <= 150
