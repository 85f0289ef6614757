"""Uploads of JSON Lines: what is accepted, what is refused and where, and that half an upload leaves nothing."""

import gzip
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from tests.api.service import CARD, Service, picture

from accentor.spec import PRESETS, JobSpec, Recipe
from accentor.spec.batches import BLOCK_JOBS
from accentor.state.keys import UPLOADS
from accentor.storage.batches import jobs_of, read_batch
from accentor_api import blocks
from accentor_api.uploads import MAX_FAULTS

ABSENT = "a" * 64
JSONL = {"Content-Type": "application/jsonl"}


def jsonl(*lines: Any) -> bytes:
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()


def post(
    service: Service, body: "bytes | Iterable[bytes]", query: str = "?model=toy", **headers: str
) -> httpx.Response:
    return service.http.post(f"/v1/batches{query}", content=body, headers={**JSONL, **headers})


def refused(answer: httpx.Response) -> list[tuple[int, str, str]]:
    assert answer.status_code == 422, answer.text
    return [(fault["line"], fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]


def specs(service: Service, batch_id: str) -> list[JobSpec]:
    return list(jobs_of(service.objects, batch_id, read_batch(service.objects, batch_id), CARD))


def left(service: Service) -> list[str]:
    return [key for key in service.objects.keys("") if not key.startswith("images/")]


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson", "application/x-ndjson; charset=utf-8"])
def test_lines_become_a_batch(service: Service, image: str, kind: str) -> None:
    other = service.upload(picture(9))
    body = jsonl(
        {"batch": {"model": "toy", "recipe": {"steps": 9}, "seed": 3, "metadata": {"a": "b"}, "lane": "bulk"}},
        {"feature": "logit:0", "image": image, "custom_id": "first"},
        "",
        {"feature": {"kind": "channel", "layer": "conv1", "unit": 2}, "image": other, "seed": 0, "recipe": "fast"},
        {"feature": "logit:stripes", "image": image, "model": "toy", "recipe": None, "seed": None},
    )
    answer = post(service, body, "", **{"Content-Type": kind})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert answer.headers["location"] == f"/v1/batches/{batch['id']}"
    assert (batch["total"], batch["metadata"], batch["skipped"], batch["lane"]) == (3, {"a": "b"}, 0, "bulk")
    first, second, third = specs(service, batch["id"])
    assert first == JobSpec(
        model="toy",
        feature="logit:0",
        image=image,
        seed=3,
        recipe=Recipe(steps=9),
        custom_id="first",
        metadata={"a": "b"},
    )
    assert (str(second.feature), second.image, second.seed, second.recipe.steps) == (
        "channel:conv1:2",
        other,
        0,
        PRESETS["fast"].steps,
    )
    assert (str(third.feature), third.seed, third.recipe.steps) == ("logit:stripes", 3, 9)
    assert service.http.get(f"/v1/jobs/{batch['id']}-0").json()["spec"]["custom_id"] == "first"
    assert service.redis.zcard(UPLOADS) == 0


def test_the_address_counts_above_the_first_line(service: Service, image: str) -> None:
    body = jsonl(
        {"batch": {"model": "elsewhere", "recipe": "paper", "seed": 3}}, {"feature": "logit:0", "image": image}
    )
    batch = post(service, body, "?model=toy&recipe=fast&lane=interactive&seed=5").json()
    (job,) = specs(service, batch["id"])
    assert (batch["lane"], job.model, job.seed, job.recipe.steps) == ("interactive", "toy", 5, PRESETS["fast"].steps)


def test_the_first_job_may_name_the_model(service: Service, image: str) -> None:
    line = {"feature": "logit:0", "image": image}
    assert post(service, jsonl({**line, "model": "toy"}, line), "").json()["total"] == 2
    answer = post(service, jsonl(line), "")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "?model=NAME" in answer.json()["detail"]
    assert post(service, jsonl({**line, "model": "resnet"}), "").json()["code"] == "unknown-model"


def test_jobs_in_several_blocks_come_packed(service: Service, image: str) -> None:
    count = 2 * BLOCK_JOBS + 5
    lines = [{"feature": f"logit:{number % 4}", "image": image, "seed": number} for number in range(count)]
    answer = post(service, gzip.compress(jsonl(*lines)), **{"Content-Encoding": "gzip"})
    assert answer.json()["total"] == count
    batch = answer.json()["id"]
    assert len([key for key in service.objects.keys(f"batches/{batch}/") if "/blocks/" in key]) == 3
    found = specs(service, batch)
    assert [job.seed for job in found] == list(range(count))
    page = service.http.get(f"/v1/batches/{batch}/jobs", params={"cursor": BLOCK_JOBS - 1, "limit": 2}).json()
    assert [job["spec"]["seed"] for job in page["data"]] == [BLOCK_JOBS - 1, BLOCK_JOBS]


def test_the_last_line_needs_no_end(service: Service, image: str) -> None:
    line = json.dumps({"feature": "logit:0", "image": image})
    body = f"\ufeff{line}\r\n\r\n{line}".encode()
    assert post(service, (body[i : i + 7] for i in range(0, len(body), 7))).json()["total"] == 2


WRONG: list[tuple[Any, str, str]] = [
    ('{"feature": "logit:0"', "", "invalid-request"),
    ("nul", "", "invalid-request"),
    ("[]", "", "invalid-request"),
    ({"feature": "logit:9", "image": "IMAGE"}, "/feature", "unit-out-of-range"),
    ({"feature": "chanel:conv1:1", "image": "IMAGE"}, "/feature", "invalid-feature"),
    ({"feature": "channel:conv7:1", "image": "IMAGE"}, "/feature", "unknown-layer"),
    ({"feature": {"kind": "channel", "layer": "conv1", "unit": 99}, "image": "IMAGE"}, "/feature", "unit-out-of-range"),
    ({"feature": {"kind": "channel", "layer": "conv1"}, "image": "IMAGE"}, "/feature", "invalid-request"),
    ({"feature": 7, "image": "IMAGE"}, "/feature", "invalid-request"),
    ({"feature": "logit:0"}, "/image", "invalid-request"),
    ({"feature": "logit:0", "image": "dog.jpg"}, "/image", "invalid-request"),
    ({"feature": "logit:0", "image": ABSENT}, "/image", "invalid-request"),
    ({"feature": "logit:0", "image": "IMAGE", "seed": -1}, "/seed", "invalid-request"),
    ({"feature": "logit:0", "image": "IMAGE", "recipe": "baroque"}, "/recipe", "invalid-recipe"),
    ({"feature": "logit:0", "image": "IMAGE", "recipe": {"steps": 0}}, "/recipe", "invalid-recipe"),
    (
        {"feature": "logit:0", "image": "IMAGE", "recipe": {"regularization_layer": "conv9"}},
        "/recipe",
        "unknown-layer",
    ),
    ({"feature": "logit:0", "image": "IMAGE", "colour": "red"}, "/colour", "invalid-request"),
    ({"feature": "logit:0", "image": "IMAGE", "custom_id": ""}, "/custom_id", "invalid-request"),
    ({"feature": "logit:0", "image": "IMAGE", "custom_id": "taken"}, "/custom_id", "duplicate-custom-id"),
    ({"feature": "logit:0", "image": "IMAGE", "model": "other"}, "/model", "invalid-request"),
    ({"batch": {"model": "toy"}}, "/batch", "invalid-request"),
]


@pytest.mark.parametrize(("wrong", "pointer", "code"), WRONG)
def test_a_wrong_line(service: Service, image: str, wrong: Any, pointer: str, code: str) -> None:
    good = {"feature": "logit:0", "image": image, "custom_id": "taken"}
    line = (
        {key: image if value == "IMAGE" else value for key, value in wrong.items()}
        if isinstance(wrong, dict)
        else wrong
    )
    answer = post(service, jsonl(good, "", line, {**good, "custom_id": "free"}))
    assert (3, pointer, code) in refused(answer)
    assert {number for number, _, _ in refused(answer)} == {3}
    found = answer.json()
    assert (found["invalid_lines"], found["lines"]) == (1, 3)
    assert "line 3: " in found["detail"]
    assert service.jobs.recent(10) == []
    assert left(service) == []


def test_after_a_wrong_line_nothing_more_is_stored(
    service: Service, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(blocks, "write_block", lambda objects, name, number, lines: written.append(number))
    good = [{"feature": "logit:0", "image": image}] * (2 * BLOCK_JOBS)
    assert len(refused(post(service, jsonl(*good, {"feature": "x"}, *good)))) == 2
    assert len(written) <= 2
    written.clear()
    assert post(service, jsonl({"feature": "x"}, *good)).status_code == 422
    assert written == []


def test_all_wrong_lines_are_told(service: Service, image: str) -> None:
    lines = [{"feature": f"logit:{number}", "image": ABSENT if number == 2 else image} for number in range(6)]
    lines[5]["seed"] = "x"
    answer = post(service, jsonl(*lines))
    assert refused(answer) == [
        (3, "/image", "invalid-request"),
        (5, "/feature", "unit-out-of-range"),
        (6, "/seed", "invalid-request"),
    ]
    assert answer.json()["code"] == "invalid-request"


def test_many_wrong_lines_are_counted(service: Service, image: str) -> None:
    lines = [{"feature": "logit:4", "image": image}] * (MAX_FAULTS + 200) + [{"feature": "logit:0", "image": image}]
    found = post(service, jsonl(*lines)).json()
    assert (found["code"], found["invalid_lines"], found["lines"]) == (
        "unit-out-of-range",
        MAX_FAULTS + 200,
        MAX_FAULTS + 201,
    )
    assert [fault["line"] for fault in found["errors"]] == list(range(1, 51))


def test_wrong_lines_may_be_skipped(service: Service, image: str) -> None:
    good = {"feature": "logit:0", "image": image}
    body = jsonl({**good, "custom_id": "a"}, {**good, "feature": "x"}, {**good, "custom_id": "a"}, {**good, "seed": 4})
    answer = post(service, body, "?model=toy&on_invalid=skip")
    assert answer.status_code == 202
    batch = answer.json()
    assert (batch["total"], batch["skipped"]) == (2, 2)
    assert [job.seed for job in specs(service, batch["id"])] == [0, 4]
    told = service.http.get(f"/v1/batches/{batch['id']}/skipped")
    assert told.headers["content-type"] == "application/jsonl"
    faults = [json.loads(line) for line in told.text.splitlines()]
    assert [(fault["line"], fault["pointer"], fault["code"]) for fault in faults] == [
        (2, "/feature", "invalid-feature"),
        (3, "/custom_id", "duplicate-custom-id"),
    ]
    assert "line 1 already" in faults[1]["detail"]
    assert service.http.get(f"/v1/batches/{batch['id']}").json()["skipped"] == 2


def test_a_batch_of_wrong_lines_alone_is_refused(service: Service, image: str) -> None:
    assert refused(post(service, jsonl({"feature": "logit:8", "image": image}), "?model=toy&on_invalid=skip")) == [
        (1, "/feature", "unit-out-of-range")
    ]


@pytest.mark.parametrize("body", [b"", b"\n\n", b'{"batch": {"model": "toy"}}\n'])
def test_a_body_without_jobs(service: Service, body: bytes) -> None:
    answer = post(service, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "no jobs" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("header", "pointer"),
    [
        ({"lane": "fast"}, "/lane"),
        ({"recipe": {"steps": -1}}, "/recipe"),
        ({"colour": 1}, "/colour"),
        ({"deadline_s": 0}, "/deadline_s"),
    ],
)
def test_a_wrong_first_line(service: Service, image: str, header: dict[str, Any], pointer: str) -> None:
    answer = post(service, jsonl({"batch": header}, {"feature": "logit:0", "image": image}))
    assert [(line, where) for line, where, _ in refused(answer)] == [(1, pointer)]


@pytest.mark.parametrize("line", [b"[null, null]", b"5", b"null", b'{"batch": {}}', b'{"feature": "logit:0"}'])
def test_a_wrong_setting_in_the_address(service: Service, line: bytes) -> None:
    answer = post(service, line, "?model=toy&recipe=baroque")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-recipe")
    (fault,) = answer.json()["errors"]
    assert (fault["in"], fault["pointer"], fault.get("line")) == ("query", "/recipe", None)


# --- packed, cut short, too large -------------------------------------------------------------------------------


def test_gzip_that_breaks_off(service: Service, image: str) -> None:
    lines = [{"feature": "logit:0", "image": image, "seed": seed} for seed in range(20_000)]
    packed = gzip.compress(jsonl(*lines))
    for body in (packed[: len(packed) // 2], packed[:-4], b"", packed + packed[:30]):
        answer = post(service, body, **{"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.json()["code"]) == (400, "unreadable-body"), len(body)
    assert service.jobs.recent(10) == []
    assert left(service) == []
    assert service.redis.zcard(UPLOADS) == 0


def test_gzip_in_several_members(service: Service, image: str) -> None:
    line = jsonl({"feature": "logit:0", "image": image})
    assert post(service, gzip.compress(line) + gzip.compress(line), **{"Content-Encoding": "gzip"}).json()["total"] == 2


@pytest.mark.parametrize(("encoding", "said"), [("gzip", "no gzip"), ("br", "expected identity or gzip")])
def test_what_is_not_packed_as_announced(service: Service, image: str, encoding: str, said: str) -> None:
    answer = post(service, jsonl({"feature": "logit:0", "image": image}), **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable-body")
    assert said in answer.json()["detail"]


def test_json_may_come_packed_too(service: Service, image: str) -> None:
    body = gzip.compress(json.dumps({"model": "toy", "features": ["logit:0"], "images": [image]}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert service.http.post("/v1/batches", content=body, headers=headers).json()["total"] == 1
    answer = service.http.post("/v1/batches", content=body[:-9], headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable-body")


@pytest.fixture
def narrow(settings: Any) -> Iterator[Service]:
    service = Service(
        settings.model_copy(update={"max_lines": 10, "max_lines_bytes": 100_000, "max_body_bytes": 1_000})
    )
    service.start()
    service.announce()
    yield service
    service.stop()


def test_limits_are_named(narrow: Service) -> None:
    image = narrow.upload()
    line = {"feature": "logit:0", "image": image}
    assert post(narrow, jsonl(*[line] * 10)).json()["total"] == 10
    answer = post(narrow, jsonl(*[line] * 11))
    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "too-large", 10)
    bomb = gzip.compress(b" " * 10_000_000)
    for body, encoding in ((b" " * 100_001, "identity"), (bomb, "gzip")):
        answer = post(narrow, body, **{"Content-Encoding": encoding})
        assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "too-large", 100_000)
    many = post(narrow, jsonl(*[line] * 20), **{"Content-Type": "application/json"})
    assert (many.status_code, many.json()["limit"]) == (413, 1_000)


def test_a_line_that_never_ends(service: Service) -> None:
    answer = post(service, (b"x" * 65_536 for _ in range(80)))
    assert (answer.status_code, answer.json()["code"], answer.json()["line"]) == (413, "too-large", 1)


def test_a_client_that_hangs_up_leaves_nothing(service: Service, image: str) -> None:
    lines = jsonl(*[{"feature": "logit:0", "image": image, "seed": seed} for seed in range(3 * BLOCK_JOBS)])

    def half() -> Iterator[bytes]:
        yield lines
        end = time.monotonic() + 10
        while not left(service) and time.monotonic() < end:
            time.sleep(0.05)
        assert left(service)
        assert service.redis.zcard(UPLOADS) == 1
        raise RuntimeError("the client dies")

    with pytest.raises(RuntimeError, match="the client dies"):
        post(service, half())
    end = time.monotonic() + 10
    while (left(service) or service.redis.zcard(UPLOADS)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left(service) == []
    assert service.redis.zcard(UPLOADS) == 0
    assert service.jobs.recent(10) == []


def test_an_upload_says_that_it_lives(service: Service, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(blocks, "BEAT_S", 0.0)
    monkeypatch.setattr(type(service.jobs), "note_upload", lambda jobs, name, alive_s: told.append(name))
    count = 2 * BLOCK_JOBS + 1
    batch = post(
        service, jsonl(*[{"feature": "logit:0", "image": image, "seed": seed} for seed in range(count)])
    ).json()
    assert told == [batch["id"]] * 3


# --- dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_of_lines(service: Service, image: str) -> None:
    service.store_result(JobSpec(model="toy", feature="logit:2", image=image))
    service.jobs.shards.note_speed("bulk", "toy", 6.0, work=600)
    before = set(service.objects.keys(""))
    body = jsonl(
        {"feature": "logit:2", "image": image},
        {"feature": "logit:1", "image": image, "recipe": {"steps": 10, "crops": 1}},
        {"feature": "logit:7", "image": image},
    )
    found = post(service, body, "?model=toy&dry_run=true")
    assert found.status_code == 200
    answer = found.json()
    assert (answer["total"], answer["checked"], answer["cached"], answer["exact"]) == (2, 2, 1, True)
    assert (answer["accepted"], answer["invalid_lines"], answer["images"]) == (False, 1, 1)
    assert [(fault["line"], fault["code"]) for fault in answer["refused"]] == [(3, "unit-out-of-range")]
    work = Recipe().steps * Recipe().crops + 10
    assert answer["device_seconds"] == pytest.approx(0.01 * work / 2)
    assert post(service, body, "?model=toy&dry_run=true&on_invalid=skip").json()["accepted"] is True
    assert set(service.objects.keys("")) == before
    assert service.jobs.recent(10) == []


def test_settings_of_lines_do_not_go_with_json(service: Service, image: str) -> None:
    body = {"model": "toy", "features": ["logit:0"], "images": [image]}
    answer = service.http.post("/v1/batches?on_invalid=skip&seed=1", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "on_invalid, seed in the address" in answer.json()["detail"]
