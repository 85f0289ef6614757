"""Uploading and reading images."""

import io
import socket
import struct
import time
import zlib

import pytest
from PIL import Image
from tests.api.service import Service, digest, picture

from accentor.storage.keys import image_key

PNG = {"Content-Type": "image/png"}


def huge_png(side: int) -> bytes:
    """Return a PNG of a few bytes that says it is this large."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rotated_jpeg() -> bytes:
    image, buffer = Image.new("RGB", (40, 20)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_a_new_image_is_created_and_stored_as_it_came(bare: Service) -> None:
    data = picture(7)
    answer = bare.http.post("/v1/images", content=data, headers=PNG)
    assert answer.status_code == 201
    assert answer.json() == {
        "id": digest(data),
        "bytes": len(data),
        "width": 24,
        "height": 16,
        "content_type": "image/png",
    }
    assert answer.headers["location"] == f"/v1/images/{digest(data)}"
    assert bare.objects.get(image_key(digest(data))) == data


def test_the_same_image_again_is_answered_200(bare: Service) -> None:
    data = picture(kind="JPEG")
    first = bare.http.put(f"/v1/images/{digest(data)}", content=data, headers={"Content-Type": "image/jpeg"})
    again = bare.http.post("/v1/images", content=data, headers={"Content-Type": "application/octet-stream"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


def test_an_upload_that_breaks_off_leaves_nothing_and_may_be_sent_again(bare: Service) -> None:
    data = picture(9)
    head = (
        f"PUT /v1/images/{digest(data)} HTTP/1.1\r\nHost: 127.0.0.1:{bare.settings.port}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", bare.settings.port), timeout=10) as connection:
        connection.sendall(head.encode() + data[: len(data) // 2])
    time.sleep(0.2)
    assert not list(bare.objects.keys("images/"))
    answers = [bare.http.put(f"/v1/images/{digest(data)}", content=data, headers=PNG) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert bare.objects.get(image_key(digest(data))) == data


def test_a_truncated_image_is_not_taken_for_the_announced_one(bare: Service) -> None:
    data = picture(9, size=(64, 64))
    answer = bare.http.put(f"/v1/images/{digest(data)}", content=data[:-1], headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert not list(bare.objects.keys("images/"))


def test_head_and_get(bare: Service) -> None:
    data = picture(3)
    path = f"/v1/images/{digest(data)}"
    assert bare.http.head(path).status_code == 404
    bare.upload(data)
    head, answer = bare.http.head(path), bare.http.get(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    assert answer.content == data
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_size_told_is_upright(bare: Service) -> None:
    answer = bare.http.post("/v1/images", content=rotated_jpeg(), headers={"Content-Type": "image/jpeg"})
    assert (answer.json()["width"], answer.json()["height"]) == (20, 40)


def test_another_digest_than_announced(bare: Service) -> None:
    answer = bare.http.put(f"/v1/images/{'0' * 64}", content=picture(), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert digest(picture()) in answer.json()["detail"]
    assert not bare.objects.exists(image_key("0" * 64))


@pytest.mark.parametrize("name", ["0" * 63, "G" * 64, "F" * 64, "a%00b", "..%2F..%2Fetc%2Fpasswd"])
def test_no_digest(bare: Service, name: str) -> None:
    assert bare.http.put(f"/v1/images/{name}", content=picture(), headers=PNG).status_code in {404, 405, 422}
    assert bare.http.get(f"/v1/images/{name}").status_code == 404
    assert bare.http.head(f"/v1/images/{name}").status_code == 404


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"no image at all", "no image"),
        (picture(size=(64, 64))[:-40], "damaged"),
        (huge_png(30_000), "too large: 900000000 pixels"),
        (picture(size=(4, 4)), "too small: 4 × 4"),
    ],
    ids=["empty", "text", "truncated", "huge", "tiny"],
)
def test_what_is_no_image(bare: Service, data: bytes, said: str) -> None:
    answer = bare.http.post("/v1/images", content=data, headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-image")
    assert said in answer.json()["detail"]
    assert not list(bare.objects.keys("images/"))


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data; boundary=x", "application/json"])
def test_another_content_type(bare: Service, kind: str | None) -> None:
    answer = bare.http.post("/v1/images", content=picture(), headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
