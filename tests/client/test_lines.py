"""Batches of JSON Lines, submitted by both clients to a running service."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.api.service import Service, digest, picture
from tests.client.test_client import sent

from accentor.errors import InvalidImageError, InvalidRequestError, RequestError
from accentor.spec import PRESETS, Channel, JobState, Recipe
from accentor_client import AsyncClient, Client
from accentor_client._lines import CHUNK_LINES, JobLines, Packer


@pytest.fixture
def image(client: Client) -> str:
    return client.images.upload(picture()).id


def line(number: int, image: str, **more: Any) -> dict[str, Any]:
    return {"custom_id": f"n{number}", "feature": f"logit:{number % 4}", "image": image, "seed": number} | more


def text(*lines: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def sent_bytes(source: Any, **options: Any) -> bytes:
    """Return the bytes of a source whose images are all there, as they would be sent, unpacked."""
    packer, lines = Packer(), JobLines(source, options)  # type: ignore[arg-type]
    packed = b"".join(packer.add(chunk.rendered([], {})) for chunk in lines.chunks()) + packer.end()
    return gzip.decompress(packed)


def test_lines_from_anywhere(service: Service, client: Client, image: str, tmp_path: Path) -> None:
    jobs = [line(number, image) for number in range(600)]
    plain, packed = tmp_path / "jobs.jsonl", tmp_path / "jobs.jsonl.gz"
    plain.write_bytes(text(*jobs))
    packed.write_bytes(gzip.compress(text(*jobs)))
    sources = [plain, str(packed), io.BytesIO(text(*jobs)), io.StringIO(text(*jobs).decode()), jobs, iter(jobs)]
    for source in sources:
        batch = client.batches.submit_lines(source, model="toy")  # type: ignore[arg-type]
        assert (batch.status.total, batch.counts.queued, batch.status.skipped) == (600, 600, 0)
        last = next(iter(client.jobs.get(f"{batch.id}-{number}").status.spec for number in (599,)))
        assert (last.custom_id, str(last.feature), last.image, last.seed) == ("n599", "logit:3", image, 599)


def test_lines_that_need_nothing_are_sent_as_they_are(image: str) -> None:
    data = b'{"image": "' + image.encode() + b'",  "feature":"logit:1"}\n\nno json\n{"feature": 5}'
    assert sent_bytes(io.BytesIO(data)) == data + b"\n"


def test_the_same_lines_are_the_same_bytes() -> None:
    lines = [line(number, "a" * 64) for number in range(CHUNK_LINES + 1)]
    assert sent_bytes(lines) == text(*lines)
    packers = Packer(), Packer()
    assert packers[0].add(b"x" * 999) + packers[0].end() == packers[1].add(b"x" * 999) + packers[1].end()


def test_objects_in_lines(service: Service, client: Client) -> None:
    opened = Image.new("RGB", (24, 16), (9, 9, 9))
    jobs = [
        {"feature": Channel(layer="conv1", unit=3), "image": picture(1), "recipe": Recipe(steps=9)},
        {"feature": "logit:0", "image": opened},
        {"feature": "logit:1", "image": client.images.upload(picture(2))},
        {"feature": "logit:2", "image": picture(1), "recipe": "fast"},
    ]
    batch = client.batches.submit_lines(jobs, model="toy")
    specs = [job.status.spec for job in batch.jobs()]
    assert [str(spec.feature) for spec in specs] == ["channel:conv1:3", "logit:0", "logit:1", "logit:2"]
    assert [spec.image for spec in specs[::2]] == [digest(picture(1)), digest(picture(2))]
    assert specs[3].image == digest(picture(1))
    assert specs[1].image == client.images.upload(opened).id
    assert [spec.recipe for spec in specs] == [
        Recipe(steps=9),
        PRESETS["natural"],
        PRESETS["natural"],
        PRESETS["fast"],
    ]


def test_images_that_are_files_are_uploaded_once(service: Service, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for shade in range(3):
        (folder / f"{shade}.png").write_bytes(picture(shade))
    client.images.upload(picture(2))
    ready = client.images.upload(picture(7)).id
    images = ["pictures/0.png", ready, "pictures/1.png", "pictures/0.png", "pictures/2.png"]
    jobs = [line(number, images[number % 5]) for number in range(3 * CHUNK_LINES)]
    (tmp_path / "jobs.jsonl").write_bytes(text(*jobs))
    before, asked = sent(service, "PUT"), sent(service, "HEAD")
    batch = client.batches.submit_lines(tmp_path / "jobs.jsonl", model="toy")
    assert (sent(service, "PUT") - before, sent(service, "HEAD") - asked) == (2, 3)
    wanted = [digest(picture(shade)) for shade in (0, 7, 1, 0, 2)]
    found = [job.status.spec.image for job in batch.jobs()]
    assert found == [wanted[number % 5] for number in range(3 * CHUNK_LINES)]


def test_a_file_that_is_not_there_is_told_with_its_line(
    service: Service, client: Client, image: str, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(text(line(0, image), line(1, "nowhere.png")))
    with pytest.raises(InvalidImageError, match=r"line 2: .*nowhere\.png"):
        client.batches.submit_lines(path, model="toy")
    assert service.jobs.recent(5) == []
    batch = client.batches.submit_lines(path, model="toy", on_invalid="skip")
    assert (batch.status.total, batch.status.skipped) == (1, 1)


def test_wrong_lines_are_told(service: Service, client: Client, image: str) -> None:
    lines = [line(0, image), line(1, image, feature="logit:9"), line(0, image), line(3, image, colour="red")]
    with pytest.raises(RequestError) as caught:
        client.batches.submit_lines(lines, model="toy")
    faults = [(fault["line"], fault["pointer"], fault["code"]) for fault in caught.value.extra["errors"]]
    assert faults == [
        (2, "/feature", "unit-out-of-range"),
        (3, "/custom_id", "duplicate-custom-id"),
        (4, "/colour", "invalid-request"),
    ]
    assert service.jobs.recent(5) == []
    estimate = client.batches.estimate_lines(lines, model="toy")
    assert (estimate.accepted, estimate.invalid_lines, len(estimate.refused)) == (False, 3, 3)
    assert service.jobs.recent(5) == []


def test_settings_of_all_lines(client: Client, image: str, tmp_path: Path) -> None:
    own = {
        "batch": {
            "model": "nowhere",
            "recipe": "paper",
            "metadata": {"study": "file"},
            "seed": 5,
            "lane": "interactive",
        }
    }
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(text(own, {"feature": "logit:0", "image": image}))
    batch = client.batches.submit_lines(path, model="toy", recipe=Recipe(steps=7), deadline_s=600)
    spec = client.jobs.get(f"{batch.id}-0").status.spec
    assert (spec.model, spec.seed, spec.recipe.steps, spec.metadata) == ("toy", 5, 7, {"study": "file"})
    assert (batch.status.lane, batch.status.deadline_at is None) == ("interactive", False)
    batch = client.batches.submit_lines([{"feature": "logit:0", "image": image}], model="toy", metadata={"a": "b"})
    assert batch.status.metadata == {"a": "b"}


def test_settings_that_the_address_takes_leave_the_lines_their_numbers() -> None:
    lines = JobLines([], {"model": "toy", "recipe": "fast", "seed": 3, "lane": "bulk", "on_invalid": "skip"})
    assert lines.params == {"model": "toy", "recipe": "fast", "seed": 3, "lane": "bulk", "on_invalid": "skip"}
    assert list(lines.chunks()) == []
    assert sent_bytes([{"feature": "logit:0"}], force=True).splitlines()[0] == b'{"batch": {"force": true}}'


def test_what_can_be_sent_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}")
    assert [JobLines(source, {}).repeatable for source in (tmp_path / "a.jsonl", [{}], io.BytesIO(b"{}"))] == [True] * 3
    assert not JobLines(iter([{}]), {}).repeatable
    opened = io.BytesIO(b"skipped\n{}\n")
    opened.readline()
    lines = JobLines(opened, {})
    assert [b"".join(chunk.rendered([], {}) for chunk in lines.chunks()) for _ in range(2)] == [b"{}\n"] * 2


def test_files_that_cannot_be_read(service: Service, client: Client, tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(zlib.compress(bytes(range(256))) * 300)[:-20])
    for name in ("cut.jsonl.gz", "nowhere.jsonl"):
        with pytest.raises(InvalidRequestError, match=name):
            client.batches.submit_lines(tmp_path / name, model="toy")
    assert service.jobs.recent(5) == []


def test_lines_are_read_while_they_are_sent(client: Client, image: str) -> None:
    """Were all lines read before the first is sent, as many would have been read when the first image is uploaded."""
    read = 0

    def lines() -> Iterator[dict[str, Any]]:
        nonlocal read
        for number in range(4 * CHUNK_LINES):
            read += 1
            yield line(number, image)

    given, seen = JobLines(lines(), {"model": "toy"}), []
    for _ in given.chunks():
        seen.append(read)
    assert seen == [CHUNK_LINES * chunk for chunk in range(1, 5)]


def test_lines_submitted_without_blocking(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(4))
    (tmp_path / "jobs.jsonl").write_bytes(text(*[line(number, "a.png") for number in range(CHUNK_LINES + 2)]))

    async def work() -> None:
        async with AsyncClient(service.url) as client:
            estimate = await client.batches.estimate_lines(tmp_path / "jobs.jsonl", model="toy")
            assert (estimate.total, estimate.cached, estimate.images) == (CHUNK_LINES + 2, 0, 1)
            batch = await client.batches.submit_lines(tmp_path / "jobs.jsonl", model="toy")
            images = {job.status.spec.image async for job in batch.jobs(JobState.QUEUED)}
            assert (batch.status.total, images) == (CHUNK_LINES + 2, {digest(picture(4))})

    asyncio.run(work())
