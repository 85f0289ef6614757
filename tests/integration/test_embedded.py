"""``accentor up`` as a newcomer runs it: start, use by the command line, stop, start again."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from tests.embedded import ACCENTOR, Up, processes_of
from tests.servers import free_port, listens, wait_until

from accentor.engine.reference import sample_paths
from accentor_client import Client

pytestmark = pytest.mark.service

RECIPE = '{"steps": 4, "crops": 2, "size": 64, "snapshots": 1}'


def accentor(*arguments: str, url: str | None = None, expect: int = 0) -> str:
    done = subprocess.run(
        [ACCENTOR, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | ({"ACCENTOR_URL": url} if url else {}),
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + (done.stderr if expect else "")


def test_up_submit_fetch_stop_and_resume(tmp_path):
    data, images = tmp_path / "data", [str(path) for path in sample_paths()[:3]]
    port = free_port()
    up = Up(data, port)
    try:
        assert up.url.endswith(f":{port}")
        out = accentor(
            "submit", *images, "-f", "logit:dots", "-f", "-logit:blue", "-r", RECIPE, "--wait", "--json", url=up.url
        )
        batch = json.loads(out)
        assert batch["counts"]["succeeded"] == batch["total"] == 6
        accentor("fetch", batch["id"], "--out", str(tmp_path / "results"), url=up.url)
        assert len(list((tmp_path / "results").glob("*/accentuated.png"))) == 6
        assert "reference" in accentor("models", url=up.url)
        message = accentor("submit", images[0], "-f", "channel:blok1:0", url=up.url, expect=2)
        assert "unknown-layer" in message
        assert "block1" in message
        assert "is taken" in accentor(
            "up", "--port", str(port), "--data", str(tmp_path / "other"), "--no-browser", expect=2
        )
        assert "another service runs" in accentor("up", "--data", str(data), "--no-browser", expect=2)
        accentor("status", "nonsense", url=up.url, expect=2)
        long = json.loads(
            accentor("submit", *images, "-f", "logit:star", "-r", '{"steps": 200, "size": 64}', "--json", url=up.url)
        )
    finally:
        assert up.stop(signal.SIGINT) == 0
    assert not listens(port)
    wait_until(lambda: not processes_of(data), timeout_s=15, what="no process is left")
    assert accentor("status", url=up.url, expect=3)

    again = Up(data, port)
    try:
        assert batch["id"] in accentor("status", url=again.url)
        done = json.loads(accentor("watch", long["id"], "--json", url=again.url).splitlines()[-1])
        assert done["counts"]["succeeded"] == 3
    finally:
        again.stop(signal.SIGTERM)
    wait_until(lambda: not processes_of(data), timeout_s=15, what="no process is left")


def test_dead_processes_are_started_anew(tmp_path):
    data = tmp_path / "data"
    up = Up(data)
    long = {"model": "reference", "features": ["logit:star"], "recipe": {"steps": 200, "crops": 4, "size": 64}}
    try:
        with Client(up.url) as client:
            batch = client.batches.create(images=sample_paths()[:3], **long)
            for name in ("accentor_worker", "accentor_api", "redis-server"):
                (victim,) = (
                    int(entry.name) for entry in Path("/proc").glob("[0-9]*") if is_main_process(entry, name, data)
                )
                os.kill(victim, signal.SIGKILL)
                time.sleep(1.0)
                wait_until(lambda: httpx_ready(up.url), timeout_s=60, what=f"{name} is back")
            assert batch.wait(timeout=120).counts.succeeded == 3
            job = client.jobs.create(
                model="reference", feature="logit:ring", image=sample_paths()[0], recipe=json.loads(RECIPE)
            ).wait(timeout=60)
            assert job.result.after != job.result.before
    finally:
        up.stop(signal.SIGINT)


def is_main_process(entry: Path, name: str, data: Path) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().split(b"\0")
        environment = (entry / "environ").read_bytes()
        folder = (entry / "cwd").readlink()
    except OSError:
        return False
    if name == "redis-server":
        return folder == data / "redis"
    return command[1:3] == [b"-m", name.encode()] and str(data).encode() in environment


def httpx_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def test_another_model_under_the_same_name(tmp_path):
    """Once up, the model that is announced is the one that this worker has loaded, not one of an earlier run."""
    data = tmp_path / "data"
    for source in ("reference", "torchvision:squeezenet1_1,untrained"):
        up = Up(data, models=(f"mine={source}",))
        try:
            with Client(up.url) as client:
                assert client.models.get("mine").source == source.partition(",")[0]
                job = client.jobs.create(
                    model="mine", feature="logit:3", image=sample_paths()[0], recipe=json.loads(RECIPE)
                ).wait(timeout=60)
                assert job.result.details.width == 64
        finally:
            up.stop(signal.SIGINT)


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    said = accentor(
        "up", "--port", "0", "--data", str(tmp_path / "data"), "--no-browser",
        "--model", f"mine=torchvision:squeezenet1_1,{broken}", expect=3,
    )  # fmt: skip
    assert "broken.safetensors" in said
    assert "Traceback" not in said
