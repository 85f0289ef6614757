"""Atlases through both clients: asked for, followed, and their sites downloaded."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.api.service import CARD, Service, digest, picture

from accentor.atlas.chunks import write_chunk
from accentor.errors import CanceledError, InvalidRequestError, NotFoundError, ServiceError, WaitTimeoutError
from accentor.spec import BatchState, Failure
from accentor.spec.atlases import AtlasSite, AtlasSpec, AtlasStep, AtlasStepName
from accentor.spec.datasets import DatasetSpec
from accentor.state import AtlasStore, NewAtlas
from accentor.storage.atlases import AtlasObjects
from accentor.storage.datasets import DatasetStore
from accentor_client import AsyncClient, Client
from accentor_client._atlases import place_of
from accentor_client._calls import SiteFile

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
STEP = AtlasStep(name=AtlasStepName.SCAN)
FILES = {"data/head.js": b"head", "pictures/a b.webp": b"strip", "index.html": b"<title>"}


@pytest.fixture
def atlases(service: Service) -> AtlasStore:
    return AtlasStore(service.redis)


@pytest.fixture
def published(service: Service, atlases: AtlasStore, tmp_path: Path) -> str:
    """Return the id of an atlas with a site of three files."""
    spec = AtlasSpec(model="toy", layer="conv1", dataset="d@0123456789abcdef")
    atlases.create(NewAtlas("a", spec, CARD.digest, "secret", CREATED))
    objects = AtlasObjects(service.objects, "a")
    files = []
    for name, data in FILES.items():
        path = tmp_path / "made" / name.replace("/", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        files.append(objects.put_file(name, path))
    site = AtlasSite(prefix=objects.prefix, features=2, images=3, pictures=9, files=3, bytes=9, made_at=CREATED)
    objects.finish(site, files)
    assert atlases.end(atlases.get("a"), BatchState.SUCCEEDED, STEP, site=site)
    return "a"


def test_from_a_request_to_its_end(service: Service, client: Client, atlases: AtlasStore) -> None:
    service.objects.put("photos/1.png", picture(1))
    reference = DatasetStore(service.objects).create(DatasetSpec(name="d", prefix="photos/"))[0].reference
    atlas = client.atlases.create(model="toy", layer="conv1", dataset="d", recipe="fast", limit=2, title="<b>")
    assert (atlas.state, atlas.status.spec.dataset, atlas.url) == (BatchState.RUNNING, reference, None)
    assert atlas.error is None
    with pytest.raises(WaitTimeoutError, match=f"atlas {atlas.id}"):
        atlas.wait(timeout=0.3)
    with pytest.raises(InvalidRequestError, match="it has no site yet"):
        atlas.download("nowhere")
    assert [other.id for other in client.atlases.list()] == [atlas.id]
    assert client.atlases.get(atlas.id).cancel().state is BatchState.CANCELED
    assert isinstance(atlas.refresh().error, CanceledError)
    atlas.delete()
    with pytest.raises(NotFoundError):
        client.atlases.get(atlas.id)


def test_what_it_failed_of_is_raised(client: Client, atlases: AtlasStore, tmp_path: Path) -> None:
    spec = AtlasSpec(model="toy", layer="conv1", dataset="d@0123456789abcdef")
    atlases.create(NewAtlas("a", spec, CARD.digest, "secret", CREATED))
    failure = Failure(code="invalid-request", detail="no image could be read")
    atlases.end(atlases.get("a"), BatchState.FAILED, STEP, failure=failure)
    atlas = client.atlases.get("a").wait(timeout=1)
    with pytest.raises(InvalidRequestError, match="no image could be read"):
        atlas.download(tmp_path)


def test_a_site_is_downloaded_and_not_again(client: Client, published: str, tmp_path: Path) -> None:
    atlas = client.atlases.get(published)
    page = atlas.download(tmp_path / "site")
    assert page == tmp_path / "site" / "index.html"
    assert atlas.url == f"{client._transport.base_url}/v1/atlases/a/site/secret/index.html"
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "site").as_posix(): path.read_bytes() for path in there} == FILES
    page.write_bytes(b"<damage")
    atlas.download(tmp_path / "site")
    assert page.read_bytes() == FILES["index.html"]
    assert {path: path.stat().st_mtime_ns for path in there if path != page} == {
        path: time for path, time in there.items() if path != page
    }


def lay_another_atlas(folder: Path) -> set[str]:
    """Put pages of an atlas, and files that no atlas wrote, into a folder; return the names of the latter."""
    for name in ("features/7", "images/list-0", "errors/0", "head"):
        write_chunk(folder, name, {"of": "another"})
    digits = "ab" * 32
    for name in (f"pictures/ab/{digits}-1.webp", f"pictures/thumbnails/{digits}.webp", "thumbnails/features/7.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"another")
    own = {"data/features/notes.js", "data/mine.txt", "readme.md", "pictures/mine.webp", f"pictures/{digits}.webp"}
    for name in own:
        (folder / name).write_text("let Atlas;")
    return own


def test_no_page_of_another_atlas_stays_and_all_other_files_do(client: Client, published: str, tmp_path: Path) -> None:
    own = lay_another_atlas(tmp_path / "site")
    client.atlases.get(published).download(tmp_path / "site")
    assert files_below(tmp_path / "site") == FILES.keys() | own
    assert (tmp_path / "site" / "data/head.js").read_bytes() == FILES["data/head.js"]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_damaged_site_is_not_taken(service: Service, client: Client, published: str, tmp_path: Path) -> None:
    """And a first page that lay there is gone, since its own pages are."""
    service.objects.put("atlases/a/site/data/head.js", b"hEad")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_bytes(FILES["index.html"])
    with pytest.raises(ServiceError, match="came damaged"):
        client.atlases.get(published).download(tmp_path / "site")
    assert not (tmp_path / "site" / "index.html").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "c:x", "a\\x", ""])
def test_no_file_is_saved_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServiceError, match="no path inside"):
        place_of(tmp_path, SiteFile(name=name, bytes=1, sha256=digest(b"x")))


def test_the_asynchronous_twin(service: Service, published: str, tmp_path: Path) -> None:
    service.objects.put("photos/1.png", picture(1))
    DatasetStore(service.objects).create(DatasetSpec(name="d", prefix="photos/"))

    async def use() -> None:
        async with AsyncClient(service.url) as client:
            atlas = await client.atlases.create(model="toy", layer="conv1", dataset="d")
            with pytest.raises(WaitTimeoutError):
                await atlas.wait(timeout=0.2)
            await atlas.cancel()
            assert (await atlas.refresh()).state is BatchState.CANCELED
            assert [other.id async for other in client.atlases.list()] == [atlas.id, published]
            await atlas.delete()
            own = lay_another_atlas(tmp_path / "site")
            page = await (await client.atlases.get(published)).download(tmp_path / "site")
            assert files_below(tmp_path / "site") == FILES.keys() | own
            assert page.read_bytes() == FILES["index.html"]
            assert (tmp_path / "site" / "pictures/a b.webp").read_bytes() == b"strip"

    asyncio.run(use())
