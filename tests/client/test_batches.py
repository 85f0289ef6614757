"""The client's batches against a running service."""

import json
from pathlib import Path

import pytest
from tests.api.service import Service, artefacts, picture
from tests.client.worker import Worker, pixel

from accentor.errors import WaitTimeoutError
from accentor.settings import Settings
from accentor.spec import LayerFeatures, Recipe
from accentor.state import AccessStore, Scope, make_key
from accentor_client import Client


def test_results_come_as_jobs_end_and_each_once(service: Service, client: Client) -> None:
    worker = Worker(service, 3, 1, 0, 2, 5, failing=frozenset({1}))
    batch = client.batches.create(
        model="toy", features=["logit:0", "logit:1", "logit:2"], images=[picture(1), picture(2)], recipe=Recipe(steps=9)
    )
    worker.start()
    seen = []
    for result in batch.results(timeout=20, progress=True):
        seen.append(result.index)
        assert result.after == 2.0 + result.index
        assert result.spec.recipe.steps == 9
        if len(seen) == 4:
            service.run(batch.id, 4)
    assert sorted(seen) == [0, 2, 3, 4, 5]
    assert seen[-1] == 4
    assert (batch.state, batch.counts.failed) == ("partially_failed", 1)
    assert [job.status.index for job in batch.failures()] == [1]
    assert [job.status.index for job in batch.jobs()] == [0, 1, 2, 3, 4, 5]


def test_results_that_take_too_long(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features="logit:0", images=picture())
    assert batch.status.total == 1
    with pytest.raises(WaitTimeoutError):
        list(batch.results(timeout=0.3))
    with pytest.raises(WaitTimeoutError):
        batch.wait(timeout=0.3, progress=True)
    service.run(batch.id, 0)
    assert batch.wait(timeout=5).state == "succeeded"
    assert [result.index for result in batch.results(timeout=5)] == [0]


def test_a_canceled_batch_keeps_what_is_done(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features=LayerFeatures(layer="conv1"), images=[picture()])
    service.run(batch.id, 5)
    assert batch.cancel().state == "canceled"
    assert [result.index for result in batch.results(timeout=5)] == [5]
    assert batch.counts.canceled == 7


def test_download_goes_on_where_it_stopped(service: Service, client: Client, tmp_path: Path) -> None:
    jobs = [
        {"feature": "logit:0", "image": picture(1), "custom_id": "../../evil"},
        {"feature": "channel:conv1:3", "image": picture(1)},
        {"feature": "logit:2", "image": picture(2)},
    ]
    batch = client.batches.create(model="toy", jobs=jobs)  # type: ignore[typeddict-item]
    Worker(service, 0, 1, 2, failing=frozenset({2})).start()
    folder = batch.download(tmp_path / "out", timeout=20)
    assert sorted(path.name for path in folder.iterdir()) == ["000000-evil", "000001-channel-conv1-3", "manifest.jsonl"]
    assert (folder / "000001-channel-conv1-3" / "accentuated.png").read_bytes() == artefacts(1)["accentuated.png"]
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [(line["index"], line["state"], line.get("folder")) for line in lines] == [
        (0, "succeeded", "000000-evil"),
        (1, "succeeded", "000001-channel-conv1-3"),
        (2, "failed", None),
    ]
    assert lines[2]["failure"]["code"] == "not-finite"
    kept, cut = folder / "000000-evil", folder / "000001-channel-conv1-3"
    (kept / "overlay.png").write_bytes(b"mine")
    (cut / "result.json").unlink()
    (cut / "overlay.png").unlink()
    batch.download(folder, timeout=20)
    assert (kept / "overlay.png").read_bytes() == b"mine"
    assert (cut / "overlay.png").read_bytes() == artefacts(1)["overlay.png"]


def test_pictures_come_from_s3_without_the_key(s3_settings: Settings, tmp_path: Path) -> None:
    service = Service(s3_settings)
    service.start()
    service.announce()
    try:
        key, token = make_key("tests", [Scope.READ, Scope.SUBMIT])
        AccessStore(service.redis).add(key)
        with Client(service.url, api_key=token) as client:
            batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
            service.run(batch.id, 0, 1)
            assert [pixel(result.overlay) for result in batch.results(timeout=10)] == [(1, 90, 200), (2, 90, 200)]
            folder = batch.download(tmp_path / "out")
        assert (folder / "000001-logit-1" / "frames.webp").read_bytes() == artefacts(1)["frames.webp"]
    finally:
        service.stop()


def test_batches_are_listed_and_found(client: Client) -> None:
    ids = [client.batches.create(model="toy", features=["logit:0"], images=[picture()]).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list()] == ids[::-1]
    assert client.batches.get(ids[0]).status.total == 1


def test_an_estimate(service: Service, client: Client) -> None:
    estimate = client.batches.estimate(model="toy", features=["logit:0"], images=[picture(1), picture(2)], seeds=3)
    assert (estimate.total, estimate.checked, estimate.cached, estimate.images) == (6, 6, 0, 2)
    assert service.jobs.recent(1) == []


def test_the_events_of_a_batch(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
    Worker(service, 0, 1).start()
    seen = [status.counts.succeeded for status in batch.events()]
    assert (seen[0], seen[-1], batch.state) == (0, 2, "succeeded")
