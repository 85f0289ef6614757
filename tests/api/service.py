"""A running API on real Redis and a real folder, and a stand-in for the engine that does a worker's bookkeeping."""

import io
import threading
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx
import redis
from PIL import Image
from tests.servers import free_port, wait_until

from accentor.settings import Settings
from accentor.spec import (
    BatchSpec,
    Failure,
    Jobs,
    JobSpec,
    JobState,
    LayerInfo,
    ModelCard,
    Progress,
    Result,
    Snapshot,
    sha256_hex,
)
from accentor.state import JobStore, connect
from accentor.storage import ObjectStore, open_store
from accentor.storage.keys import artefact_key, batch_spec_key, result_key
from accentor_api.app import create_server

FRAMES = 3
SIZE = (24, 16)

CARD = ModelCard(
    name="toy",
    source="reference",
    digest="d" * 64,
    input_size=32,
    labels=("circle", "square", "stripes", "dots"),
    outputs=4,
    regularization_layer="conv1",
    layers=(
        LayerInfo(name="conv1", type="Conv2d", shape=(8, 16, 16)),
        LayerInfo(name="layer1.0.conv2", type="Conv2d", shape=(12, 8, 8)),
        LayerInfo(name="fc", type="Linear", shape=(4,)),
    ),
)


def picture(shade: int = 0, size: tuple[int, int] = SIZE, kind: str = "PNG") -> bytes:
    """Return a small picture as a file's bytes; another shade, another picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade % 256, 90, 200)).save(buffer, kind)
    return buffer.getvalue()


def artefacts(index: int) -> dict[str, bytes]:
    """Return what a worker stores for a job, told apart by the shade of red."""
    frames = [Image.new("RGB", SIZE, (index, 0, 40 * number)) for number in range(FRAMES)]
    webp, opacity = io.BytesIO(), io.BytesIO()
    frames[0].save(webp, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    Image.new("L", SIZE, 100 + index).save(opacity, "PNG")
    return {
        "accentuated.png": picture(index),
        "overlay.png": picture(index + 1),
        "opacity.png": opacity.getvalue(),
        "frames.webp": webp.getvalue(),
    }


class Service:
    """The API in a thread of the test, answering on a port of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"port": free_port(), "host": "127.0.0.1"})
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self.http = httpx.Client(base_url=self.url, timeout=20.0)
        self.redis: redis.Redis = connect(self.settings)
        self.jobs = JobStore(self.redis)
        self._server = create_server(self.settings)
        self._thread = threading.Thread(target=self._server.run, name="api under test")

    @cached_property
    def objects(self) -> ObjectStore:
        """The object store that the API uses."""
        return open_store(self.settings)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._server.started, what="the API")
        wait_until(
            lambda: self.http.get("/readyz").json().get("down", {}).keys() <= {"worker"}, what="its object store"
        )

    def stop(self) -> None:
        self._server.should_exit = True
        self.http.close()
        self._thread.join(15.0)
        self.redis.close()
        assert not self._thread.is_alive()

    def forget(self) -> None:
        """Forget every batch, model and object."""
        self.redis.flushall()
        for key in list(self.objects.keys("")):
            self.objects.delete(key)

    def announce(self, card: ModelCard = CARD) -> ModelCard:
        self.jobs.announce_model(card, "here:1")
        return card

    def upload(self, data: bytes | None = None) -> str:
        """Upload a picture and return its id."""
        answer = self.http.post("/v1/images", content=data or picture(), headers={"Content-Type": "image/png"})
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["id"])

    def submit(self, **fields: Any) -> dict[str, Any]:
        """Submit a batch on the toy model and return its status."""
        answer = self.http.post("/v1/batches", json={"model": "toy", **fields})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def submit_job(self, **fields: Any) -> dict[str, Any]:
        """Submit a job on the toy model and return its status."""
        answer = self.http.post("/v1/jobs", json={"model": "toy", **fields})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def specs(self, batch_id: str) -> Jobs:
        """Return the jobs of a batch as a worker reads them."""
        return BatchSpec.model_validate_json(self.objects.get(batch_spec_key(batch_id))).expand(CARD)

    def run(self, batch_id: str, *indices: int) -> None:
        """Do what a worker does for these jobs, with small plain pictures."""
        self.jobs.start_jobs(batch_id, indices)
        for index in indices:
            spec = self.specs(batch_id)[index]
            self.store_result(spec, index)
            assert self.jobs.finish_job(batch_id, index, JobState.SUCCEEDED)

    def begin(self, batch_id: str, index: int, progress: Progress) -> None:
        """Start a job and report how far it is."""
        assert self.jobs.start_jobs(batch_id, [index]) == [index]
        self.jobs.report_progress(batch_id, {index: progress})

    def fail(self, batch_id: str, index: int, failure: Failure) -> None:
        """Let a job fail."""
        self.jobs.start_jobs(batch_id, [index])
        assert self.jobs.finish_job(batch_id, index, JobState.FAILED, failure=failure)

    def store_result(self, spec: JobSpec, index: int = 0) -> Result:
        """Store the artefacts and, last, the result of a job."""
        key, files = spec.key(CARD), artefacts(index)
        for name, data in files.items():
            self.objects.put(artefact_key(key, name), data)
        result = Result(
            key=key,
            spec=spec,
            before=0.5,
            after=2.0 + index,
            trajectory=(Snapshot(step=1, value=1.0, distance=0.25),),
            width=SIZE[0],
            height=SIZE[1],
            model_digest=CARD.digest,
            engine_version=1,
            device="cpu",
            seconds=0.1,
            artefacts=tuple(files),
            created_at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        self.objects.put(result_key(key), result.model_dump_json().encode(), content_type="application/json")
        return result


def digest(data: bytes) -> str:
    """Return the id that an image will have."""
    return sha256_hex(data)
