"""A second atlas, over a dataset that grew, at a service of real processes: what its steps find there."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

import accentor
from accentor.engine.reference.scenes import render_scene
from accentor.engine.scan import read_scan, scan
from accentor.settings import Settings
from accentor.spec import BatchState, Recipe
from accentor.spec.atlases import AtlasStep
from accentor.spec.scans import ScanBatch, ScanShard
from accentor.storage import ObjectStore, open_store
from accentor.storage.batches import read_batch
from accentor_client import Client

pytestmark = pytest.mark.service

SCENES = 1_300
SIDE = 48
LAYER = "block3"


def scene(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(render_scene(seed, size=SIDE).image).save(buffer, "PNG")
    return buffer.getvalue()


def shards_of(objects: ObjectStore, step: AtlasStep) -> tuple[ScanShard, ...]:
    batch = read_batch(objects, str(step.batch))
    assert isinstance(batch, ScanBatch)
    return batch.shards


def test_a_second_atlas_over_more_images(distributed: dict[str, str], tmp_path: Path) -> None:
    names = {name.lower().removeprefix("accentor_"): value for name, value in distributed.items()}
    objects = open_store(Settings(**{name: value for name, value in names.items() if name != "url"}))
    images = {f"{seed:04d}.png": scene(seed) for seed in range(1, SCENES)}
    for name, data in images.items():
        objects.put(f"lake/{name}", data)
    recipe = Recipe(steps=3, crops=2, size=48, strengths=(0, 1), snapshots=2)
    options = {"model": "reference", "layer": LAYER, "limit": 2, "top_k": 2, "images": 1, "recipe": recipe}
    with Client(distributed["URL"]) as client:
        client.datasets.create("scenes", prefix="lake/", timeout=120)
        first = client.atlases.create(**options, dataset="scenes").wait(timeout=240)
        before = {step.name: step for step in first.status.steps}
        assert (first.state, before["scan"].cached) == (BatchState.SUCCEEDED, 0)
        images = {"0000.png": scene(0)} | images
        objects.put("lake/0000.png", images["0000.png"])
        card = client.datasets.create("scenes", prefix="lake/", timeout=120)
        assert card.images == SCENES
        second = client.atlases.create(**options, dataset="scenes").wait(timeout=240)
        after = {step.name: step for step in second.status.steps}
        found = client.datasets.scan("scenes", model="reference", layer=LAYER, top_k=16, code="pre", timeout=120)
        folder = client.datasets.save_scan(found, tmp_path)
    old, new = shards_of(objects, before["scan"]), shards_of(objects, after["scan"])
    todo = [shard for shard in new if shard not in old]
    assert todo == list(new[: len(todo)])
    assert (second.state, after["scan"].total) == (BatchState.SUCCEEDED, len(new))
    assert after["scan"].cached == len(new) - len(todo) > 0
    assert (found.batch, found.shards) == (after["scan"].batch, len(new))
    assert after["accentuate"].cached > 0
    assert second.status.site.images == SCENES
    stored = read_scan(folder)
    ours = scan(accentor.load_model("reference", device="cpu"), LAYER, list(images.values()), 16, code="pre")
    assert (stored.seen, [row.id for row in stored.rows]) == (SCENES, list(images))
    assert torch.equal(stored.count, ours.count)
    torch.testing.assert_close(stored.top.values, ours.top.values)
    torch.testing.assert_close(stored.mean, ours.mean)
    assert [row.prediction for row in stored.rows] == [row.prediction for row in ours.rows]
