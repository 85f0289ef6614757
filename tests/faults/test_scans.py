"""A scan of 1,280 images of a tar, in a few shards over two workers, is disturbed; nobody helps."""

import io
import signal
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.faults.cluster import Cluster
from tests.faults.jobs import MODEL
from tests.servers import wait_until

import accentor
from accentor.engine.reference.scenes import render_scene
from accentor.engine.scan import read_scan, scan
from accentor.spec import Counts
from accentor_client import Client

pytestmark = [pytest.mark.service, pytest.mark.faults]

LAYER = "block2"
IMAGES = 1_280
SIDE = 48


def scenes() -> list[bytes]:
    found = []
    for seed in range(IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(render_scene(seed, size=SIDE).image).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def tar_of(images: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for index, data in enumerate(images):
            info = tarfile.TarInfo(f"{index:04d}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_workers_killed(cluster: Cluster, tmp_path: Path) -> None:
    """Kill -9 of a worker's child, then of a whole worker. Guards: a lost shard is handed out again, and whoever ends
    the last one makes them one, each image counted once.
    """
    images = scenes()
    cluster.objects.put("wide/shard-000.tar", tar_of(images))
    killed: list[int] = []

    def disturb(done: int, total: int | None) -> None:
        if not killed and done == 0:
            killed.append(done)
            wait_until(cluster.kill_child, what="a child has a shard in hand")
        elif len(killed) == 1 and total is not None and 1 <= done < total:
            killed.append(done)
            assert cluster.busy_worker().stop(signal.SIGKILL) == -signal.SIGKILL

    with Client(cluster.url) as client:
        card = client.datasets.create("scenes", tars=["wide/"], timeout=60)
        assert card.images == IMAGES
        found = client.datasets.scan("scenes", model=MODEL, layer=LAYER, top_k=8, timeout=120, on_progress=disturb)
        folder = client.datasets.save_scan(found, tmp_path)
    assert len(killed) == 2
    assert found.batch is not None
    cluster.wait_for_end(found.batch)
    counts = cluster.status(found.batch).counts
    assert counts.model_copy(update={"cached": 0}) == Counts(succeeded=found.shards)
    stored, ours = read_scan(folder), scan(accentor.load_model("reference", device="cpu"), LAYER, images, 8)
    assert (stored.seen, len(stored.rows), stored.skipped) == (IMAGES, IMAGES, ())
    assert torch.equal(stored.count, ours.count)
    torch.testing.assert_close(stored.top.values, ours.top.values)
    torch.testing.assert_close(stored.mean, ours.mean)
    assert [row.prediction for row in stored.rows] == [row.prediction for row in ours.rows]
