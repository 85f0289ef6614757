"""Where datasets are cut into shards, and what shards are known by."""

import pytest
from tests.worker.stubs import CARD

from accentor.spec import ModelCard
from accentor.spec.datasets import DatasetCard, Named
from accentor.spec.scans import ScanBatch, ScanSettings, WantedScan, cut

NAMES = [f"image {number}" for number in range(20_000)]


def parts(names: list[str], average: int = 64) -> list[tuple[str, ...]]:
    return [tuple(part) for part in cut(names, average, str)]


def test_shards_hold_all_in_their_order_and_have_bounds() -> None:
    found = parts(NAMES)
    assert [name for part in found for name in part] == NAMES
    sizes = [len(part) for part in found[:-1]]
    assert (min(sizes), max(sizes)) == (8, 256)
    assert 60 < sum(sizes) / len(sizes) < 80
    assert parts([]) == []


@pytest.mark.parametrize("place", [0, 1, 7_000, 19_999, 20_000])
def test_an_image_put_in_or_taken_out_changes_the_shard_that_it_is_in(place: int) -> None:
    known = set(parts(NAMES))
    grown = parts([*NAMES[:place], "new", *NAMES[place:]])
    assert [part for part in grown if part not in known] == [part for part in grown if "new" in part]
    less = parts([*NAMES[:place], *NAMES[place + 1 :]])
    assert sum(part not in known for part in less) <= 1


def test_names_that_never_end_a_shard() -> None:
    sizes = [len(part) for part in parts(["the same"] * 600)]
    assert sizes == [256, 256, 88]


def images(count: int) -> list[Named]:
    return [(f"{number:064x}", f"{number}.png", "a") for number in range(count)]


def batch_of(
    listed: list[Named], settings: ScanSettings | None = None, card: ModelCard = CARD, layer: str = "conv"
) -> ScanBatch:
    dataset = DatasetCard.model_validate(
        {
            "name": "d", "version": "0" * 16, "digest": "0" * 64, "source": "images", "images": len(listed),
            "bytes": 1, "block": 1, "created_at": "2026-01-02T00:00:00Z",
        }
    )  # fmt: skip
    return WantedScan(settings or ScanSettings(), dataset, card, layer).batch("b", listed)


def test_a_shard_is_known_by_its_images_and_by_how_they_are_scanned() -> None:
    listed = images(4_000)
    first = batch_of(listed)
    assert 4 < first.total < 12
    assert [index for job in range(first.total) for index in first.range(job)] == list(range(4_000))
    assert batch_of(listed) == first
    image, name, label = listed[-1]
    for change in ((image, "b.png", label), (image, name, None), ("f" * 64, name, label)):
        changed = batch_of([*listed[:-1], change])
        assert changed.shards[:-1] == first.shards[:-1]
        assert changed.shards[-1].key != first.shards[-1].key
    twin = CARD.layers[0].model_copy(update={"name": "twin"})
    wider = CARD.model_copy(update={"layers": (*CARD.layers, twin)})
    others = [
        batch_of(listed, ScanSettings(reduce="max")),
        batch_of(listed, card=CARD.model_copy(update={"digest": "e" * 64})),
        batch_of(listed, card=wider, layer="twin"),
    ]
    for other in others:
        assert not {shard.key for shard in other.shards} & {shard.key for shard in first.shards}


def test_a_scan_of_another_version_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    first = batch_of(images(2))
    monkeypatch.setattr("accentor.spec.scans.SCAN_VERSION", 0)
    other = batch_of(images(2))
    assert first.scan != other.scan
    assert first.shards[0].key != other.shards[0].key
