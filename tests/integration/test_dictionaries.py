"""A dictionary through every room: uploaded, named by jobs and batches over a dataset, fetched by the worker."""

import io
import json
import os
import subprocess
import sys
import tarfile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import accentor
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary
from accentor.engine.reference import sample_paths
from accentor.engine.scan import read_scan, scan
from accentor.settings import Settings
from accentor.spec import BatchState, JobState, Recipe
from accentor.spec.datasets import DatasetMember
from accentor.storage import open_store
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


def accentor_json(environment: dict[str, str], *arguments: object) -> Any:
    """Run the program against the service, and return the JSON that it prints."""
    command = [sys.executable, "-c", "from accentor.cli import main; main()", *map(str, arguments), "--json"]
    told = subprocess.run(
        command, env=os.environ | {"ACCENTOR_URL": environment["URL"]}, check=True, capture_output=True, timeout=120
    )
    return json.loads(told.stdout)


def test_every_kind_of_dataset_is_scanned_alike(distributed, tmp_path):
    folder, list_file = tmp_path / "photos", tmp_path / "list.txt"
    folder.mkdir()
    for path in sample_paths():
        (folder / path.name).write_bytes(path.read_bytes())
    names = sorted(path.name for path in folder.iterdir())
    list_file.write_text("".join(f"photos/{name}\n" for name in names))
    names_of_settings = {name.lower().removeprefix("accentor_"): value for name, value in distributed.items()}
    objects = open_store(Settings(**{key: names_of_settings[key] for key in names_of_settings if key != "url"}))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as packed:
        for name in names:
            objects.put(f"lake/{name}", (folder / name).read_bytes())
            packed.add(folder / name, name)
    objects.put("tars/part-000.tar", tar.getvalue())
    made = {"from-folder": [folder], "from-prefix": ["--prefix", "lake/"], "from-tars": ["--tar", "tars/"]}
    made["from-list"] = [list_file]
    for name, source in made.items():
        card = accentor_json(distributed, "dataset", "create", name, *source)
        assert (card["images"], card["skipped"]) == (len(names), 0)
    assert {card["name"] for card in accentor_json(distributed, "dataset", "list")} >= made.keys()
    model = accentor.load_model("reference", device="cpu")
    here = scan(model, "block3", [folder / name for name in names], 3)
    for name in made:
        out = tmp_path / name
        told = accentor_json(distributed, "dataset", "scan", name, "--layer", "block3", "--top-k", 3, "--out", out)
        assert (told["state"], told["card"]["seen"]) == ("ready", len(names))
        stored = read_scan(out)
        assert torch.equal(stored.top.notes, here.top.notes)
        torch.testing.assert_close(stored.top.values, here.top.values)
        assert [row.features for row in stored.rows] == [row.features for row in here.rows]
        shown = accentor_json(distributed, "dataset", "show", name)
        assert [one["id"] for one in shown["scans"]] == [told["id"]]


def test_top_images_of_a_dictionary(distributed, tmp_path):
    model = accentor.load_model("reference", device="cpu")
    vectors = torch.randn(5, model.card.layer("block3").units, generator=torch.Generator().manual_seed(1))
    sae = EncoderDictionary(name="top", layer="block3", vectors=vectors, activation="relu")
    with Client(distributed["URL"]) as client:
        client.dictionaries.create("top", sae, model="reference")
        images = [client.images.upload(path) for path in sample_paths()]
        members = [
            DatasetMember(image=image.id, id=path.name) for image, path in zip(images, sample_paths(), strict=True)
        ]
        client.datasets.create("listed", images=members, timeout=60)
        found = client.datasets.scan("listed", model="reference", dictionary="top", code="pre", top_k=2, timeout=60)
        here = scan(model, sae, list(sample_paths()), 2, code="pre")
        told = [feature.statistics for feature in client.dictionaries.features("top")]
        assert [one["max"] for one in told] == pytest.approx(here.largest.tolist(), rel=1e-4)
        assert [scan.id for scan in client.dictionaries.scans("top")] == [found.id]
        batch = client.batches.create(
            model="reference", features={"dictionary": "top", "range": "1:3"}, images={"dataset": "listed"},
            pairing={"top_k": 2, "scan": found.id}, recipe=RECIPE,
        )  # fmt: skip
        results = list(batch.results(timeout=120, order="submission"))
    expected = [images[top.image].id for feature in (1, 2) for top in here.top_of(feature)]
    assert [result.spec.image for result in results] == expected
    assert all(result.after > result.before for result in results)
