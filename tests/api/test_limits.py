"""Bodies above their limits, announced and not."""

from collections.abc import Iterator

import pytest
from tests.api.service import Service, picture

from accentor.settings import Settings

LIMIT = 1_000


@pytest.fixture
def narrow(settings: Settings) -> Iterator[Service]:
    service = Service(settings.model_copy(update={"max_upload_bytes": LIMIT, "max_body_bytes": LIMIT}))
    service.start()
    service.announce()
    yield service
    service.stop()


def pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * 400


@pytest.mark.parametrize("path", ["/v1/images", "/v1/jobs", "/v1/batches"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_above_the_limit(narrow: Service, path: str, announced: bool) -> None:
    kind = "image/png" if path == "/v1/images" else "application/json"
    content = b"x" * 1_200 if announced else pieces(3)
    answer = narrow.http.post(path, content=content, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert (answer.json()["bytes"], answer.json()["limit"]) == (1_200, LIMIT)
    assert "1200" in answer.json()["detail"]
    assert "1000" in answer.json()["detail"]


def test_a_body_at_the_limit(narrow: Service) -> None:
    data = picture()
    padded = data + b"\0" * (LIMIT - len(data))
    assert narrow.http.post("/v1/images", content=padded, headers={"Content-Type": "image/png"}).status_code == 201
