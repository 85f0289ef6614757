"""Publishing: the files of the site, what lies in them, and what is refused."""

import base64
import json
import re
import shutil
import struct
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as parquet
import pytest
from PIL import Image
from tests.atlas.synthetic import SIDE, STRENGTHS, atlas, color_at, features

from accentor.atlas import Frame, publish
from accentor.atlas.ordering import map_order
from accentor.atlas.packing import pack_indices, pack_numbers
from accentor.atlas.publishing import thumbnail_of
from accentor.atlas.sheets import Source
from accentor.errors import InvalidRequestError

CHUNK = re.compile(r'Atlas\.register\("([^"]+)",(.*)\);\n', re.DOTALL)
FIRST_PICTURE_BYTES = 300_000
BEFORE_FIRST_PICTURE = ("head", "map", "columns/coherence", "columns/flags")


def read_chunk(site, name):
    match = CHUNK.fullmatch((site / "data" / f"{name}.js").read_text())
    assert match
    assert match[1] == name
    return json.loads(match[2])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("atlas")
    return publish(atlas(root / "pictures", 150), root / "site").parent


def test_head_counts_what_there_is(site):
    head = read_chunk(site, "head")
    assert head == json.loads((site / "atlas.json").read_text())
    assert (head["features"], head["images"], head["errors"]) == (150, 12, 1)
    assert head["pictures"] == 150 * 4 + 12 + 2
    assert head["misclassified"] == 130
    assert (head["dead"], head["failures"]) == (15, 150)
    assert head["marks"] == {"dead-on-seed": 150}
    assert sum(head["summary"]["coherence"]["counts"]) == 150


def test_feature_chunk_holds_gain_and_frames(site):
    feature = read_chunk(site, "features/7")
    assert feature["name"] == "channel:block4:7"
    assert feature["gain"] == pytest.approx(3.0 / 1.5)
    assert [frame["strength"] for frame in feature["shown"][0]["frames"]] == list(STRENGTHS)
    assert feature["shown"][4]["failure"] == "out of memory"


@pytest.mark.parametrize(
    ("strengths", "at"),
    [((-1, 0, 0.5), 0.5), ((2,), 2), ((0, 2, 4), 4), ((0, 0.5, 1, 2), 1), ((0.5, 2), 2), ((-1, 0), None)],
)
def test_gain_and_thumbnail_are_of_the_strength_that_is_told(tmp_path, strengths, at):
    made = atlas(tmp_path / "pictures", 1)
    (feature,) = made.features
    frames = tuple(Frame(strength=one, value=2 + 3 * one) for one in strengths)
    shown = tuple(one.model_copy(update={"frames": frames}) for one in feature.shown if one.strip)
    feature = feature.model_copy(update={"shown": shown})
    site = publish(replace(made, features=[feature]), tmp_path / "site").parent
    thumbnail = thumbnail_of(feature, tmp_path)
    assert thumbnail == Source(tmp_path / "0.webp", SIDE * strengths.index(at or 0), SIDE)
    page = read_chunk(site, "features/0")
    assert page["gain_at"] == at
    assert page["gain"] == (None if at is None else pytest.approx(3 * at / feature.std))
    assert read_chunk(site, "head")["gain_at"] == ([] if at is None else [at])


def test_without_pictures_of_its_top_images_the_thumbnail_is_of_another(tmp_path):
    (feature,) = atlas(tmp_path, 1).features
    failed = {"strip": None, "frames": (), "failure": "out of memory"}
    shown = tuple(one.model_copy(update=failed) if one.chosen == "top" else one for one in feature.shown)
    feature = feature.model_copy(update={"shown": shown})
    assert thumbnail_of(feature, tmp_path) == Source(tmp_path / "5.webp", SIDE * STRENGTHS.index(1.0), SIDE)
    assert (feature.gain, thumbnail_of(feature.model_copy(update={"shown": ()}), tmp_path)) == (None, None)


def test_columns_names_and_thumbnails_share_one_order(site):
    places = read_chunk(site, "map")
    order = struct.unpack("<150H", base64.b64decode(places["index"]))
    assert sorted(order) == list(range(150))
    names = read_chunk(site, "names/0")
    assert [name for name, _ in names] == [f"channel:block4:{index}" for index in order]
    column = read_chunk(site, "columns/coherence")
    steps = struct.unpack("<150H", base64.b64decode(column["packed"]))
    for slot in (0, 70, 149):
        value = column["low"] + steps[slot] / 65534 * (column["high"] - column["low"])
        assert value == pytest.approx((order[slot] * 37 % 100) / 100, abs=1e-4)
        with Image.open(site / "thumbnails" / "features" / f"{slot // 64}.webp") as sheet:
            inside = slot % 64
            pixel = sheet.convert("RGB").getpixel((inside % 8 * 64 + 4, inside // 8 * 64 + 4))
        assert pixel == pytest.approx(color_at(order[slot] % 12, 1.0), abs=12)


def test_tables_hold_a_row_for_each_frame(site):
    table = parquet.read_table(site / "accentuations.parquet")
    assert table.num_rows == 150 * (4 * len(STRENGTHS) + 1)
    rows = table.filter(table["feature"].to_numpy() == 7).to_pylist()
    assert (rows[0]["strength"], rows[0]["value"], rows[0]["strip"]) == (-1.0, -1.0, "7.webp")
    fires = {row["percentile"]: row["fires"] for row in rows}
    assert fires == {None: None, 0.0: False, 50.0: None}
    assert len((site / "features.jsonl").read_text().splitlines()) == 150
    assert len((site / "images.jsonl").read_text().splitlines()) == 12


def test_before_the_first_picture_little_is_read_even_of_16000_features(tmp_path):
    count = 16_000
    plain = [
        feature.model_copy(update={"shown": feature.shown[:1]}) for feature in atlas(tmp_path / "p", count).features
    ]
    made = replace(atlas(tmp_path / "p", 1), features=plain)
    site = publish(made, tmp_path / "site").parent
    data = [site / "data" / f"{name}.js" for name in BEFORE_FIRST_PICTURE]
    code = [path for path in site.iterdir() if path.suffix in {".html", ".js", ".css"}]
    assert sum(path.stat().st_size for path in [*data, *code]) <= FIRST_PICTURE_BYTES


def test_published_again_it_is_replaced_and_nothing_is_inline(site, tmp_path):
    again = publish(atlas(tmp_path / "pictures", 3), tmp_path / "site").parent
    again = publish(atlas(tmp_path / "pictures", 4), again).parent
    assert json.loads((again / "atlas.json").read_text())["features"] == 4
    html = (again / "index.html").read_text()
    assert "Content-Security-Policy" in html
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", html)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", "".join(p.read_text() for p in again.glob("*.[jc]s*")))


def test_published_again_with_less_no_page_is_of_the_atlas_before(tmp_path):
    site = publish(atlas(tmp_path / "pictures", 5), tmp_path / "site").parent
    less = atlas(tmp_path / "pictures", 3)
    publish(replace(less, images=less.images[:2]), site)
    pages = {kind: {path.stem for path in (site / "data" / kind).iterdir()} for kind in ("features", "images")}
    assert pages == {"features": {"0", "1", "2"}, "images": {"list-0", "0", "1"}}


def named_as_made(folder, digits):
    """Put two pictures into a folder, called as a build calls them; return their names."""
    names = [f"{digits[:2]}/{digits}-1.webp", f"thumbnails/{digits}.webp"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "0.webp", folder / name)
    return names


def test_published_again_no_picture_of_the_atlas_before_stays_and_all_other_files_do(tmp_path):
    made = atlas(tmp_path / "pictures", 70)
    entries = list(made.features)
    strip, thumbnail = named_as_made(tmp_path / "pictures", "ab" * 32)
    shown = entries[0].shown[0].model_copy(update={"strip": strip})
    entries[0] = entries[0].model_copy(update={"shown": (shown,)})
    images = [made.images[0].model_copy(update={"thumbnail": thumbnail}), *made.images[1:]]
    site = publish(replace(made, features=entries, images=images), tmp_path / "site").parent
    assert (site / "pictures" / strip).exists()
    assert (site / "thumbnails/features/1.webp").exists()
    own = ["pictures/notes.txt", "pictures/ab/mine.webp", "pictures/ab.webp", "thumbnails/features/mine.webp"]
    for name in own:
        (site / name).write_text("mine")
    later, _ = named_as_made(tmp_path / "pictures", "cd" * 32)
    entries[0] = entries[0].model_copy(update={"shown": (shown.model_copy(update={"strip": f"cd/../{later}"}),)})
    publish(replace(made, features=entries[:3]), site)
    assert not (site / "pictures" / strip).exists()
    assert not (site / "pictures" / thumbnail).parent.exists()
    assert not (site / "thumbnails/features/1.webp").exists()
    kept = [f"pictures/{later}", "pictures/0.webp", "thumbnails/features/0.webp", "thumbnails/images/0.webp"]
    assert all((site / name).exists() for name in [*own, *kept])


def test_pictures_that_lie_where_they_are_published_stay(tmp_path):
    made = atlas(tmp_path / "site" / "pictures", 2)
    names = named_as_made(tmp_path / "site" / "pictures", "ab" * 32)
    for with_pictures in (True, False):
        publish(replace(made, features=[*features(2)]), tmp_path / "site", with_pictures=with_pictures)
    assert all((tmp_path / "site" / "pictures" / name).exists() for name in names)


def test_no_features_or_one_twice_is_refused(tmp_path):
    made = atlas(tmp_path / "pictures", 2)
    with pytest.raises(InvalidRequestError, match="0 features"):
        publish(replace(made, features=[]), tmp_path / "a")
    twice = [*made.features] * 2
    with pytest.raises(InvalidRequestError, match="feature 0 is in the atlas twice"):
        publish(replace(made, features=twice), tmp_path / "b")
    assert not (tmp_path / "b" / "index.html").exists()


def test_a_picture_outside_of_the_folder_is_refused(tmp_path):
    made = atlas(tmp_path / "pictures", 1)
    (feature,) = made.features
    shown = feature.shown[0].model_copy(update={"strip": "../../etc.webp"})
    with pytest.raises(InvalidRequestError, match="outside"):
        publish(replace(made, features=[feature.model_copy(update={"shown": (shown,)})]), tmp_path / "site")


def test_order_begins_with_landmarks_and_keeps_all():
    points = [(float(one % 40), float(one // 40)) for one in range(1600)]
    order = map_order(points, 64)
    assert sorted(order) == list(range(1600))
    quarters = {(points[one][0] >= 20, points[one][1] >= 20) for one in order[:64]}
    assert len(quarters) == 4
    steps = [abs(points[a][0] - points[b][0]) + abs(points[a][1] - points[b][1]) for a, b in pairwise(order[64:])]
    assert sum(steps) / len(steps) < 4


def test_packing_keeps_gaps_and_picks_the_width():
    packed = pack_numbers([1.0, None, 3.0])
    assert (packed["low"], packed["high"]) == (1.0, 3.0)
    assert struct.unpack("<3H", base64.b64decode(packed["packed"])) == (0, 65535, 65534)
    assert pack_indices([1, 65535])[0] == 2
    assert pack_indices([1, 65536])[0] == 4
