"""A scan against a plain computation that holds all activations."""

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image
from pyarrow import parquet

from accentor.engine import Model
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary
from accentor.engine.scan import PERCENTILES, Item, Scan, join, merge, read_scan, scan, scan_in_shards, write_scan
from accentor.engine.scan.bins import edges
from accentor.engine.scan.tables import QUANTILES
from accentor.errors import InvalidFeatureError, InvalidRequestError, UnitOutOfRangeError, UnknownLayerError
from accentor.spec.scans import cut

LABELS = ("ash", "Birch", "cedar", "date palm", "unknown", None)


def pictures(count: int, height: int = 32, width: int = 32) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.rand(3, height, width, generator=draw) for _ in range(count)]


def items(count: int, start: int = 0) -> list[Item]:
    found = pictures(start + count)
    return [
        Item(f"picture {index}", lambda index=index: found[index], LABELS[index % len(LABELS)])
        for index in range(start, start + count)
    ]


def everything(model: Model, images: list[torch.Tensor], layer: str = "late") -> torch.Tensor:
    """Return [images, channels, positions]."""
    with torch.no_grad():
        return model.activations(torch.stack(images), frozenset([layer]))[layer].flatten(2)


def same(first: Scan, second: Scan) -> None:
    assert first.settings == second.settings
    assert (first.seen, first.skipped) == (second.seen, second.skipped)
    for name in ("count", "fired", "histogram"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    for name in ("total", "squares"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name))
    torch.testing.assert_close(first.top.values, second.top.values)
    assert torch.equal(first.top.notes, second.top.notes)
    torch.testing.assert_close(first.bottom.values, second.bottom.values)
    assert torch.equal(first.bottom.notes, second.bottom.notes)
    assert torch.equal(first.sampled.priorities, second.sampled.priorities)
    assert torch.equal(first.sampled.images, second.sampled.images)
    torch.testing.assert_close(first.sampled.values, second.sampled.values)
    assert torch.equal(first.sampled.fires, second.sampled.fires)
    assert [(r.image, r.id, r.label, r.prediction, r.features) for r in first.rows] == [
        (r.image, r.id, r.label, r.prediction, r.features) for r in second.rows
    ]


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_statistics(tiny: Model, reduce: str, batch: int):
    images = pictures(40)
    found = scan(tiny, "late", images, 5, reduce=reduce, batch=batch, threads=2)
    plain = everything(tiny, images)
    values = plain.mean(dim=2) if reduce == "mean" else plain.amax(dim=2)
    best = values.sort(dim=0, descending=True)
    torch.testing.assert_close(found.top.values, best.values[:5].T)
    for unit in range(8):
        tops = found.top_of(unit)
        assert [top.image for top in tops] == best.indices[:5, unit].tolist()
        assert [top.row * 8 + top.column for top in tops] == [int(plain[t.image, unit].argmax()) for t in tops]
        assert (tops[0].y, tops[0].x) == (tops[0].row * 4 + 2, tops[0].column * 4 + 2)
    torch.testing.assert_close(found.mean, values.mean(dim=0))
    torch.testing.assert_close(found.std, values.std(dim=0, correction=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.smallest, values.amin(dim=0))
    torch.testing.assert_close(found.fires, (plain.amax(dim=2) > 0).float().mean(dim=0))
    torch.testing.assert_close(found.quantile(0.3), values.quantile(0.3, dim=0))
    bounds = [-math.inf, *edges().tolist(), math.inf]
    expected = [
        [int(((column >= low) & (column < high)).sum()) for low, high in zip(bounds, bounds[1:], strict=False)]
        for column in values.T
    ]
    assert found.histogram.sum() == 40 * 8
    assert (found.histogram - torch.tensor(expected)).abs().sum() <= 2
    between = values[:, 3].sort().values[14:16].mean()
    assert found.percentile_of(3, float(between)) == pytest.approx(37.5)


def test_images_at_percentiles_are_exact_while_all_are_sampled(tiny: Model):
    images = pictures(101)
    found = scan(tiny, "late", images, 3)
    values = everything(tiny, images).mean(dim=2)
    for unit in range(8):
        order = values[:, unit].argsort()
        expected = {percent: int(order[percent]) for percent in PERCENTILES}
        assert {percent: placed.image for percent, placed in found.at_percentiles(unit).items()} == expected
        assert found.at_percentiles(unit)[50][1] == pytest.approx(float(values[expected[50], unit]), abs=1e-6)


def test_images_at_percentiles_from_a_sample(tiny: Model):
    images = pictures(400)
    found = scan(tiny, "late", images, 8, sample=100)
    assert not found.exact
    assert len(found.sampled.images) == 100
    values = everything(tiny, images).mean(dim=2)
    for unit in range(8):
        ranks = {
            p: int((values[:, unit] < value - 1e-6).sum()) for p, (_, value, _) in found.at_percentiles(unit).items()
        }
        assert (ranks[0], ranks[99], ranks[100]) == (0, 395, 399)
        assert ranks[50] / 4 == pytest.approx(50, abs=15)
        assert ranks[90] / 4 == pytest.approx(90, abs=9)
        for percent, (image, value, _) in found.at_percentiles(unit).items():
            assert values[image, unit] == pytest.approx(value, abs=1e-6), percent
    quantiles = found.quantile(0.9)
    exact = values.quantile(0.9, dim=0)
    assert ((quantiles - exact).abs() <= 0.095 * exact.abs() + 1e-4).all()


def test_rows_and_misclassified(tiny: Model):
    found = scan(tiny, "late", items(12), 2, top_features=3, batch=5)
    with torch.no_grad():
        logits = tiny.module((torch.stack(pictures(12)) - tiny._mean) / tiny._std)
    values = everything(tiny, pictures(12)).mean(dim=2)
    rows = list(found.rows)
    assert [row.prediction for row in rows] == logits.argmax(dim=1).tolist()
    assert [row.probability for row in rows] == pytest.approx(logits.softmax(dim=1).amax(dim=1).tolist(), abs=1e-5)
    assert [row.label for row in rows] == [0, 1, 2, 3, None, None] * 2
    assert [list(row.features) for row in rows] == values.topk(3, dim=1).indices.tolist()
    wrong = [i for i in range(12) if i % 6 < 4 and int(logits[i].argmax()) != i % 6]
    assert wrong
    assert [row.image for row in found.rows.misclassified] == wrong


@pytest.mark.parametrize("sample", [10, 100])
@pytest.mark.parametrize("cut", [1, 13, 29])
def test_merged_shards_are_the_whole(tiny: Model, cut: int, sample: int):
    whole = scan(tiny, "late", items(30), 4, sample=sample)
    first = scan(tiny, "late", items(cut), 4, sample=sample)
    second = scan(tiny, "late", items(30 - cut, cut), 4, sample=sample).moved(cut)
    same(merge(first, second), whole)
    same(merge(second, first), whole)


def test_equal_values_go_to_the_first(tiny: Model):
    one, other = pictures(2)
    images = [other, one, one, other, one, other]
    found = scan(tiny, "late", images, 3, batch=2)
    values = everything(tiny, images).mean(dim=2)
    for unit in range(8):
        better = [1, 2, 4] if values[1, unit] > values[0, unit] else [0, 3, 5]
        assert [top.image for top in found.top_of(unit)] == better


def test_one_image_and_fewer_than_k(tiny: Model):
    found = scan(tiny, "late", pictures(1), 16)
    assert [len(found.top_of(unit)) for unit in range(8)] == [1] * 8
    assert {placed.image for placed in found.at_percentiles(0).values()} == {0}
    assert torch.equal(found.std, torch.zeros(8))
    assert len(scan(tiny, "late", pictures(3), 16).top_of(2)) == 3


def test_a_wide_image_is_cropped_and_its_point_moved_along(tiny: Model):
    wide = pictures(1, 64, 128)[0]
    top = scan(tiny, "late", [wide]).top_of(0)[0]
    assert (top.y, top.x) == ((top.row + 0.5) * 8, 32 + (top.column + 0.5) * 8)


def test_dictionaries(tiny: Model):
    images = pictures(9)
    draw = torch.Generator().manual_seed(1)
    vectors = torch.randn(5, 8, generator=draw)
    plain = everything(tiny, images).transpose(1, 2) @ vectors.T
    directions = DirectionDictionary(name="five", layer="late", vectors=vectors)
    torch.testing.assert_close(scan(tiny, directions, images).mean, plain.mean(dim=(0, 1)))
    encoder = EncoderDictionary(name="five", layer="late", vectors=vectors, activation="relu")
    torch.testing.assert_close(scan(tiny, encoder, images).mean, plain.relu().mean(dim=(0, 1)))
    torch.testing.assert_close(scan(tiny, encoder, images, code="pre").mean, plain.mean(dim=(0, 1)))


@pytest.mark.parametrize(
    ("activation", "given"),
    [("topk", {"k": 1, "bias": 9 * torch.eye(5)[0]}), ("jumprelu", {"threshold": torch.full((5,), 1.5)})],
)
@pytest.mark.parametrize("code", ["pre", "post"])
@pytest.mark.parametrize("at_once", [2**22, 1])
def test_an_encoder_fires_where_its_code_is_on(tiny: Model, monkeypatch, activation, given, code, at_once):
    """Whatever the values are, and however many images' codes are made at once."""
    monkeypatch.setattr("accentor.engine.scan.scanning.CODES", at_once)
    images = pictures(9)
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    encoder = EncoderDictionary(name="five", layer="late", vectors=vectors, activation=activation, **given)
    found = scan(tiny, encoder, images, code=code)
    codes = encoder.encode(everything(tiny, images).transpose(1, 2))
    assert torch.equal(found.fired, (codes > 0).any(dim=1).sum(dim=0))
    pre = encoder.pre_codes(everything(tiny, images).transpose(1, 2))
    assert found.fired.min() < (pre > 0).any(dim=1).sum(dim=0).min()
    shown = codes if code == "post" else pre
    torch.testing.assert_close(found.mean, shown.mean(dim=(0, 1)))


@pytest.mark.parametrize("sample", [20, 100])
@pytest.mark.parametrize("code", ["pre", "post"])
def test_an_image_at_a_percentile_is_one_that_the_feature_fires_on_or_not(tiny: Model, tmp_path: Path, code, sample):
    """As it is counted, whatever the sign of its value; in two parts that are written, read and merged."""
    images = pictures(60)
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    given = {"name": "five", "layer": "late", "vectors": vectors, "activation": "jumprelu"}
    plain = everything(tiny, images).transpose(1, 2)
    highest = EncoderDictionary(**given, threshold=torch.zeros(5)).pre_codes(plain).amax(dim=1)
    encoder = EncoderDictionary(**given, threshold=highest.quantile(0.4, dim=0).clamp(min=0.01))
    parts = [scan(tiny, encoder, part, 2, code=code, sample=sample) for part in (images[:25], images[25:])]
    first, second = (
        read_scan(write_scan(part, tmp_path / str(place), is_part=True)) for place, part in enumerate(parts)
    )
    found = merge(first, second.moved(25))
    fires = (encoder.encode(plain) > 0).any(dim=1)
    told = [(unit, *placed) for unit in range(5) for placed in found.at_percentiles(unit).values()]
    assert [fires_there for _, _, _, fires_there in told] == [bool(fires[image, unit]) for unit, image, _, _ in told]
    assert {fires_there for _, _, _, fires_there in told} == {True, False}
    assert code == "post" or any(value < 0 and fires_there for _, _, value, fires_there in told)


@pytest.mark.parametrize("activation", ["identity", "relu", "topk"])
@pytest.mark.parametrize("code", ["pre", "post"])
@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("at_once", [2**22, 1])
def test_where_the_images_of_many_features_are_largest(tiny: Model, monkeypatch, activation, code, reduce, at_once):
    """However late an image comes that is among the largest, and however few values are on."""
    monkeypatch.setattr("accentor.engine.scan.scanning.CODES", at_once)
    images = pictures(40)
    vectors = torch.randn(700, 8, generator=torch.Generator().manual_seed(1))
    k = 3 if activation == "topk" else None
    encoder = EncoderDictionary(name="many", layer="late", vectors=vectors, activation=activation, k=k)
    found = scan(tiny, encoder, images, 4, reduce=reduce, code=code, batch=8)
    pre = encoder.pre_codes(everything(tiny, images).transpose(1, 2))
    shown = pre if code == "pre" else encoder.codes_of(pre)
    values = shown.mean(dim=1) if reduce == "mean" else shown.amax(dim=1)
    torch.testing.assert_close(found.top.values, values.topk(4, dim=0).values.T)
    assert torch.equal(found.fired, (encoder.codes_of(pre).amax(dim=1) > 0).sum(dim=0))
    image, place = found.top.notes[..., 0], found.top.notes[..., 1]
    feature = torch.arange(700)[:, None]
    torch.testing.assert_close(shown[image, place, feature], shown.amax(dim=1)[image, feature])


def test_a_layer_without_positions(tiny: Model):
    top = scan(tiny, "head", pictures(3)).top_of(1)[0]
    assert (top.row, top.column, top.y, top.x) == (None, None, None, None)


def test_values_that_are_not_finite_are_left_out(tiny: Model):
    vectors = torch.eye(8)[:2]
    vectors[1, 0] = torch.nan
    found = scan(tiny, DirectionDictionary(name="two", layer="late", vectors=vectors), pictures(4), 2)
    assert found.count.tolist() == [4, 0]
    assert found.top_of(1) == []
    assert found.at_percentiles(1) == {}
    assert found.histogram.sum(dim=1).tolist() == [4, 0]


def test_damaged_images_are_passed_over(tiny: Model, tmp_path: Path):
    paths = []
    for index in range(20):
        path = tmp_path / f"{index:02d}.png"
        Image.new("RGB", (40, 40), (index * 12, 20, 30)).save(path)
        paths.append(path)
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    paths[11].unlink()
    found = scan(tiny, "late", paths, batch=4)
    assert found.seen == 18
    assert [(skipped.image, skipped.id) for skipped in found.skipped] == [(7, str(paths[7])), (11, str(paths[11]))]
    assert [row.image for row in found.rows] == [i for i in range(20) if i not in (7, 11)]


def test_written_and_read(tiny: Model, tmp_path: Path):
    found = scan(tiny, "late", [*items(20), Item("broken", lambda: b"x")], 4, sample=10)
    same(read_scan(write_scan(found, tmp_path / "scan")), found)
    few = scan(tiny, "head", items(2), 4)
    same(read_scan(write_scan(few, tmp_path / "few")), few)
    none = scan(tiny, "late", [Item("broken", lambda: b"x")], 4, may_be_empty=True)
    same(read_scan(write_scan(none, tmp_path / "none")), none)
    same(merge(none, few_of_late := scan(tiny, "late", items(3), 4).moved(1)), merge(few_of_late, none))
    with pytest.raises(InvalidRequestError, match="holds no scan"):
        read_scan(tmp_path)


@pytest.mark.parametrize(("layer", "count", "sample"), [("late", 40, 10), ("late", 3, 10), ("head", 20, 100)])
def test_the_tables_say_what_the_scan_says(tiny: Model, tmp_path: Path, layer: str, count: int, sample: int):
    found = scan(tiny, layer, items(count), 4, sample=sample)
    folder = write_scan(found, tmp_path)
    top = parquet.read_table(folder / "top.parquet").to_pylist()
    features = range(found.settings.features)
    for row, (feature, rank, said) in zip(
        top, [(i, rank, one) for i in features for rank, one in enumerate(found.top_of(i))], strict=True
    ):
        assert (row["feature"], row["rank"], row["image"], row["row"]) == (feature, rank, said.image, said.row)
        assert [row[name] for name in ("value", "y", "x")] == pytest.approx([said.value, said.y, said.x])
    at = parquet.read_table(folder / "percentiles.parquet").to_pylist()
    assert [(row["feature"], row["percentile"], row["image"], row["value"], row["fires"]) for row in at] == [
        (i, percent, *place) for i in features for percent, place in found.at_percentiles(i).items()
    ]
    table = parquet.read_table(folder / "features.parquet")
    for index, share in enumerate(QUANTILES):
        told = torch.tensor([row[index] for row in table.column("quantiles").to_pylist()])
        torch.testing.assert_close(told, found.quantile(share))


def test_joined_folders_are_the_whole(tiny: Model, tmp_path: Path):
    parts = [scan(tiny, "late", items(8, start), 4, sample=10) for start in (0, 8, 16)]
    folders = [write_scan(part, tmp_path / str(index), is_part=True) for index, part in enumerate(parts)]
    joined = join(folders, tmp_path / "whole")
    assert len(joined.rows) == 0
    same(read_scan(tmp_path / "whole"), scan(tiny, "late", items(24), 4, sample=10))
    with pytest.raises(InvalidRequestError, match="no scans to join"):
        join([], tmp_path / "none")


def test_the_network_may_be_used_meanwhile(tiny: Model):
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)

    def use(done: int) -> None:
        tiny.activations(pixels, frozenset(["late"]))["late"].sum().backward()

    found = scan(tiny, "late", items(10), 4, batch=4, on_progress=use)
    assert pixels.grad is not None
    same(found, scan(tiny, "late", items(10), 4))


GROWN = {
    "front": [40, 41, *range(40)],
    "middle": [*range(20), 40, *range(20, 40)],
    "behind": [*range(40), 40, 41],
    "taken out": [*range(12), *range(13, 40)],
    "moved": [*range(20, 40), *range(20)],
}


@pytest.mark.parametrize("change", GROWN)
def test_of_a_list_that_grew_the_shards_with_new_images_alone_are_scanned(tiny: Model, tmp_path: Path, change: str):
    read: list[str] = []
    every = items(42)

    def noted(numbers: Iterable[int]) -> list[Item]:
        return [
            Item(item.id, lambda item=item: read.append(item.id) or item.read(), item.label)
            for item in map(every.__getitem__, numbers)
        ]

    def scanned(numbers: Iterable[int], folder: str = "kept", **settings: int) -> Scan:
        return scan_in_shards(tiny, "late", noted(numbers), tmp_path / folder, shard=4, **{"top_k": 4, **settings})

    first = scanned(range(40))
    same(first, scan(tiny, "late", items(40), 4))
    assert len(read) == 40
    same(scanned(range(40)), first)
    assert len(read) == 40
    found = scanned(GROWN[change])
    parts = [[item.id for item in part] for part in cut(noted(GROWN[change]), 4, lambda item: item.id)]
    known = [[item.id for item in part] for part in cut(items(40), 4, lambda item: item.id)]
    again = [part for part in parts if part not in known]
    assert read[40:] == [name for part in again for name in part]
    assert len(again) <= {"taken out": 1, "moved": 3}.get(change, 2) < len(parts) / 2
    if 40 in GROWN[change]:
        assert again == [part for part in parts if {"picture 40", "picture 41"} & {*part}]
    identical(found, scanned(GROWN[change], "new"), tmp_path)
    same(found, scan(tiny, "late", [every[number] for number in GROWN[change]], 4))
    count = len(read)
    scanned(range(40), top_k=5)
    assert len(read) == count + 40


def identical(first: Scan, second: Scan, folder: Path) -> None:
    one, other = (write_scan(scan, folder / name) for name, scan in (("one", first), ("other", second)))
    for path in one.iterdir():
        assert parquet.read_table(path).equals(parquet.read_table(other / path.name)), path.name


def test_a_shard_with_an_image_that_could_not_be_read_is_scanned_again(tiny: Model, tmp_path: Path):
    told: list[int] = []
    damaged = items(20)
    damaged[9] = Item(damaged[9].id, lambda: b"no image", damaged[9].label)
    found = scan_in_shards(tiny, "late", damaged, tmp_path, shard=4, on_progress=told.append)
    assert [(skipped.image, skipped.id) for skipped in found.skipped] == [(9, "picture 9")]
    assert told[-1] == 20
    same(scan_in_shards(tiny, "late", items(20), tmp_path, shard=4), scan(tiny, "late", items(20)))


def test_rows_handed_on_are_not_kept(tiny: Model):
    handed: list[int] = []
    found = scan(tiny, "late", pictures(10), batch=4, rows=lambda rows: handed.append(len(rows)))
    assert handed == [4, 4, 2]
    assert len(found.rows) == 0


def test_what_cannot_be_scanned(tiny: Model, tmp_path: Path):
    with pytest.raises(InvalidRequestError, match="no image to scan: 0 could not be read"):
        scan(tiny, "late", [])
    with pytest.raises(InvalidRequestError, match="1 could not be read; the first: a: the image is empty"):
        scan(tiny, "late", [Item("a", lambda: b"")])
    with pytest.raises(InvalidRequestError, match="top_k is 0"):
        scan(tiny, "late", pictures(1), 0)
    with pytest.raises(UnknownLayerError):
        scan(tiny, "latte", pictures(1))
    with pytest.raises(InvalidFeatureError, match="3 units"):
        scan(tiny, DirectionDictionary(name="x", layer="late", vectors=torch.ones(1, 3)), pictures(1))
    with pytest.raises(InvalidRequestError, match="has no name"):
        scan_in_shards(tiny, "late", pictures(1), tmp_path)
    with pytest.raises(InvalidRequestError, match="none of 1 could be read"):
        scan_in_shards(tiny, "late", [tmp_path / "missing.png"], tmp_path)
    with pytest.raises(UnitOutOfRangeError, match="features 0 to 7"):
        scan(tiny, "late", pictures(1)).top_of(8)
    with pytest.raises(InvalidRequestError, match="top_k is 2 in one, 3 in the other"):
        merge(scan(tiny, "late", pictures(1), 2), scan(tiny, "late", pictures(1), 3))
