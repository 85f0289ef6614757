"""A batch of 120 jobs, run by two workers, is disturbed; nobody helps.

Each test says which mechanism it guards.
"""

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults import poison
from tests.faults.cluster import Cluster
from tests.faults.jobs import FEATURES, JOBS, MAX_ATTEMPTS, MODEL, PATHS, RECIPE, SEEDS, Pictures, pairs
from tests.processes import is_ready
from tests.servers import wait_until

from accentor.spec import BatchState, JobState, Recipe
from accentor.state import queue_name
from accentor_client import Client

pytestmark = [pytest.mark.service, pytest.mark.faults]

OUTAGE_S = 30.0
DELIVERIES = 12
ANSWER_S = 60.0
PADDING = b" " * 8_192 + b"\n"
"""Half of the lines are then more than the API takes in one go."""

TRY_AGAIN = {409, 503}


def test_nothing_happens(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """The batch without a fault: what the others are measured against."""
    batch = cluster.submit()
    told = cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == len(told) == JOBS
    assert cluster.status(batch).counts.cached == 0


def test_children_killed(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Kill -9 of a worker's child, twice. Guards: the sweep sends a dead worker's shard again (`find_lost`)."""
    batch = cluster.submit()
    for ended in (JOBS // 6, JOBS // 2):
        cluster.wait_for(batch, ended)
        wait_until(cluster.kill_child, what="a child has a shard in hand")
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS


def test_a_worker_killed(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Kill -9 of a whole worker; the other one finishes. Guards: leases end without signs of life (`alive_until`)."""
    batch = cluster.submit()
    cluster.wait_for(batch, JOBS // 6)
    assert cluster.busy_worker().stop(signal.SIGKILL) == -signal.SIGKILL
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS


def test_redis_killed_and_restarted(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Redis with its append-only file, killed, and stopped. Guards: the file; calls and Celery that connect again."""
    batch = cluster.submit()
    for ended, number in ((JOBS // 6, signal.SIGKILL), (JOBS // 2, signal.SIGTERM)):
        cluster.wait_for(batch, ended)
        cluster.redis.stop(number)
        time.sleep(2.0)
        cluster.redis.start()
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS


def test_storage_down_for_half_a_minute(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """First it hangs, then it is gone. Guards: a shard whose storage fails is put back, and costs no attempt."""
    batch = cluster.submit()
    cluster.wait_for(batch, JOBS // 6)
    cluster.s3.send(signal.SIGSTOP)
    time.sleep(OUTAGE_S / 2)
    cluster.s3.stop(signal.SIGKILL)
    time.sleep(OUTAGE_S / 2)
    assert not is_ready(cluster.url)
    cluster.s3.start()
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS
    assert ": put back for" in cluster.log()


def test_shards_delivered_twice(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Redis hands out messages twice. Guards: a shard that has a worker is taken by no other (`take_shard`)."""
    refused = "has a worker or has ended"
    before = cluster.log().count(refused)
    batch = cluster.submit()
    queue = queue_name("bulk", MODEL)
    doubled: set[bytes] = set()
    while len(doubled) < DELIVERIES and not cluster.status(batch).state.terminal:
        for message in cluster.connection.lrange(queue, -1, -1):
            if message not in doubled:
                doubled.add(message)
                cluster.connection.rpush(queue, message)
        time.sleep(0.05)
    assert len(doubled) >= DELIVERIES // 2
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS
    wait_until(lambda: cluster.log().count(refused) - before >= len(doubled), what="each shard is refused once")


@pytest.mark.parametrize("color", [poison.MAGENTA, poison.CYAN], ids=["crash", "device-lost"])
def test_a_job_that_crashes_its_process(
    cluster: Cluster, undisturbed: Sequence[Pictures], color: tuple[int, int, int]
) -> None:
    """One job of 120 is a segmentation fault, or ends its device. Guards: a shard on which workers die is split."""
    cluster.forget_results()
    with Client(cluster.url) as client:
        images = [image.id for image in client.images.upload_many(PATHS)]
        jobs = [{"feature": feature, "image": images[image], "seed": seed} for feature, image, seed in pairs()]
        bad = JOBS // 3
        jobs[bad]["image"] = client.images.upload(poison.picture(color)).id
    body = {"model": MODEL, "jobs": jobs, "recipe": RECIPE.model_dump(mode="json")}
    batch = httpx.post(f"{cluster.url}/v1/batches", json=body).raise_for_status().json()["id"]
    told = cluster.check_survived(batch, undisturbed)
    assert [job.index for job in told if job.state is JobState.FAILED] == [bad]
    failure = told[bad].failure
    assert failure is not None
    assert (failure.code, failure.attempts) == ("worker-lost", MAX_ATTEMPTS)
    assert f"died {MAX_ATTEMPTS} times on it" in failure.detail


def test_api_killed_in_a_submission(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """Before the batch is created, and before its answer; the same request comes again. Guards: Idempotency-Key."""
    cluster.forget_results()
    before = {status.id for status in cluster.jobs.recent(100)}
    with Client(cluster.url) as client:
        images = [image.id for image in client.images.upload_many(PATHS)]
    body = {"model": MODEL, "features": list(FEATURES), "images": images, "seeds": SEEDS}
    body["recipe"] = RECIPE.model_dump(mode="json")

    cluster.s3.send(signal.SIGSTOP)
    lost = threading.Thread(target=submit_once, args=(cluster, body), kwargs={"patience_s": 0.0})
    lost.start()
    wait_until(lambda: bool(cluster.connection.keys("accentor:once:*")), what="the submission is under way")
    cluster.kill_api()
    cluster.s3.send(signal.SIGCONT)
    lost.join()
    assert {status.id for status in cluster.jobs.recent(100)} == before
    cluster.mend()

    lost = threading.Thread(target=submit_once, args=(cluster, body))
    lost.start()
    wait_until(lambda: len(cluster.jobs.recent(100)) > len(before), timeout_s=ANSWER_S, what="the batch is created")
    cluster.kill_api()
    cluster.mend()
    lost.join()
    batch = submit_once(cluster, body)
    assert batch is not None
    assert {status.id for status in cluster.jobs.recent(100)} - before == {batch}
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS


def test_api_killed_in_an_upload(cluster: Cluster, undisturbed: Sequence[Pictures]) -> None:
    """When half of the lines are sent. Guards: a batch is created only when all of its lines are stored."""
    before = {status.id for status in cluster.jobs.recent(100)}
    with Client(cluster.url) as client:
        images = [image.id for image in client.images.upload_many(PATHS)]
    head = {"batch": {"model": MODEL, "recipe": RECIPE.model_dump(mode="json")}}
    jobs = [{"feature": feature, "image": images[image], "seed": seed} for feature, image, seed in pairs()]
    lines = [json.dumps(line).encode() + PADDING for line in (head, *jobs)]

    def cut() -> Iterator[bytes]:
        yield b"".join(lines[: JOBS // 2])
        time.sleep(1.0)
        cluster.kill_api()
        yield b"".join(lines[JOBS // 2 :])

    kind = {"Content-Type": "application/jsonl"}
    with pytest.raises(httpx.RequestError):
        httpx.post(f"{cluster.url}/v1/batches", content=cut(), headers=kind, timeout=ANSWER_S)
    cluster.mend()
    assert {status.id for status in cluster.jobs.recent(100)} == before
    answer = httpx.post(f"{cluster.url}/v1/batches", content=b"".join(lines), headers=kind, timeout=ANSWER_S)
    batch = str(answer.raise_for_status().json()["id"])
    cluster.check_survived(batch, undisturbed)
    assert cluster.status(batch).counts.succeeded == JOBS
    assert {status.id for status in cluster.jobs.recent(100)} - before == {batch}


def submit_once(cluster: Cluster, body: dict[str, object], *, patience_s: float = ANSWER_S) -> str | None:
    """Submit a batch under one key, again and again for a while; return its id, or none if no answer came."""
    end = time.monotonic() + patience_s
    while True:
        try:
            answer = httpx.post(
                f"{cluster.url}/v1/batches", json=body, headers={"Idempotency-Key": "faults"}, timeout=ANSWER_S
            )
        except httpx.RequestError:
            answer = None
        if answer is not None and answer.status_code not in TRY_AGAIN:
            return str(answer.raise_for_status().json()["id"])
        if time.monotonic() > end:
            return None
        time.sleep(1.0)


def test_workers_killed_during_an_atlas(cluster: Cluster, tmp_path: Path) -> None:
    """Kill -9 of the child in each step that computes. Guards: steps are batches, and what they made is there.

    Other atlases go on with nothing to compute: all pictures are there.
    """
    folder = tmp_path / "scenes"
    folder.mkdir()
    for path in PATHS:
        shutil.copy(path, folder)
    cluster.forget_results()
    recipe = Recipe(steps=8, crops=4, size=64, strengths=(0, 1), snapshots=4)
    options: Any = {"model": MODEL, "layer": "block2", "limit": 3, "top_k": 3, "images": 1, "recipe": recipe}
    with Client(cluster.url) as client:
        options["dataset"] = client.datasets.create("scenes", folder=folder, timeout=ANSWER_S).reference
        atlas = client.atlases.create(**options, title="<b>killed</b>")
        killed = set()
        while not atlas.refresh().state.terminal:
            step = next(one for one in atlas.status.steps if one.name == atlas.status.step)
            busy = step.state is BatchState.RUNNING and step.name in {"accentuate", "evaluate", "publish"}
            if busy and step.name not in killed and cluster.kill_child():
                killed.add(step.name)
            time.sleep(0.02)
        assert (atlas.state, atlas.error) == (BatchState.SUCCEEDED, None)
        assert "accentuate" in killed
        page = atlas.download(tmp_path / "site")
        head = (page.parent / "data" / "head.js").read_text()
        assert json.dumps("<b>killed</b>") in head
        assert httpx.get(atlas.url).content == page.read_bytes()
        again = client.atlases.create(**options).wait(timeout=ANSWER_S)
    steps = {step.name: step for step in again.status.steps}
    assert steps["accentuate"].total == steps["accentuate"].cached > 0
    assert steps["scan"].cached == steps["scan"].total
