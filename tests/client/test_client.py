"""The client against a running service."""

import io
import json
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.api.service import CARD, SIZE, Service, artefacts, digest, picture
from tests.client.worker import Worker, pixel

from accentor.errors import (
    CanceledError,
    IllegalTransitionError,
    InvalidFeatureError,
    InvalidImageError,
    InvalidRecipeError,
    InvalidRequestError,
    NotFiniteError,
    NotFoundError,
    UnitOutOfRangeError,
    UnknownLayerError,
    UnknownModelError,
    WaitTimeoutError,
)
from accentor.spec import PRESETS, Channel, Failure, JobState, Progress
from accentor.storage.keys import image_key
from accentor_client import Client, ImageRef


def test_upload_from_anywhere(service: Service, client: Client, tmp_path: Path) -> None:
    data = picture(1)
    path = tmp_path / "dog.png"
    path.write_bytes(data)
    assert client.images.upload(path) == client.images.upload(str(path)) == client.images.upload(data)
    assert client.images.upload(data) == ImageRef(id=digest(data))
    assert client.images.upload(digest(data)).id == digest(data)
    assert service.objects.get(image_key(digest(data))) == data
    opened = client.images.upload(Image.new("RGB", SIZE, (5, 6, 7)))
    stored = Image.open(io.BytesIO(service.objects.get(image_key(opened.id))))
    assert (stored.size, pixel(stored)) == (SIZE, (5, 6, 7))


def sent(service: Service, method: str) -> float:
    text = service.http.get("/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(f'accentor_http_requests_total{{method="{method}",route="/v1/images')
    )


def test_nothing_is_sent_twice(service: Service, client: Client) -> None:
    before = sent(service, "PUT")
    refs = client.images.upload_many([picture(1), picture(2), picture(1)])
    client.images.upload_many([picture(2), picture(1)])
    assert [ref.id for ref in refs] == [digest(picture(1)), digest(picture(2)), digest(picture(1))]
    assert sent(service, "PUT") - before == 2


@pytest.mark.parametrize("image", ["no/such/file.png", "a\0b", b"no image", b""])
def test_images_that_are_none(client: Client, image: str | bytes) -> None:
    with pytest.raises(InvalidImageError):
        client.images.upload(image)


def test_a_job_from_upload_to_pictures(service: Service, client: Client, tmp_path: Path) -> None:
    Worker(service, 0).start()
    job = client.jobs.create(model="toy", feature="logit:stripes", image=picture(), seed=5, custom_id="mine").wait(10)
    assert job.state is JobState.SUCCEEDED
    result = job.result
    assert (result.before, result.after, result.spec.seed, result.spec.custom_id) == (0.5, 2.0, 5, "mine")
    assert [(step.step, step.value, step.distance) for step in result.trajectory] == [(1, 1.0, 0.25)]
    assert (pixel(result.image), pixel(result.overlay)) == ((0, 90, 200), (1, 90, 200))
    assert (result.opacity.mode, pixel(result.opacity)) == ("L", 100)
    assert [pixel(frame) for frame in result.frames] == [(0, 0, 0), (0, 0, 40), (0, 0, 80)]
    assert result.image is result.image
    folder = result.save(tmp_path / "out")
    assert {name: (folder / name).read_bytes() for name in artefacts(0)} == artefacts(0)
    assert json.loads((folder / "result.json").read_text())["after"] == 2.0


def test_waiting_at_the_service(service: Service, client: Client) -> None:
    Worker(service, 0).start()
    job = client.jobs.create(model="toy", feature=Channel(layer="conv1", unit=1), image=picture(), wait=10)
    assert job.state is JobState.SUCCEEDED


def test_waiting_in_vain_and_canceling(client: Client) -> None:
    job = client.jobs.create(model="toy", feature="logit:0", image=picture(), recipe="fast")
    assert job.status.spec.recipe == PRESETS["fast"]
    with pytest.raises(IllegalTransitionError, match="wait"):
        _ = job.result
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=r"within 0\.3 s"):
        job.wait(timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 2.0
    assert job.cancel().state is JobState.CANCELED
    assert job.wait(timeout=0.0) is job
    with pytest.raises(CanceledError):
        _ = job.result
    assert client.jobs.get(job.id).state is JobState.CANCELED


def test_a_failed_job_raises_its_own_error(service: Service, client: Client) -> None:
    Worker(service, 0, failing=frozenset({0})).start()
    job = client.jobs.create(model="toy", feature="logit:0", image=picture()).wait(10)
    assert job.status.failure == Failure(code="not-finite", detail="NaN at step 3")
    with pytest.raises(NotFiniteError, match="NaN at step 3"):
        _ = job.result


def test_the_events_of_a_job(service: Service, client: Client) -> None:
    job = client.jobs.create(model="toy", feature="logit:0", image=picture())
    states = []
    for status in job.events():
        states.append(status.state)
        if status.state is JobState.QUEUED:
            service.begin(status.batch, 0, Progress(step=2, steps=9))
        elif status.progress is not None:
            assert (status.progress.step, status.progress.steps) == (2, 9)
            service.run(status.batch, 0)
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert job.state is JobState.SUCCEEDED
    assert job.result.after == 2.0


def test_links_that_expired_are_renewed(service: Service, client: Client) -> None:
    Worker(service, 0).start()
    result = client.jobs.create(model="toy", feature="logit:0", image=picture()).wait(10).result
    urls = {name: url.replace("expires=", "expires=1") for name, url in result.job.urls.items()}
    result.job = result.job.model_copy(update={"urls": urls})
    assert pixel(result.overlay) == (1, 90, 200)


def test_models(client: Client) -> None:
    assert [model.name for model in client.models.list()] == ["toy"]
    assert client.models.get("toy") == CARD
    assert client.models.layers("toy") == list(CARD.layers)
    assert client.models.recipes() == dict(PRESETS)


def test_errors_are_rebuilt(client: Client) -> None:
    ref = client.images.upload(picture())
    with pytest.raises(UnknownLayerError, match=r"layer1\.0\.conv2") as caught:
        client.jobs.create(model="toy", feature="channel:layer1.conv2:0", image=ref)
    assert caught.value.extra["nearest"][0] == "layer1.0.conv2"
    assert caught.value.extra["errors"][0]["pointer"] == "/feature"
    with pytest.raises(UnitOutOfRangeError):
        client.batches.create(model="toy", features=["logit:7"], images=[ref])
    with pytest.raises(UnknownModelError):
        client.jobs.create(model="nope", feature="logit:0", image=ref)
    with pytest.raises(InvalidRequestError, match="upload"):
        client.jobs.create(model="toy", feature="logit:0", image="0" * 64)
    for ask in (client.jobs.get, client.batches.get, client.models.get):
        with pytest.raises(NotFoundError):
            ask("../no such/thing?x#y")


def test_what_can_be_seen_here_is_not_sent(service: Service, client: Client) -> None:
    ref = client.images.upload(picture())
    with pytest.raises(InvalidFeatureError):
        client.jobs.create(model="toy", feature="texture:1", image=ref)
    with pytest.raises(InvalidRecipeError):
        client.jobs.create(model="toy", feature="logit:0", image=ref, recipe="baroque")
    with pytest.raises(InvalidRequestError, match="seed"):
        client.jobs.create(model="toy", feature="logit:0", image=ref, seed=-1)
    with pytest.raises(InvalidRequestError, match="features and images"):
        client.batches.create(model="toy", images=[ref])
    with pytest.raises(InvalidRequestError, match="^expected either layer or dictionary$"):
        client.datasets.scan("birds", model="toy")
    assert service.jobs.recent(1) == []
