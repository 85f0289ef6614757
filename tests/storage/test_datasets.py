"""Datasets made from a folder of objects, from tars and from a list, in a folder and in S3."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator

import pytest
from PIL import Image

import accentor.datasets.indexing as indexing
from accentor.datasets import tars
from accentor.errors import (
    DigestMismatchError,
    IllegalTransitionError,
    InvalidRequestError,
    NotFoundError,
    UnknownDatasetError,
)
from accentor.spec import sha256_hex
from accentor.spec.datasets import DatasetMember, DatasetSpec
from accentor.storage import ObjectStore, open_store
from accentor.storage.datasets import DatasetStore
from accentor.storage.images import StoredImages, read_row
from accentor.storage.keys import image_key


def picture(shade: int, size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade % 256, shade // 256, 200)).save(buffer, kind)
    return buffer.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    opened = open_store(request.getfixturevalue("settings" if request.param == "file" else "s3_settings"))
    opened.ensure_bucket()
    yield opened
    for key in list(opened.keys("")):
        opened.delete(key)


@pytest.fixture
def folder(settings: object) -> ObjectStore:
    opened = open_store(settings)  # type: ignore[arg-type]
    opened.ensure_bucket()
    return opened


def spec(**fields: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"name": "d", **fields})


def test_a_prefix(objects: ObjectStore) -> None:
    for index in range(6):
        objects.put(f"photos/{'cat' if index % 2 else 'dog'}/{index}.png", picture(index))
    objects.put("photos/top.jpg", picture(9, kind="JPEG"))
    objects.put("photos/readme.txt", b"hello")
    store = DatasetStore(objects)
    card, is_new = store.create(spec(prefix="photos/", description="all of them"))
    assert is_new
    assert (card.images, card.ignored, card.skipped, card.duplicates, card.source) == (7, 1, 0, 0, "prefix")
    assert card.classes == {"cat": 3, "dog": 3}
    assert card.labeled == 6
    rows = list(store.rows(card.reference))
    assert [row.id for row in rows] == [
        "cat/1.png",
        "cat/3.png",
        "cat/5.png",
        "dog/0.png",
        "dog/2.png",
        "dog/4.png",
        "top.jpg",
    ]
    assert rows[0].image == sha256_hex(picture(1))
    assert (rows[0].label, rows[6].label, rows[0].width, rows[0].height) == ("cat", None, 24, 16)
    assert card.bytes == sum(row.bytes for row in rows) == sum(objects.size(f"photos/{row.id}") or 0 for row in rows)
    assert list(store.ids("d")) == [row.image for row in rows]
    assert list(store.names("d")) == [(row.image, row.id, row.label) for row in rows]
    assert not list(objects.keys("images/"))
    again, is_new = DatasetStore(objects).create(spec(prefix="photos/"))
    assert (again, is_new) == (card, False)


def test_images_are_found_where_they_lie(objects: ObjectStore) -> None:
    objects.put("photos/a.png", picture(1))
    objects.put("tars/x.tar", tar_of({"b.png": picture(2), "b.cls": b"7"}))
    objects.put(image_key(sha256_hex(picture(3))), picture(3))
    store = DatasetStore(objects)
    images = StoredImages(objects, store)
    store.create(spec(prefix="photos/"))
    assert images.get(sha256_hex(picture(1))) == picture(1)
    assert images.size(sha256_hex(picture(2))) is None
    DatasetStore(objects).create(spec(name="e", tars=["tars/x.tar"]))
    assert images.get(sha256_hex(picture(2))) == picture(2)
    assert images.size(sha256_hex(picture(2))) == len(picture(2))
    assert images.get(sha256_hex(picture(3))) == picture(3)
    with pytest.raises(NotFoundError):
        images.get(sha256_hex(picture(4)))


def test_an_image_that_has_changed_is_not_taken_for_the_old_one(folder: ObjectStore) -> None:
    folder.put("photos/a.png", picture(1))
    folder.put("photos/b.png", picture(2))
    store = DatasetStore(folder)
    card, _ = store.create(spec(prefix="photos/"))
    folder.put("photos/a.png", picture(3))
    with pytest.raises(DigestMismatchError, match=rf"a\.png has changed since the dataset {card.reference} was made"):
        StoredImages(folder, store).get(sha256_hex(picture(1)))
    folder.delete("photos/b.png")
    with pytest.raises(NotFoundError):
        read_row(folder, store.rows("d")[1], "d")
    assert StoredImages(folder, store).size(sha256_hex(picture(2))) is None
    newer, is_new = store.create(spec(prefix="photos/"))
    assert is_new
    assert newer.version != card.version
    assert [c.version for c in store.history("d")] == [newer.version, card.version]
    assert store.card("d") == newer
    assert store.rows(card.reference)[0].image == sha256_hex(picture(1))


@pytest.mark.parametrize("fate", ["replaced", "deleted", "tar cut off"])
def test_an_image_that_was_uploaded_too_is_read_after_its_place_has_changed(folder: ObjectStore, fate: str) -> None:
    key = "wd/a.tar" if fate == "tar cut off" else "wd/a.png"
    folder.put(key, tar_of({"a.png": picture(1)}) if key.endswith("tar") else picture(1))
    made = {"tars": [key]} if key.endswith("tar") else {"prefix": "wd/"}
    store = DatasetStore(folder)
    card, _ = store.create(spec(**made))
    row = store.rows(card.reference)[0]
    folder.put(image_key(row.image), picture(1))
    if fate == "deleted":
        folder.delete(key)
    else:
        folder.put(key, picture(3) if fate == "replaced" else b"")
    assert read_row(folder, row, card.reference) == picture(1)
    folder.delete(image_key(row.image))
    with pytest.raises(NotFoundError if fate == "deleted" else DigestMismatchError):
        read_row(folder, row, card.reference)


def test_tars(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "AHEAD_BYTES", 700)
    first = {
        "s/0.jpg": picture(0, kind="JPEG"), "s/0.cls": b"3\n", "s/0.txt": b"a caption",
        "s/1.png": picture(1), "s/1.json": json.dumps({"label": "dog"}).encode(), "s/1.mask.png": picture(7),
        "s/2.txt": b"no image",
    }  # fmt: skip
    objects.put("wd/train-0.tar", tar_of(first))
    objects.put("wd/train-1.tar", tar_of({"s/0.png": picture(5), "x.y.png": picture(6)}))
    store = DatasetStore(objects)
    card, _ = store.create(spec(tars=["wd/train"]))
    assert (card.images, card.ignored, card.masks, card.skipped) == (4, 1, 1, 0)
    rows = list(store.rows("d"))
    ids = ["wd/train-0.tar:s/0.jpg", "wd/train-0.tar:s/1.png", "wd/train-1.tar:s/0.png", "wd/train-1.tar:x.y.png"]
    assert [row.id for row in rows] == ids
    assert [row.label for row in rows] == ["3", "dog", None, None]
    assert read_row(objects, rows[0], "d") == first["s/0.jpg"]
    mask = rows[1].mask
    assert mask is not None
    assert objects.get_range(mask.key, mask.offset or 0, mask.size or 0) == picture(7)


def test_broken_tars(folder: ObjectStore) -> None:
    whole = tar_of({f"{i}.png": picture(i) for i in range(4)})
    folder.put("wd/a.tar", whole[: 2 * 1024 + 530])
    folder.put("wd/b.tar", b"no tar at all" * 100)
    folder.put("wd/c.tar", tar_of({"9.png": picture(9), "8.png": picture(8), "8.cls": b"x" * 300}))
    card, _ = DatasetStore(folder).create(spec(tars=["wd/", "wd/d.tar"]))
    assert {member.id for member in card.skipped_members} == {"wd/a.tar", "wd/b.tar", "wd/c.tar:8.png", "wd/d.tar"}
    assert [row.id for row in DatasetStore(folder).rows("d")] == ["wd/a.tar:0.png", "wd/a.tar:1.png", "wd/c.tar:9.png"]
    folder.put("cut/a.tar", whole[: whole.rindex(b"3.png")])
    card, _ = DatasetStore(folder).create(spec(tars=["cut/"]))
    assert card.images == 3
    [cut] = card.skipped_members
    assert (cut.id, cut.reason) == (
        "cut/a.tar",
        "it is no plain tar, or breaks off, after '2': it ends without an end mark",
    )
    folder.put("wd/e.tar.gz", gzip.compress(whole))
    with pytest.raises(InvalidRequestError, match="compressed"):
        DatasetStore(folder).create(spec(tars=["wd/e.tar.gz"]))


def test_a_list(objects: ObjectStore) -> None:
    ids = []
    for index in range(3):
        ids.append(sha256_hex(picture(index)))
        objects.put(image_key(ids[-1]), picture(index))
    small = sha256_hex(picture(50, (8, 8)))
    objects.put(image_key(small), picture(50, (8, 8)))
    members = [
        DatasetMember(image=ids[0], id="a", label="cat", mask=ids[2]),
        DatasetMember(image=ids[1], id="b"),
        DatasetMember(image="0" * 64, id="lost"),
        DatasetMember(image=ids[2], id="c", mask=small),
    ]
    card, _ = DatasetStore(objects).create(spec(images=members, skipped=[{"id": "z", "reason": "left out"}]))
    assert (card.images, card.skipped, card.masks) == (2, 3, 1)
    reasons = {member.id: member.reason for member in card.skipped_members}
    assert "there is no object" in reasons["lost"]
    assert reasons["c"] == "its mask has 8 × 8 pixels, the image 24 × 16"
    assert reasons["z"] == "left out"
    assert list(DatasetStore(objects).rows("d"))[0].place is None


def test_five_percent_damaged(folder: ObjectStore) -> None:
    damaged = set(range(0, 100, 20))
    for index in range(100):
        data = picture(index, (40, 40))
        folder.put(f"p/{index:03d}.png", data[: len(data) // 2] if index in damaged else data)
    card, _ = DatasetStore(folder).create(spec(prefix="p/"))
    assert (card.images, card.skipped) == (95, 5)
    assert [member.id for member in card.skipped_members] == [f"{index:03d}.png" for index in sorted(damaged)]
    assert all("damaged" in member.reason or "no image" in member.reason for member in card.skipped_members)


def test_duplicates_are_there_once(folder: ObjectStore) -> None:
    for name in ("cat/a", "cat/b", "dog/c"):
        folder.put(f"p/{name}.png", picture(1))
    folder.put("p/dog/d.png", picture(2))
    card, _ = DatasetStore(folder).create(spec(prefix="p/"))
    assert (card.images, card.duplicates) == (2, 2)
    told = [(m.id, m.first, m.label, m.first_label) for m in card.duplicate_members]
    assert told == [("cat/b.png", "cat/a.png", "cat", "cat"), ("dog/c.png", "cat/a.png", "dog", "cat")]


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("l.csv", b"id,label\na.png,one\nb.png,two\nc.png,x\n"),
        ("l.csv", b"a.png,one\r\nb.png, two\r\nc.png,x"),
        ("l.json", b'{"a.png": "one", "b.png": "two", "c.png": 5}'),
        ("l.jsonl", b'{"id": "a.png", "label": "one"}\n\n{"id": "b.png", "label": "two"}\n{"id": "c.png", "label": 5}'),
    ],
)
def test_files_of_labels(folder: ObjectStore, key: str, data: bytes) -> None:
    for index, name in enumerate("abz"):
        folder.put(f"p/{name}.png", picture(index))
    folder.put(key, data)
    card, _ = DatasetStore(folder).create(spec(prefix="p/", labels_file=key))
    assert [row.label for row in DatasetStore(folder).rows("d")] == ["one", "two", None]
    assert card.unmatched_labels == 1


@pytest.mark.parametrize(
    ("key", "data", "said"),
    [
        ("l.csv", b"a.png,one,more", "3 columns"),
        ("l.csv", b"a.png,one\na.png,two", "'one' and 'two'"),
        ("l.json", b"[1]", "holds a list"),
        ("l.json", b'{"a.png": [1]}', r"expected text or a number"),
        ("l.json", b"\xff\xfe", "cannot be read"),
        ("l.jsonl", b'{"name": 1}', "cannot be read"),
        ("l.txt", b"", "another ending"),
        ("l.csv", b"other.png,one", "name no image of the dataset"),
    ],
)
def test_bad_files_of_labels(folder: ObjectStore, key: str, data: bytes, said: str) -> None:
    folder.put("p/a.png", picture(1))
    folder.put(key, data)
    with pytest.raises(InvalidRequestError, match=said):
        DatasetStore(folder).create(spec(prefix="p/", labels_file=key))
    with pytest.raises(NotFoundError, match=r"there is no object gone\.csv"):
        DatasetStore(folder).create(spec(prefix="p/", labels_file="gone.csv"))


def test_masks_of_a_prefix(folder: ObjectStore) -> None:
    for index in range(3):
        folder.put(f"p/im/{index}.jpg", picture(index, kind="JPEG"))
        folder.put(f"p/masks/im/{index}.png", picture(0, (24, 16) if index else (9, 9)))
    card, _ = DatasetStore(folder).create(spec(prefix="p/", masks="p/masks/"))
    assert (card.images, card.masks, card.skipped, card.ignored) == (2, 2, 1, 3)
    mask = DatasetStore(folder).rows("d")[0].mask
    assert mask is not None
    assert mask.key == "p/masks/im/1.png"


def test_what_is_no_dataset(folder: ObjectStore) -> None:
    store = DatasetStore(folder)
    folder.put("p/a.txt", b"x")
    folder.put("p/b.png", b"x")
    with pytest.raises(
        InvalidRequestError, match=r"'d' has no image: 1 members could not be read, 1 are no images.*b\.png"
    ):
        store.create(spec(prefix="p/"))
    with pytest.raises(InvalidRequestError, match="no object whose key begins with 'q/'"):
        store.create(spec(prefix="q/"))
    with pytest.raises(InvalidRequestError, match="no tar whose key begins with 'q/'"):
        store.create(spec(tars=["q/"]))
    with pytest.raises(InvalidRequestError, match="has no image: 0 members"):
        store.create(spec(images=[]))
    for own in ("images/", "results/ab", "datasets"):
        with pytest.raises(InvalidRequestError, match="the service's own"):
            store.create(spec(prefix=own))
    with pytest.raises(InvalidRequestError, match="no key of an object"):
        store.create(spec(prefix="../"))
    for reference in ("d", "d@" + "0" * 16, "../d", "d/x"):
        with pytest.raises(UnknownDatasetError):
            store.card(reference)
    assert store.newest() == []
    for fields in ({}, {"prefix": "p/", "tars": ["x"]}, {"images": [], "masks": "m/"}):
        with pytest.raises(ValueError, match="expected one of|masks go with"):
            spec(**fields)


def test_blocks_and_deletion(folder: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import accentor.storage.datasets as module

    monkeypatch.setattr(indexing, "BLOCK", 4)
    monkeypatch.setattr(module, "BLOCK", 4)
    for index in range(11):
        folder.put(f"p/{index:02d}.png", picture(index))
    store = DatasetStore(folder)
    card, _ = store.create(spec(prefix="p/"))
    rows = store.rows("d")
    assert len(list(folder.keys(f"datasets/d/{card.version}/rows/"))) == 3
    assert [rows[index].id for index in (0, 3, 4, 10, -1)] == ["00.png", "03.png", "04.png", "10.png", "10.png"]
    assert [row.id for row in rows[2:9:3]] == ["02.png", "05.png", "08.png"]
    with pytest.raises(IndexError):
        rows[11]
    images = StoredImages(folder, store)
    for index in range(11):
        assert images.get(sha256_hex(picture(index))) == picture(index)
    store.delete(card)
    with pytest.raises(UnknownDatasetError):
        store.card("d")
    assert store.newest() == []
    assert len(store.rows(card.reference)) == 11
    assert images.get(sha256_hex(picture(3))) == picture(3)
    assert store.create(spec(prefix="p/"))[1]
    assert store.card("d") == card


def test_status(folder: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import accentor.storage.datasets as module

    store = DatasetStore(folder)
    with pytest.raises(UnknownDatasetError):
        store.status("d")
    assert store.begin("d").state == "indexing"
    with pytest.raises(IllegalTransitionError, match="'d' is being made"):
        store.begin("d")
    store.tell("d", "indexing", 40)
    assert store.status("d").done == 40
    monkeypatch.setattr(module, "STALE_S", -1.0)
    broken = store.status("d")
    assert broken.state == "failed"
    assert broken.failure is not None
    assert "broke off after 40 members" in broken.failure.detail
    store.begin("d")
    monkeypatch.setattr(module, "STALE_S", 120.0)
    store.tell("d", "failed", 3, InvalidRequestError("no image"))
    failed = store.status("d")
    assert failed.failure is not None
    assert (failed.state, failed.failure.code, failed.failure.detail) == ("failed", "invalid-request", "no image")
    folder.put("p/a.png", picture(1))
    card, _ = store.create(spec(prefix="p/"))
    assert store.status("d").state == "failed"
    assert store.status("d").card == card
    store.tell("d", "ready", 1)
    assert store.status("d").state == "ready"
