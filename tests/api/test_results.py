"""Results of a batch: in which order, which of them, and as what kind of file."""

import io
import json
import struct
import tarfile
import zipfile
from typing import Any

import httpx
import pyarrow.parquet
import pytest
from PIL import Image
from tests.api.service import CARD, Service, artefacts, picture

from accentor.spec import Failure, JobState, Recipe
from accentor_api import bundles, parquet, selection


@pytest.fixture
def batch(service: Service) -> str:
    """Return a batch of six jobs: 4, 0, 5 and 1 have succeeded in this order, 2 has failed after 0, 3 is queued."""
    images = [service.upload(picture(shade)) for shade in range(2)]
    name = str(
        service.submit(
            features=["logit:0", "logit:stripes", "-channel:conv1:3"], images=images, custom_id="{feature}@{image:.6}"
        )["id"]
    )
    service.run(name, 4, 0)
    service.fail(name, 2, Failure(code="not-finite", detail="NaN"))
    service.run(name, 5, 1)
    return name


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in answer.text.splitlines()]


def listed(service: Service, batch: str, **params: Any) -> list[tuple[int, int | None]]:
    jobs = lines(service.http.get(f"/v1/batches/{batch}/results", params=params))
    return [(job["index"], job["position"]) for job in jobs]


def test_the_order_of_submission_and_of_completion(service: Service, batch: str) -> None:
    assert listed(service, batch) == [(0, None), (1, None), (4, None), (5, None)]
    assert listed(service, batch, cursor=1) == [(1, None), (4, None), (5, None)]
    assert listed(service, batch, order="completion") == [(4, 0), (0, 1), (5, 3), (1, 4)]
    assert listed(service, batch, order="completion", cursor=2) == [(5, 3), (1, 4)]
    assert listed(service, batch, order="completion", cursor=5) == []
    service.run(batch, 3)
    assert listed(service, batch, order="completion", cursor=5) == [(3, 5)]


def test_the_order_of_completion_is_read_in_pieces(
    service: Service, batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "WINDOW", 2)
    assert listed(service, batch, order="completion", status=["succeeded", "failed"]) == [
        (4, 0), (0, 1), (2, 2), (5, 3), (1, 4),
    ]  # fmt: skip


def test_a_retried_job_is_told_once(service: Service, batch: str) -> None:
    service.run(batch, 3)
    service.http.post(f"/v1/batches/{batch}/retry")
    service.run(batch, 2)
    assert [index for index, _ in listed(service, batch, order="completion")] == [4, 0, 2, 5, 1, 3]
    assert listed(service, batch, order="completion", cursor=6) == [(2, 6)]


def test_filters(service: Service, batch: str) -> None:
    assert listed(service, batch, status="failed") == [(2, None)]
    assert listed(service, batch, status=["failed", "queued"]) == [(2, None), (3, None)]
    assert listed(service, batch, feature="logit:0") == [(0, None), (1, None)]
    assert listed(service, batch, feature="logit:2", status=["failed", "queued"]) == [(2, None), (3, None)]
    assert listed(service, batch, feature="logit:STRIPES", status="failed", order="completion") == [(2, 2)]
    assert listed(service, batch, feature="-channel:conv1:3") == [(4, None), (5, None)]
    name = service.specs(batch)[5].custom_id
    assert listed(service, batch, custom_id=name) == [(5, None)]
    assert listed(service, batch, custom_id="nobody") == []


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"feature": "texture:1"}, "invalid-feature"),
        ({"order": "random"}, "invalid-request"),
        ({"format": "csv"}, "invalid-request"),
        ({"status": "done"}, "invalid-request"),
        ({"cursor": "-1"}, "invalid-request"),
    ],
)
def test_wrong_parameters(service: Service, batch: str, params: dict[str, str], code: str) -> None:
    answer = service.http.get(f"/v1/batches/{batch}/results", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_table(service: Service, batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    params = {"format": "parquet", "order": "completion", "status": ["succeeded", "failed"]}
    answer = service.http.get(f"/v1/batches/{batch}/results", params=params)
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert f'filename="{batch}.parquet"' in answer.headers["content-disposition"]
    file = pyarrow.parquet.ParquetFile(io.BytesIO(answer.content))
    assert file.num_row_groups == 3
    rows = file.read().to_pylist()
    assert [(row["index"], row["after"], row["state"], row["position"]) for row in rows] == [
        (4, 6.0, "succeeded", 0), (0, 2.0, "succeeded", 1), (2, None, "failed", 2),
        (5, 7.0, "succeeded", 3), (1, 3.0, "succeeded", 4),
    ]  # fmt: skip
    spec = service.specs(batch)[4]
    assert (rows[0]["feature"], rows[0]["image"], rows[0]["key"]) == (str(spec.feature), spec.image, spec.key(CARD))
    assert rows[0]["custom_id"] == spec.custom_id
    assert Recipe.model_validate_json(rows[0]["recipe"]) == spec.recipe
    assert (rows[2]["failure_code"], rows[2]["urls"]) == ("not-finite", [])
    link = dict(rows[0]["urls"])["accentuated.png"]
    assert service.http.get(link).content == artefacts(4)["accentuated.png"]


def test_a_table_without_rows(service: Service, batch: str) -> None:
    answer = service.http.get(f"/v1/batches/{batch}/results", params={"format": "parquet", "status": "canceled"})
    assert pyarrow.parquet.read_table(io.BytesIO(answer.content)).num_rows == 0


def files_of(index: int, service: Service, batch: str) -> dict[str, bytes]:
    return {f"{index:07d}/{name}": data for name, data in artefacts(index).items()}


def test_a_zip(service: Service, batch: str) -> None:
    answer = service.http.get(f"/v1/batches/{batch}/archive")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert sorted({name.partition("/")[0] for name in names}) == ["0000000", "0000001", "0000004", "0000005"]
        for name, data in files_of(4, service, batch).items():
            assert archive.read(name) == data
        job = json.loads(archive.read("0000004/job.json"))
        assert (job["index"], job["spec"]["custom_id"]) == (4, service.specs(batch)[4].custom_id)
        assert json.loads(archive.read("0000004/result.json"))["after"] == 6.0
        with Image.open(io.BytesIO(archive.read("0000005/opacity.png"))) as opacity:
            assert opacity.getpixel((0, 0)) == 105


def test_a_tar_of_one_feature(service: Service, batch: str) -> None:
    params = {"format": "tar", "feature": "-channel:conv1:3"}
    answer = service.http.get(f"/v1/batches/{batch}/archive", params=params)
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        assert {name.partition("/")[0] for name in found} == {"0000004", "0000005"}
        for name, data in files_of(5, service, batch).items():
            file = found[name]
            assert file is not None
            assert file.read() == data


def test_a_result_that_is_gone_leaves_the_archive_whole(service: Service, batch: str) -> None:
    for key in list(service.objects.keys("results/")):
        if key.endswith("frames.webp") or service.specs(batch)[0].key(CARD) in key:
            service.objects.delete(key)
    answer = service.http.get(f"/v1/batches/{batch}/archive", params={"format": "tar"})
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        names = archive.getnames()
    assert not [name for name in names if name.endswith("frames.webp")]
    assert [name for name in names if name.startswith("0000000/")] == ["0000000/job.json"]


def test_a_zip_of_too_many(service: Service, batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_ZIP_JOBS", 3)
    answer = service.http.get(f"/v1/batches/{batch}/archive")
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert (answer.json()["results"], answer.json()["limit"]) == (4, 3)
    assert service.http.get(f"/v1/batches/{batch}/archive?format=tar").status_code == 200


def test_answers_are_packed_and_pictures_are_not(service: Service, batch: str) -> None:
    asked = {"Accept-Encoding": "gzip"}
    assert service.http.get(f"/v1/batches/{batch}/results", headers=asked).headers["content-encoding"] == "gzip"
    assert service.http.get(f"/v1/batches/{batch}/archive", headers=asked).headers["content-encoding"] == "identity"
    link = lines(service.http.get(f"/v1/batches/{batch}/results"))[0]["urls"]["overlay.png"]
    assert "content-encoding" not in service.http.get(link, headers=asked).headers


def test_the_order_is_kept_in_four_bytes_a_job(service: Service, batch: str) -> None:
    packed = service.redis.get(f"accentor:batch:{batch}:order")
    assert packed == struct.pack("<5I", 4, 0, 2, 5, 1)
    assert service.jobs.find_jobs(batch, {JobState.QUEUED}) == [3]
