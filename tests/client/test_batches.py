"""The client's batches against a running service."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.api.service import Service, artefacts, digest, picture
from tests.client.worker import Worker, pixel
from tests.servers import wait_until

from accentor.errors import IllegalTransitionError, NotFiniteError, NotFoundError, ServiceError, WaitTimeoutError
from accentor.settings import Settings
from accentor.spec import PRESETS, Failure, LayerFeatures, Recipe
from accentor.state import AccessStore, Scope, make_key
from accentor.storage.keys import result_key
from accentor_client import Client
from accentor_client._calls import Look


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
    assert [job.status.index for job in batch.errors()] == [1]
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


def asked(service: Service) -> float:
    text = service.http.get("/metrics").text
    found = [line for line in text.splitlines() if 'route="/v1/objects' in line and "requests_total" in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


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


def changed(folder: Path) -> dict[str, int]:
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in folder.glob("0*/*")}


def test_download_fetches_only_what_is_missing(service: Service, client: Client, tmp_path: Path) -> None:
    batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
    service.run(batch.id, 0, 1)
    folder = batch.download(tmp_path, timeout=20)
    kept, cut = folder / "000000-logit-0", folder / "000001-logit-1"
    before = changed(folder)
    assert len(before) == 12
    (kept / "overlay.png").write_bytes(artefacts(0)["overlay.png"][:-1])
    (cut / "result.json").unlink()
    sent = asked(service)
    batch.download(folder, timeout=20)
    assert asked(service) - sent == 1 + 4
    for index, place in enumerate((kept, cut)):
        assert {name: (place / name).read_bytes() for name in artefacts(index)} == artefacts(index)
    assert changed(folder)["000000-logit-0/opacity.png"] == before["000000-logit-0/opacity.png"]
    sent = asked(service)
    batch.download(folder, timeout=20)
    assert asked(service) == sent
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=cut, check=True, capture_output=True, text=True)
    assert sums.stdout.count("OK") == 4


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


def test_results_in_the_order_of_submission(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features=LayerFeatures(layer="conv1"), images=[picture()])
    service.run(batch.id, 6, 2, 0)
    told = []
    for result in batch.results(timeout=20, order="submission"):
        told.append(result.index)
        if told == [0]:
            service.run(batch.id, 3, 1)
        if told == [0, 1, 2, 3]:
            service.run(batch.id, 7, 5, 4)
    assert told == list(range(8))


def test_results_of_other_ends(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features=LayerFeatures(layer="conv1"), images=[picture()])
    service.run(batch.id, 4)
    service.fail(batch.id, 2, Failure(code="not-finite", detail="NaN at step 3"))
    service.run(batch.id, 1)
    batch.cancel()
    ends = ("succeeded", "failed", "canceled")
    told = [(result.index, str(result.state)) for result in batch.results(timeout=10, status=ends)]
    assert told[:3] == [(4, "succeeded"), (2, "failed"), (1, "succeeded")]
    assert told[3:] == [(index, "canceled") for index in (0, 3, 5, 6, 7)]
    in_order = [(result.index, str(result.state)) for result in batch.results(order="submission", status=ends)]
    assert in_order == sorted(told)
    (failed,) = batch.results(status="failed")
    assert isinstance(failed.error, NotFiniteError)
    with pytest.raises(NotFiniteError, match="NaN at step 3"):
        _ = failed.before
    assert [result.index for result in batch.results()] == [4, 1]
    assert [result.error for result in batch.results()] == [None, None]


def test_results_longer_than_one_excerpt(service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accentor_client._following.EXCERPT", 3)
    monkeypatch.setattr("accentor_client._following.PAGE", 3)
    batch = client.batches.create(model="toy", features=LayerFeatures(layer="conv1"), images=[picture()])
    order = [7, 6, 5, 4, 3, 2, 1, 0]
    service.run(batch.id, *order)
    assert [result.index for result in batch.results(timeout=10)] == order
    assert [result.index for result in batch.results(timeout=10, order="submission")] == order[::-1]
    assert [job.status.index for job in batch.jobs()] == order[::-1]


def test_a_job_that_ends_twice_is_told_once(service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
    service.fail(batch.id, 0, Failure(code="not-finite", detail="NaN"))
    service.run(batch.id, 1)
    assert [job.status.index for job in batch.refresh().errors()] == [0]
    assert str(batch.retry().state) == "running"
    told = []
    for result in batch.results(timeout=20):
        told.append(result.index)
        if len(told) == 1:
            service.run(batch.id, 0)
    assert sorted(told) == [0, 1]
    assert [result.index for result in batch.results()] == [0, 1]
    monkeypatch.setattr("accentor_client._following.EXCERPT", 1)
    assert [result.index for result in batch.results()] == [0, 1]
    with pytest.raises(IllegalTransitionError):
        batch.retry()


def test_a_deleted_batch_is_gone(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features=["logit:0"], images=[picture()])
    with pytest.raises(IllegalTransitionError):
        batch.delete()
    service.run(batch.id, 0)
    batch.wait(5).delete()
    with pytest.raises(NotFoundError):
        batch.refresh()
    again = client.batches.create(model="toy", features=["logit:0"], images=[picture()])
    assert again.counts.cached == 1
    again.delete(results=True)
    wait_until(lambda: not list(service.objects.keys("results/")), what="the results to go")


def test_everything_that_a_product_takes(service: Service, client: Client) -> None:
    options: Any = {
        "model": "toy",
        "features": {"layer": "conv1", "range": "1:7", "stride": 2},
        "images": [picture(1), picture(2)],
        "seeds": 2,
        "recipe": {"steps": 8, "strengths": [0.0, 0.5, 1.0]},
        "custom_id": "{feature}-{image:.8}-{seed}",
        "lane": "interactive",
        "metadata": {"study": "dogs"},
        "deadline_s": 600,
        "force": True,
    }
    batch = client.batches.create(**options)
    specs = [job.status.spec for job in batch.jobs()]
    assert [str(spec.feature) for spec in specs[::4]] == ["channel:conv1:1", "channel:conv1:3", "channel:conv1:5"]
    assert [spec.seed for spec in specs[:4]] == [0, 1, 0, 1]
    assert specs[0].custom_id == f"channel:conv1:1-{digest(picture(1))[:8]}-0"
    assert specs[0].recipe.strengths == (0.0, 0.5, 1.0)
    assert (batch.status.total, batch.status.lane, batch.status.metadata) == (12, "interactive", {"study": "dogs"})
    assert batch.status.deadline_at is not None
    service.run(batch.id, 0)
    assert client.batches.estimate(**options).cached == 1
    job: Any = {"model": "toy", "feature": "channel:conv1:1", "image": picture(1), "recipe": options["recipe"]}
    assert client.jobs.create(**job).state == "succeeded"
    assert client.jobs.create(force=True, **job).state == "queued"


def test_a_dry_run_says_what_would_be_refused(service: Service, client: Client) -> None:
    service.jobs.shards.note_speed("bulk", "toy", 6.0, work=600)
    found = client.batches.estimate(model="toy", features=["logit:0"], images=[picture()], recipe="fast")
    assert (found.accepted, found.exact, found.refused) == (True, True, [])
    recipe = PRESETS["fast"]
    assert found.device_seconds == pytest.approx(0.01 * recipe.steps * recipe.crops)
    found = client.batches.estimate(model="toy", features=["logit:0", "logit:9"], images=[picture()])
    assert (found.accepted, found.refused[0]["pointer"]) == (False, "/features/1")


def test_waiting_outlives_a_service_that_is_away(client: Client, service: Service, monkeypatch: Any) -> None:
    batch = client.batches.create(model="toy", features=["logit:0"], images=[picture()])
    send, away = client._transport.send, [True, True, False, True, True, False]

    def flaky(call: Any) -> Any:
        if away and away.pop(0):
            raise ServiceError("restarting")
        if not away:
            service.run(batch.id, 0)
        return send(call)

    monkeypatch.setattr(client._transport, "send", flaky)
    assert batch.wait(10).counts.succeeded == 1
    away[:] = [True] * 99
    with pytest.raises(ServiceError, match="restarting"):
        list(batch.results(timeout=10))
    assert len(away) == 99 - 4


def test_results_that_were_deleted_are_not_told(service: Service, client: Client, tmp_path: Path) -> None:
    batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
    service.run(batch.id, 0, 1)
    service.objects.delete(result_key(next(batch.jobs()).status.key))
    assert [result.index for result in batch.results()] == [1]
    with pytest.raises(IllegalTransitionError, match="were deleted"):
        _ = next(batch.jobs()).result
    assert [path.name for path in batch.download(tmp_path).glob("0*")] == ["000001-logit-1"]


def test_another_results_folder_is_written_anew(service: Service, client: Client, tmp_path: Path) -> None:
    batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
    service.run(batch.id, 0, 1)
    first, second = (job.result for job in batch.jobs())
    first.save(tmp_path)
    assert first.is_saved_in(tmp_path)
    assert not second.is_saved_in(tmp_path)
    second.save(tmp_path)
    assert second.is_saved_in(tmp_path)
    assert (tmp_path / "accentuated.png").read_bytes() == artefacts(1)["accentuated.png"]


def test_polling_is_told_what_is_new(service: Service, client: Client) -> None:
    batch = client.batches.create(model="toy", features=["logit:0", "logit:1"], images=[picture()])
    send, looks = client._transport.send, []

    def watched(call: Any) -> Any:
        answer = send(call)
        if isinstance(answer, Look):
            looks.append(answer)
            if len(looks) == 3:
                service.run(batch.id, 0, 1)
        return answer

    client._transport.send = watched  # type: ignore[method-assign]
    batch.wait(10)
    assert [look.status is None for look in looks] == [False, True, True, False]
    assert [look.retry_after for look in looks] == [1.0, 1.0, 1.0, 0.0]
