"""``accentor up`` as a newcomer runs it: start, use by the command line, stop, start again, kill, start again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.servers import free_port, listens, wait_until

from accentor.engine.reference import sample_paths
from accentor_client import Client

pytestmark = pytest.mark.service

ACCENTOR = str(Path(sys.executable).with_name("accentor"))
RECIPE = '{"steps": 4, "crops": 2, "size": 64, "snapshots": 1}'


class Up:
    """One run of ``accentor up``."""

    def __init__(self, data: Path, port: int = 0, models: tuple[str, ...] = ()) -> None:
        served = [word for model in models for word in ("--model", model)]
        self.popen = subprocess.Popen(
            [ACCENTOR, "up", "--port", str(port), "--data", str(data), "--no-browser", *served],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        for line in self.popen.stdout:
            self.said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
                return
        pytest.fail(f"did not come up:\n{self.said}")

    def stop(self, number: int) -> int:
        self.popen.send_signal(number)
        status = self.popen.wait(40)
        self.popen.stdout.close()
        return status


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


def processes_of(data: Path) -> list[str]:
    """Command lines and environments of processes that belong to the service on this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(data).encode() in text and state != "Z":
            found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


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


def test_killed_and_started_again_loses_nothing(tmp_path):
    data = tmp_path / "data"
    up = Up(data)
    with Client(up.url) as client:
        batch = client.batches.create(
            model="reference",
            features=[f"channel:block2:{unit}" for unit in range(12)],
            images=sample_paths()[:3],
            recipe=json.loads(RECIPE) | {"steps": 30},
        )
        wait_until(lambda: batch.refresh().counts.succeeded >= 3, timeout_s=60, what="the first results")
    up.stop(signal.SIGKILL)
    wait_until(lambda: not processes_of(data), timeout_s=30, what="the processes end with their parent")
    again = Up(data)
    try:
        with Client(again.url) as client:
            after = client.batches.get(batch.id).wait(timeout=120)
            assert after.counts.succeeded == after.status.total == 36
            assert len({result.index for result in after.results()}) == 36
    finally:
        again.stop(signal.SIGINT)


def test_dead_worker_and_api_are_started_anew(tmp_path):
    data = tmp_path / "data"
    up = Up(data)
    try:
        for module in ("accentor_worker", "accentor_api"):
            (victim,) = (
                int(entry.name) for entry in Path("/proc").glob("[0-9]*") if is_main_process(entry, module, data)
            )
            os.kill(victim, signal.SIGKILL)
            time.sleep(1.0)
            wait_until(lambda: httpx_ready(up.url), timeout_s=60, what=f"{module} is back")
        with Client(up.url) as client:
            job = client.jobs.create(
                model="reference", feature="logit:ring", image=sample_paths()[0], recipe=json.loads(RECIPE)
            ).wait(timeout=60)
            assert job.result.after != job.result.before
    finally:
        up.stop(signal.SIGINT)


def is_main_process(entry: Path, module: str, data: Path) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().split(b"\0")
        environment = (entry / "environ").read_bytes()
    except OSError:
        return False
    return command[1:3] == [b"-m", module.encode()] and str(data).encode() in environment


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
