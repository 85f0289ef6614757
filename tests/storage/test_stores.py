"""One set of checks for every object store: a folder, and S3 against a real server."""

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.servers import S3Server, free_port

from accentor.errors import InvalidRequestError, NotFoundError, StorageUnavailableError
from accentor.settings import Settings
from accentor.storage import ObjectStore, keys, open_store
from accentor.storage.file import ABANDONED_S

SHA = "a" * 64
OUTSIDE = [
    "", "/", "/etc/passwd", "..", "../a", "a/../b", "a/..", "./a", "a//b", "a/", "a\\b", "..\\a", "a\0b", "a\nb", "ü",
    "a" * 513,
]  # fmt: skip


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    opened = open_store(request.getfixturevalue("settings" if request.param == "file" else "s3_settings"))
    opened.ensure_bucket()
    yield opened
    for key in list(opened.keys("")):
        opened.delete(key)


def test_what_is_put_is_got(store: ObjectStore) -> None:
    data = bytes(range(256)) * 1_000
    store.put("images/one", data, content_type="image/png")
    assert store.get("images/one") == data
    assert store.size("images/one") == len(data)
    assert store.exists("images/one")
    store.put("images/one", b"")
    assert store.get("images/one") == b""
    assert store.size("images/one") == 0


def test_part_of_an_object(store: ObjectStore) -> None:
    store.put("a/b", b"0123456789")
    assert store.get_range("a/b", 2, 3) == b"234"
    assert store.get_range("a/b", 8, 5) == b"89"
    assert store.get_range("a/b", 3, 0) == b""
    assert store.get_range("a/b", 10, 1) == b""
    for key in ("nothing", "a"):
        with pytest.raises(NotFoundError, match=f"there is no object {key}"):
            store.get_range(key, 0, 1)


def test_what_is_not_there(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    for key in ("nothing", "a", "a/b/c", "a/bc"):
        with pytest.raises(NotFoundError, match=f"there is no object {key}"):
            store.get(key)
        assert store.size(key) is None
        assert not store.exists(key)
    for key in ("nothing", "a/bc"):
        store.delete(key)
    assert store.get("a/b") == b"1"


def test_deleted_objects_are_gone(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.delete("a/b")
    assert not store.exists("a/b")
    store.delete("a/b")


def test_keys_by_prefix(store: ObjectStore) -> None:
    for key in ("results/ab/1/x", "results/ab/2/x", "results/ac/1/x", "images/1"):
        store.put(key, key.encode())
    assert list(store.keys("results/ab/")) == ["results/ab/1/x", "results/ab/2/x"]
    assert list(store.keys("results/a")) == ["results/ab/1/x", "results/ab/2/x", "results/ac/1/x"]
    assert list(store.keys("")) == ["images/1", "results/ab/1/x", "results/ab/2/x", "results/ac/1/x"]
    assert list(store.keys("nothing/")) == []


@pytest.mark.parametrize("key", OUTSIDE)
def test_no_key_leads_out(store: ObjectStore, key: str) -> None:
    for call in (
        lambda: store.put(key, b"1"),
        lambda: store.get(key),
        lambda: store.size(key),
        lambda: store.delete(key),
        lambda: store.url(key, expires_s=60) or store.get(key),
    ):
        with pytest.raises(InvalidRequestError, match="is no key"):
            call()


def test_a_reader_sees_one_whole_object(store: ObjectStore) -> None:
    versions = [bytes([number]) * 100_000 for number in range(4)]
    store.put("a", versions[0])
    ended = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not ended.is_set():
            if store.get("a") not in versions:
                torn.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for round_ in range(20):
        store.put("a", versions[round_ % 4])
    ended.set()
    reader.join()
    assert torn == []
    assert list(store.keys("")) == ["a"]


def test_a_usable_store_passes_its_check(store: ObjectStore) -> None:
    store.check()
    store.ensure_bucket()
    store.check()


def test_where_things_lie() -> None:
    assert keys.image_key(SHA) == f"images/{SHA}"
    assert keys.artefact_key(SHA, "overlay.png") == f"results/aa/{SHA}/overlay.png"
    assert keys.result_key(SHA) == f"results/aa/{SHA}/result.json"
    assert keys.batch_spec_key("b1") == "batches/b1/spec.json"


@pytest.mark.parametrize("address", ["", "objects", "file://", "s3://", "http://here", "/tmp/objects"])  # noqa: S108
def test_unknown_addresses_are_refused(settings: Settings, address: str) -> None:
    with pytest.raises(InvalidRequestError, match="expected file://FOLDER or s3://BUCKET"):
        open_store(settings.model_copy(update={"storage_url": address}))


def test_a_folder_serves_no_links(settings: Settings) -> None:
    assert open_store(settings).url("a", expires_s=60) is None


def test_a_folder_that_cannot_be_used_is_named(settings: Settings, tmp_path: Path) -> None:
    store = open_store(settings)
    with pytest.raises(StorageUnavailableError, match="objects does not exist"):
        store.check()
    (tmp_path / "objects").write_text("in the way")
    for call in (store.check, store.ensure_bucket, lambda: store.put("a/b", b"1")):
        with pytest.raises(StorageUnavailableError, match=str(tmp_path / "objects")):
            call()


def test_a_killed_writer_leaves_the_old_object(settings: Settings, tmp_path: Path) -> None:
    """A process is ended by the system in the middle of writing a large object."""
    store = open_store(settings)
    store.put("a", b"old")
    program = (
        "import os, pathlib\n"
        "from accentor.storage.file import FileStore\n"
        "os.fsync = lambda descriptor: os._exit(9)\n"
        f"FileStore(pathlib.Path({str(tmp_path / 'objects')!r})).put('a', b'new' * 1_000_000)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 9
    assert store.get("a") == b"old"
    assert list(store.keys("")) == ["a"]
    (left,) = (tmp_path / "objects" / ".writing").iterdir()
    open_store(settings)
    assert left.exists()
    hours_ago = time.time() - 2 * ABANDONED_S
    os.utime(left, (hours_ago, hours_ago))
    open_store(settings)
    assert not left.exists()
    assert store.get("a") == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="the system's permissions do not bind root")
def test_an_unreadable_folder_is_named(settings: Settings, tmp_path: Path) -> None:
    store = open_store(settings)
    store.put("a", b"1")
    (tmp_path / "objects").chmod(0)
    try:
        with pytest.raises(StorageUnavailableError, match="objects"):
            store.check()
        with pytest.raises(StorageUnavailableError, match="Permission denied"):
            store.get("a")
    finally:
        (tmp_path / "objects").chmod(0o700)


def fetch(url: str) -> tuple[bytes, str | None]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        return answer.read(), answer.headers["Content-Type"]


def test_a_presigned_link_serves_the_object_to_anyone(s3_settings: Settings) -> None:
    store = open_store(s3_settings)
    store.put("a/b.png", b"pixels", content_type="image/png")
    url = store.url("a/b.png", expires_s=60)
    assert url is not None
    assert url.startswith(s3_settings.s3_endpoint or "never")
    assert fetch(url) == (b"pixels", "image/png")
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(url.replace("b.png?", "c.png?"))
    assert refused.value.code == 403
    refused.value.close()


def test_links_name_the_public_endpoint(s3_settings: Settings) -> None:
    public = s3_settings.model_copy(update={"s3_public_endpoint": "https://pictures.example"})
    url = open_store(public).url("a", expires_s=60)
    assert url is not None
    assert url.startswith("https://pictures.example/accentor/")
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url


def test_a_missing_bucket_is_named_and_can_be_made(s3_settings: Settings, s3_server: S3Server) -> None:
    name = f"new-{free_port()}"
    store = open_store(s3_settings.model_copy(update={"storage_url": f"s3://{name}"}))
    with pytest.raises(StorageUnavailableError, match=f"there is no bucket {name} at {s3_server.endpoint}"):
        store.check()
    store.ensure_bucket()
    store.check()
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_an_s3_server_that_is_away_is_named(s3_settings: Settings) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    store = open_store(s3_settings.model_copy(update={"s3_endpoint": endpoint, "s3_timeout_s": 1.0}))
    for call in (store.check, lambda: store.put("a", b"1"), lambda: store.get("a"), lambda: list(store.keys(""))):
        with pytest.raises(StorageUnavailableError, match=endpoint):
            call()


def test_a_wrong_key_is_no_missing_object(s3_settings: Settings) -> None:
    store = open_store(s3_settings.model_copy(update={"s3_secret_key": SecretStr("wrong")}))
    with pytest.raises(StorageUnavailableError):
        store.get("a")
    with pytest.raises(StorageUnavailableError):
        store.check()
