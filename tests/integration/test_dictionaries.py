"""A dictionary through every room: uploaded, named by jobs and batches over a dataset, fetched by the worker."""

import numpy as np
import pytest
import torch
from PIL import Image

import accentor
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary
from accentor.engine.reference import sample_paths
from accentor.spec import BatchState, JobState, Recipe
from accentor_client import Client

pytestmark = pytest.mark.service

RECIPE = Recipe(steps=4, crops=4, size=96, snapshots=2)


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_the_pixels_are_those_of_the_call_in_process(distributed, tmp_path):
    model = accentor.load_model("reference", device="cpu")
    width = model.card.layer("block3").units
    vectors = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    rows = DirectionDictionary(name="rows", layer="block3", vectors=vectors)
    np.save(tmp_path / "rows.npy", vectors.numpy())
    sae = EncoderDictionary(name="sae", layer="block3", vectors=vectors, activation="topk", k=2)
    images = sample_paths()[:2]
    for path in images:
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    with Client(distributed["URL"]) as client:
        client.dictionaries.create("rows", tmp_path / "rows.npy", model="reference", layer="block3")
        client.dictionaries.create("sae", sae, model="reference")
        client.datasets.create("two", folder=tmp_path / "photos", timeout=60)
        batch = client.batches.create(
            model="reference", features={"dictionary": "rows", "range": "3:5"}, images={"dataset": "two"}, recipe=RECIPE
        )
        results = {result.index: result for result in batch.results(timeout=120)}
        assert (batch.state, len(results)) == (BatchState.SUCCEEDED, 4)
        first = {path.name: path for path in images}[sorted(path.name for path in images)[0]]
        ours = accentor.accentuate(model, first, rows.feature(4), RECIPE, seed=0)
        assert results[2].after == pytest.approx(ours.after, abs=1e-3)
        assert np.abs(rgb(results[2].image) - rgb(ours.image)).max() <= 1
        job = client.jobs.create(model="reference", feature="dictionary:sae#1", image=first, recipe=RECIPE)
        assert job.wait(timeout=60).state is JobState.SUCCEEDED
        assert job.result.after == pytest.approx(
            accentor.accentuate(model, first, sae.feature(1), RECIPE, seed=0).after, abs=1e-3
        )
        same = client.jobs.create(model="reference", feature="dictionary:sae#1", image=first, recipe=RECIPE, wait=20)
        assert (same.state, same.status.key) == (JobState.SUCCEEDED, job.status.key)
