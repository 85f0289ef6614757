"""Datasets through both clients: folders that are uploaded, and what lies in the store."""

import asyncio
from pathlib import Path

import pytest
from tests.api.service import Service, digest, picture

from accentor.errors import InvalidRequestError, NotFoundError, WaitTimeoutError
from accentor.spec.datasets import DatasetMember
from accentor_client import AsyncClient, Client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for index in range(5):
        path = root / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(index))
    (root / "b" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    (root / "notes.txt").write_text("hello")
    return root


def test_a_folder(client: Client, folder: Path) -> None:
    told: list[tuple[int, int | None]] = []
    card = client.datasets.create("d", folder=folder, on_progress=lambda *state: told.append(state), timeout=20)
    assert (card.images, card.skipped, card.classes, card.source) == (5, 1, {"a": 3, "b": 2}, "images")
    assert [member.id for member in client.datasets.skipped("d")] == ["b/broken.jpg"]
    assert told[0] == (6, 6)
    rows = list(client.datasets.images("d"))
    assert [row.id for row in rows] == ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png"]
    assert rows[3].image == digest(picture(1))
    assert list(client.datasets.list()) == [card]
    assert client.datasets.card("d") == client.datasets.card(card.reference) == card
    assert client.datasets.create("d", folder=folder, timeout=20) == card
    client.datasets.delete("d")
    with pytest.raises(NotFoundError, match="'d'"):
        client.datasets.get("d")


def test_labels_and_masks_of_a_folder(client: Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("a/0.png,left\nb/3.png,right\n")
    (folder / "masks" / "a").mkdir(parents=True)
    (folder / "masks" / "a" / "2.jpg").write_bytes(picture(9, kind="JPEG"))
    (folder / "masks" / "a" / "4.png").write_bytes(b"broken")
    card = client.datasets.create(
        "d", folder=folder, labels_file=tmp_path / "labels.csv", masks=folder / "masks", timeout=20
    )
    rows = {row.id: row for row in client.datasets.images("d")}
    assert {name: row.label for name, row in rows.items()} == {
        "a/0.png": "left", "a/2.png": None, "b/1.png": None, "b/3.png": "right",
    }  # fmt: skip
    mask = rows["a/2.png"].mask
    assert mask is not None
    assert mask.key == f"images/{digest(picture(9, kind='JPEG'))}"
    assert {member.id for member in card.skipped_members} == {"a/4.png", "b/broken.jpg"}
    (tmp_path / "labels.json").write_text('{"zebra.png": "x"}')
    with pytest.raises(InvalidRequestError, match="name no image of"):
        client.datasets.create("d", folder=folder, labels_file=tmp_path / "labels.json")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        client.datasets.create("d", folder=folder, labels_file=tmp_path / "gone.json")


def test_a_list_of_paths(client: Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photos/b/3.png\n\nphotos/gone.png\nphotos/a/0.png\n")
    (tmp_path / "masks" / "photos" / "b").mkdir(parents=True)
    (tmp_path / "masks" / "photos" / "b" / "3.png").write_bytes(picture(9))
    card = client.datasets.create("d", folder=tmp_path / "list.txt", masks=tmp_path / "masks", timeout=20)
    rows = list(client.datasets.images("d"))
    assert [(row.id, row.label, row.image) for row in rows] == [
        ("photos/b/3.png", "b", digest(picture(3))), ("photos/a/0.png", "a", digest(picture(0))),
    ]  # fmt: skip
    assert [row.mask is not None for row in rows] == [True, False]
    assert [member.id for member in card.skipped_members] == ["photos/gone.png"]
    (tmp_path / "picture.txt").write_bytes(picture(1))
    with pytest.raises(InvalidRequestError, match="is no text file with the path of an image a line"):
        client.datasets.create("d", folder=tmp_path / "picture.txt")


def test_what_lies_in_the_store(service: Service, client: Client) -> None:
    for index in range(3):
        service.objects.put(f"photos/{index}.png", picture(index))
    card = client.datasets.create("d", prefix="photos/", description="three", timeout=20)
    assert (card.images, card.description) == (3, "three")
    listed = client.datasets.create(
        "e", images=[DatasetMember(image=client.images.upload(picture(7)).id, id="seven")], timeout=20
    )
    assert (listed.images, [c.name for c in client.datasets.list()]) == (1, ["d", "e"])


def test_what_is_no_dataset(service: Service, client: Client, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="no object whose key begins with 'nothing/'"):
        client.datasets.create("d", prefix="nothing/", timeout=20)
    with pytest.raises(InvalidRequestError, match="folder and prefix were given"):
        client.datasets.create("d", folder=folder, prefix="p/")
    with pytest.raises(InvalidRequestError, match="is no folder, and no file"):
        client.datasets.create("d", folder=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequestError, match="holds no images"):
        client.datasets.create("d", folder=tmp_path / "empty")
    with pytest.raises(InvalidRequestError, match="name: String should match"):
        client.datasets.create("a/b", prefix="p/")
    service.objects.put(
        "datasets/d/status.json", b'{"name": "d", "state": "indexing", "updated_at": "2100-01-01T00:00:00Z"}'
    )
    with pytest.raises(WaitTimeoutError, match="dataset d has not ended"):
        client.datasets.wait("d", 0.3)


def test_the_asynchronous_twin(service: Service, folder: Path) -> None:
    async def work() -> None:
        async with AsyncClient(service.url, timeout=20.0) as client:
            card = await client.datasets.create("d", folder=folder, timeout=20)
            assert (card.images, card.skipped) == (5, 1)
            assert [member.id for member in await client.datasets.skipped("d")] == ["b/broken.jpg"]
            assert [row.label async for row in client.datasets.images("d")] == ["a", "a", "a", "b", "b"]
            assert [one.reference async for one in client.datasets.list()] == [card.reference]
            assert await client.datasets.card("d") == card
            await client.datasets.delete("d")
            with pytest.raises(NotFoundError):
                await client.datasets.get("d")

    asyncio.run(work())
