"""Building an atlas of the reference model: what it shows, and that it goes on after it was killed."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from accentor.engine import load_model
from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items
from accentor.engine.atlas.agreement import agreement
from accentor.engine.atlas.building import Build, Told
from accentor.engine.atlas.evaluating import Evaluator, Evidence, KeptInFolder
from accentor.engine.atlas.folder import repeats
from accentor.engine.atlas.layout import nearest_of, positions_of, principal
from accentor.engine.atlas.pictures import still_rising
from accentor.engine.atlas.planning import Wanted
from accentor.engine.atlas.ranks import Ranks
from accentor.engine.dictionaries import DirectionDictionary, EncoderDictionary, channels_of
from accentor.engine.reference import sample_paths
from accentor.engine.scan import Item, scan
from accentor.engine.scan.sample import priority
from accentor.errors import InvalidImageError, NotFoundError, TooLargeError, UnknownLayerError
from accentor.spec import JobSpec, KeyMaker, Recipe
from accentor.spec.atlases import sweeping

RECIPE = Recipe(steps=4, crops=2, strengths=(-1, 0, 1), snapshots=4)
OPTIONS = AtlasOptions(top_k=2, limit=3, images=1)
SCENES = 8
CHUNK = re.compile(r'Atlas\.register\("[^"]+",(.*)\);\n', re.DOTALL)


def read_chunk(out, name):
    return json.loads(CHUNK.fullmatch((out / "data" / f"{name}.js").read_text())[1])


@pytest.fixture(scope="module")
def model():
    return load_model("reference", device="cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for place, path in enumerate(sample_paths()[:SCENES]):
        inner = folder / ("stripes", "dots")[place % 2]
        inner.mkdir(exist_ok=True)
        shutil.copy(path, inner / path.name)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def built(model, scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("atlas")
    build_atlas(model, "block4", folder_items(scenes), out, RECIPE, OPTIONS, dataset="scenes")
    return out


def test_a_feature_shows_its_top_images_with_values_measured_by_the_model(model, scenes, built):
    feature = read_chunk(built, "features/1")
    assert feature["name"] == "channel:block4:1"
    tops = [one for one in feature["shown"] if one["chosen"] == "top"]
    assert len(tops) == 2
    assert tops[0]["value"] > tops[1]["value"]
    assert [frame["strength"] for frame in tops[0]["frames"]] == [-1, 0, 1]
    low, seed, high = (frame["value"] for frame in tops[0]["frames"])
    assert low < seed < high
    assert tops[0]["frames"][1]["distance"] == pytest.approx(0, abs=1e-3)
    assert tops[0]["frames"][2]["percentile"] == 100
    job = JobSpec.model_validate(tops[0]["job"])
    assert KeyMaker(model.card).key(job) in tops[0]["strip"]
    with Image.open(built / "pictures" / tops[0]["strip"]) as strip:
        assert strip.size == (3 * tops[0]["width"], tops[0]["height"])
    assert 0 < feature["coherence"] <= 1
    assert {"layer", "coherence", "natural", "random"} == set(feature["depths"][0])


def test_images_errors_and_gaps(built):
    head = read_chunk(built, "head")
    assert (head["features"], head["images"]) == (3, SCENES)
    assert head["gaps"][:2] == ["3 of 112 features are shown", "1 of 9 images could not be read"]
    assert "broken.png could not be read" in head["gaps"][2]
    assert head["errors"] > 0
    listed = read_chunk(built, "images/list-0")
    assert head["misclassified"] == sum(misclassified for *_, misclassified in listed)
    error = read_chunk(built, "errors/0")[0]
    image = read_chunk(built, f"images/{error['image']}")
    assert error["truth"] == image["label"] != error["predicted"]
    assert error["shown_predicted"]["frames"][-1]["value"] > error["shown_predicted"]["frames"][1]["value"]


def test_an_image_over_the_range_says_whether_the_feature_fires_on_it(model, scenes, built):
    for unit in range(3):
        at = scan(model, "block4", folder_items(scenes), 2).at_percentiles(unit)
        for one in read_chunk(built, f"features/{unit}")["shown"]:
            assert one.get("fires") == (at[one["percentile"]].fires if one["chosen"] == "percentile" else None)


def test_of_a_part_of_a_dictionary_an_image_shows_the_highest_of_the_part(scenes, built):
    for index in range(1, SCENES + 1):
        image = read_chunk(built, f"images/{index}")
        values = [one["value"] for one in image["features"]]
        assert {one["feature"] for one in image["features"]} == {0, 1, 2}
        assert values == sorted(values, reverse=True)
    items = folder_items(scenes)
    drawn = min(range(1, SCENES + 1), key=lambda index: priority(items[index].id))
    on_their_own = {unit: read_chunk(built, f"features/{unit}")["shown"] for unit in range(3)}
    for one in read_chunk(built, f"images/{drawn}")["features"]:
        assert one["shown"] or any(shown["image"] == drawn for shown in on_their_own[one["feature"]])


def test_the_top_features_of_an_image_are_all_accentuated(model, scenes, tmp_path):
    options = AtlasOptions(top_k=1, images=2)
    build = Build(model, channels_of(model, "classifier"), folder_items(scenes), tmp_path, RECIPE, options, "s", Told())
    asked = {(one.feature.unit, one.item.id) for one in build.plan.wanted()}
    assert len(build.plan.whole) == 2
    for image, units in build.plan.whole.items():
        row = build.plan.rows[image]
        assert units == list(row.features[:4])
        assert {(unit, build.items[image].id) for unit in units} <= asked


@pytest.mark.parametrize(("strengths", "at"), [((0, 2), 2.0), ((0.5, 2), 2.0), ((0.5, 1, 2), 1.0), ((-1,), None)])
def test_all_that_is_told_of_a_feature_is_of_pictures_at_one_strength(
    model, scenes, tmp_path, monkeypatch, strengths, at
):
    measured, compared = [], []
    evaluate = Evaluator.evaluate
    monkeypatch.setattr(Evaluator, "evaluate", lambda *given: measured.append(given[2]) or evaluate(*given))
    monkeypatch.setattr("accentor.engine.atlas.entries.agreement", lambda *ways: compared.append(ways) or 1.0)
    recipe = sweeping(Recipe(steps=2, crops=2, strengths=strengths))
    options = AtlasOptions(top_k=2, limit=1, images=0, errors=0)
    build = Build(model, channels_of(model, "block4"), folder_items(scenes), tmp_path, recipe, options, "s", Told())
    build.run()
    feature = read_chunk(tmp_path, "features/0")
    assert feature["gain_at"] == at
    if at is None:
        assert (measured, compared, feature.get("coherence")) == ([[]], [], None)
        return
    for wanted, picture in measured[0]:
        assert torch.equal(picture, build.pictures.frame(wanted, at))
    (ways,) = compared
    first = measured[0][0][0]
    for (before, after), store in zip(ways, (build.pictures, build.again), strict=True):
        assert torch.equal(before, store.frame(first, 0.0))
        assert torch.equal(after, store.frame(first, at))
        assert not torch.equal(before, after)


@pytest.mark.parametrize("count", [0, 2])
def test_the_surest_errors_are_shown_as_many_as_are_wanted(model, scenes, tmp_path, count):
    options = AtlasOptions(top_k=1, images=0, limit=1, errors=count)
    build = Build(model, channels_of(model, "block4"), folder_items(scenes), tmp_path, RECIPE, options, "s", Told())
    asked = [(one.feature.unit, one.item.id) for one in build.plan.wanted() if one.feature.kind == "logit"]
    wrong = sorted(build.plan.scan.rows.misclassified, key=lambda row: row.probability)
    assert len(wrong) > 2
    assert {image for _, image in asked} == {build.items[row.image].id for row in wrong[len(wrong) - count :]}
    assert len(asked) == 2 * count


def test_built_again_nothing_is_made_and_with_more_only_what_is_new(model, scenes, built):
    told = []
    again = Told(say=told.append)
    build_atlas(model, "block4", folder_items(scenes), built, RECIPE, OPTIONS, told=again)
    assert any(line.startswith("accentuate: 0 pictures to make") for line in told)
    told.clear()
    more = AtlasOptions(top_k=2, limit=4, images=1)
    build_atlas(model, "block4", folder_items(scenes), built, RECIPE, more, told=again)
    (line,) = [line for line in told if line.startswith("accentuate")]
    made, there = (int(number) for number in re.findall(r"\d+", line))
    assert 0 < made <= 7
    assert there > 6


def pictures_in(site):
    folder = site / "pictures"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_built_again_with_less_the_pictures_are_those_of_the_site(model, scenes, built, tmp_path):
    out = Path(shutil.copytree(built, tmp_path / "out"))
    less = AtlasOptions(top_k=1, limit=1, images=0, errors=0)
    build_atlas(model, "block4", folder_items(scenes), out, RECIPE, less)
    text = "".join(path.read_text() for path in (out / "data").rglob("*.js"))
    named = set(re.findall(r'"(?:strip|where|thumbnail)":"([^"]+)"', text))
    assert pictures_in(out) == named < pictures_in(built)


def test_over_more_images_only_what_is_new_is_computed(model, tmp_path, monkeypatch):
    """Two images come first of ten, in a folder of their own; what shows none of them is there already."""
    monkeypatch.setattr("accentor.engine.atlas.building.SHARD", 2)
    monkeypatch.chdir(tmp_path)
    scenes = tmp_path / "scenes"
    paths = sample_paths()[: SCENES + 2]
    scanned, evaluated = [], []
    activations, measure = model.activations, Evaluator._measure
    options = AtlasOptions(top_k=2, limit=12, images=1)

    def build(new):
        inner = scenes / ("a" if new else "b")
        inner.mkdir(parents=True)
        for path in paths[SCENES:] if new else paths[:SCENES]:
            shutil.copy2(path, inner / path.name)
        told = []
        scanned.clear()
        evaluated.clear()
        items = folder_items(Path("scenes"))
        made = Build(
            model, channels_of(model, "block4"), items, tmp_path / "out", RECIPE, options, "s", Told(told.append)
        )
        with monkeypatch.context() as patch:
            patch.setattr(model, "activations", lambda x, names: scanned.append(len(x)) or activations(x, names))
            plan = made.plan
        with monkeypatch.context() as patch:
            patch.setattr(Evaluator, "_measure", lambda *given: evaluated.append(given[1].unit) or measure(*given))
            made.run()
        tops = {unit: [plan.items[top.image].id for top in plan.scan.top_of(unit)[:2]] for unit in plan.units}
        (line,) = [line for line in told if line.startswith("accentuate")]
        return plan, tops, [int(number) for number in re.findall(r"\d+", line)]

    before, tops, _ = build(new=False)
    assert sum(scanned) == SCENES
    assert evaluated == before.units
    after, more, (made, there) = build(new=True)
    assert after.scan.seen == SCENES + 2
    assert 2 <= sum(scanned) < SCENES
    assert [row.id for row in after.drawn(4)] == [row.id for row in before.drawn(4)]
    assert evaluated == [unit for unit in after.units if tops[unit] != more[unit]]
    assert 0 < len(evaluated) < len(after.units)
    assert there > made > 0


def test_killed_in_the_middle_it_goes_on(scenes, tmp_path):
    out = tmp_path / "atlas"
    command = [sys.executable, "-c", "from accentor.cli import main; main()", "atlas", "build", "--local"]
    command += ["--features", "block4", "--dataset", str(scenes), "--out", str(out)]
    command += ["--limit", "3", "--top-k", "2", "--images", "0", "--steps", "4", "--recipe", "fast"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = out / ".cache" / "pictures"
    end = time.monotonic() + 120
    while not list(records.glob("*/*.json")):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    kept = {path: path.stat().st_mtime_ns for path in records.glob("*/*.json")}
    assert not (out / "index.html").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (out / "index.html").exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert read_chunk(out, "head")["failures"] == 0
    assert all(one["strip"] for one in read_chunk(out, "features/0")["shown"])


FATES = {
    "goes": "No such file or directory",
    "closes": "Is a directory",
    "changes": "has changed since it was scanned",
}


@pytest.fixture(params=FATES)
def losing(request, tmp_path):
    """Return a folder of four images, what loses the first, its path, and why it is lost."""
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    lost, *_ = [Path(shutil.copy(path, scenes / path.name)) for path in sample_paths()[:4]]

    def lose():
        if request.param == "changes":
            shutil.copy(sample_paths()[9], lost)
            return
        lost.unlink()
        if request.param == "closes":
            lost.mkdir()

    return scenes, lose, lost, FATES[request.param]


def begun(step, change):
    """Return who makes a change as a step has begun."""
    return Told(say=lambda line: change() if line.startswith(step) else None)


def once(change):
    """Return who makes a change when all images were scanned."""
    changed = []
    return Told(on_scan=lambda done: changed or changed.append(change()))


def contents(out):
    """Return what a site tells, but for when it was made."""
    pages = {path.relative_to(out): path.read_text() for path in (out / "data").rglob("*.js") if path.stem != "head"}
    return pages, read_chunk(out, "head") | {"made_at": None}


def shown_in(out):
    return [one for unit in range(3) for one in read_chunk(out, f"features/{unit}")["shown"]]


def assert_named(out, lost, why):
    gaps = read_chunk(out, "head")["gaps"]
    place = gaps.index("1 of 4 images are gone or have changed since they were scanned")
    assert gaps[place + 1].startswith(str(lost))
    assert why in gaps[place + 1]


def test_an_image_that_is_lost_before_its_pictures_are_made_is_left_out(model, losing, tmp_path):
    scenes, lose, lost, why = losing
    out = tmp_path / "atlas"
    build_atlas(model, "block4", folder_items(scenes), out, RECIPE, OPTIONS, told=begun("accentuate", lose))
    assert_named(out, lost, why)
    failed = [one["failure"] for one in shown_in(out) if one["image"] == 0]
    assert failed
    assert all(str(lost) in failure and why in failure for failure in failed)
    assert all(one["strip"] for one in shown_in(out) if one["image"] != 0)
    head = read_chunk(out, "head")
    assert len(failed) <= head["failures"]
    assert any(gap.startswith(f"{head['failures']} pictures could not be made") for gap in head["gaps"])


def test_an_image_that_is_lost_as_it_was_scanned_is_not_selected(model, losing, tmp_path):
    scenes, lose, lost, why = losing
    out = tmp_path / "atlas"
    build_atlas(model, "block4", folder_items(scenes), out, RECIPE, OPTIONS, told=once(lose))
    assert_named(out, lost, why)
    assert {one["image"] for one in shown_in(out)} == {1, 2, 3}
    assert all(one["strip"] for one in shown_in(out))
    head = read_chunk(out, "head")
    assert (head["images"], head["failures"]) == (3, 0)
    assert [row[0] for row in read_chunk(out, "images/list-0")] == [1, 2, 3]


@pytest.mark.parametrize("losing", ["goes", "changes"], indirect=True)
@pytest.mark.parametrize("step", ["second seed", "evaluate"])
def test_of_an_image_that_is_lost_later_the_pictures_are_shown(model, losing, tmp_path, step):
    scenes, lose, lost, why = losing
    out = tmp_path / "atlas"
    build_atlas(model, "block4", folder_items(scenes), out, RECIPE, OPTIONS, told=begun(step, lose))
    assert_named(out, lost, why)
    assert all(one["strip"] for one in shown_in(out))
    assert not any("could not be made" in gap for gap in read_chunk(out, "head")["gaps"])
    assert "thumbnail" not in {name for name, known in read_chunk(out, "images/0").items() if known}


@pytest.mark.parametrize("losing", ["changes"], indirect=True)
@pytest.mark.parametrize("told", [once, partial(begun, "accentuate"), partial(begun, "second")])
def test_built_again_after_images_were_lost_the_atlas_is_as_if_made_anew(model, losing, tmp_path, told):
    scenes, lose, *_ = losing
    out, anew = tmp_path / "atlas", tmp_path / "anew"
    build_atlas(model, "block4", folder_items(scenes), out, RECIPE, OPTIONS, told=told(lose))
    for folder in (out, anew):
        build_atlas(model, "block4", folder_items(scenes), folder, RECIPE, OPTIONS)
    assert contents(out) == contents(anew)


def test_what_was_scanned_of_an_image_as_it_changed_is_not_taken_for_the_image(model, tmp_path):
    """For a moment a file is another, and it is that moment in which it is scanned."""
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    path = Path(shutil.copy2(sample_paths()[0], scenes / "one.png"))
    shutil.copy2(sample_paths()[1], scenes / "two.png")
    other, aside = Path(shutil.copy2(sample_paths()[9], tmp_path)), tmp_path / "aside.png"

    def read():
        path.rename(aside)
        other.rename(path)
        return path

    items = folder_items(scenes)
    out, anew = tmp_path / "atlas", tmp_path / "anew"
    build_atlas(model, "block4", [Item(str(path), read), items[1]], out, RECIPE, OPTIONS)
    path.unlink()
    aside.rename(path)
    for folder in (out, anew):
        build_atlas(model, "block4", items, folder, RECIPE, OPTIONS)
    assert contents(out) == contents(anew)


def test_nothing_is_published_if_no_image_is_left(model, tmp_path):
    path = Path(shutil.copy(sample_paths()[0], tmp_path))
    with pytest.raises(InvalidImageError, match=f"none of the 1 images that were scanned is left: {path} cannot be"):
        build_atlas(model, "block4", folder_items(tmp_path), tmp_path / "out", RECIPE, OPTIONS, told=once(path.unlink))


def test_what_is_missing_is_told_before_the_images_that_could_not_be_read(model, scenes, tmp_path):
    for index in range(60):
        (tmp_path / f"{index:02}.png").write_bytes(b"no picture %d" % index)
    shutil.copy(sample_paths()[0], tmp_path)
    items = folder_items(tmp_path)
    build = Build(model, channels_of(model, "block4"), items, tmp_path / "atlas", RECIPE, OPTIONS, "s", Told())
    gaps = build.plan.gaps(["a picture could not be made"])
    assert gaps[:3] == [
        "3 of 112 features are shown",
        "a picture could not be made",
        "60 of 61 images could not be read",
    ]
    assert (len(gaps), gaps[-1]) == (51, "and 13 more")


def test_files_that_repeat_another_are_passed_over(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for path in sample_paths()[:2]:
            shutil.copy(path, tmp_path / label)
    (tmp_path / "b" / "one.png").write_bytes(b"1")
    (tmp_path / "b" / "two.png").write_bytes(b"2")
    said = []
    items = folder_items(tmp_path, said.append)
    assert [(item.label, Path(item.id).name) for item in items] == [
        ("a", sample_paths()[0].name),
        ("a", sample_paths()[1].name),
        ("b", "one.png"),
        ("b", "two.png"),
    ]
    assert said == [
        f"2 of 6 files repeat another, and are passed over: {tmp_path / 'b' / sample_paths()[0].name} is the first"
    ]


def test_a_file_that_cannot_be_read_repeats_none(tmp_path):
    there = [Path(shutil.copy(sample_paths()[0], tmp_path / name)) for name in ("a.png", "b.png")]
    gone = tmp_path / "gone.png"
    closed = tmp_path / "closed.png"
    closed.mkdir()
    assert repeats([gone, closed, *there]) == {there[1]}
    size = closed.stat().st_size
    (tmp_path / "c.png").write_bytes(b"1" * size)
    assert repeats([closed, tmp_path / "c.png"]) == set()


def test_coherence_is_measured_with_the_images_that_are_still_there(model, tmp_path):
    def gone():
        raise NotFoundError("it is gone")

    feature = channels_of(model, "block4").feature(1)
    natural = [Wanted(feature, Item(path.name, lambda path=path: path), path.name) for path in sample_paths()[:3]]
    random = [(Item(path.name, lambda path=path: path), path.name) for path in sample_paths()[3:5]]
    made = [(one, torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))) for one in natural[:2]]
    without = [*natural[:2], Wanted(feature, Item("gone", gone), "gone")]

    def measured(name, natural, random):
        kept = KeptInFolder(tmp_path / name)
        found = Evaluator(kept, model, random).evaluate(feature, made, natural, lambda one: one.sha256)
        return found, len(list(tmp_path.glob(f"{name}/*/*.json")))

    there, is_kept = measured("there", natural[:2], random[:1])
    assert is_kept
    assert there.mean > 0
    assert measured("gone", without, [random[0], (Item("gone", gone), "gone")]) == (there, 0)
    alone, is_kept = measured("alone", natural[:2], [(Item("gone", gone), "gone")])
    assert (alone.mean, is_kept) == (there.mean, 0)
    assert {random for _, _, _, random in alone.depths} == {None}
    assert measured("none", [natural[0], without[-1]], random) == (Evidence(None, ()), 0)


def test_a_million_features_are_refused(model, scenes, tmp_path):
    vectors = torch.zeros(1, 112).expand(1_000_000, 112)
    dictionary = DirectionDictionary(name="wide", layer="block4", vectors=vectors)
    with pytest.raises(TooLargeError, match="'wide' has 1000000 features, at most 262144 are taken"):
        build_atlas(model, dictionary, folder_items(scenes), tmp_path, RECIPE, OPTIONS)


def test_bad_folders_and_layers_are_refused(model, scenes, tmp_path):
    with pytest.raises(InvalidImageError, match="no images"):
        folder_items(tmp_path)
    with pytest.raises(InvalidImageError, match="no folder"):
        folder_items(tmp_path / "none")
    with pytest.raises(UnknownLayerError, match="block4"):
        build_atlas(model, "block44", folder_items(scenes), tmp_path / "out", RECIPE)


def test_the_map_keeps_what_lies_apart_apart_and_finds_neighbours():
    generator = torch.Generator().manual_seed(0)
    centers = torch.nn.functional.normalize(torch.randn(3, 12, generator=generator), dim=1)
    points = torch.nn.functional.normalize(
        centers.repeat_interleave(5, dim=0) + 0.02 * torch.randn(15, 12, generator=generator), dim=1
    )
    placed = principal(points)
    for group in range(3):
        own = placed[5 * group : 5 * group + 5]
        others = torch.cat([placed[: 5 * group], placed[5 * group + 5 :]])
        assert torch.cdist(own, own).max() < torch.cdist(own, others).min()
    assert all(int(other) // 5 == row // 5 for row, others in enumerate(nearest_of(points, 4)) for other in others)
    assert principal(torch.ones(1, 1)).shape == (1, 2)


def test_changes_agree_if_they_are_alike_but_for_fine_detail():
    generator = torch.Generator().manual_seed(0)
    seed, change, other = torch.rand(3, 3, 64, 64, generator=generator) - 0.5
    coarse = [
        torch.nn.functional.avg_pool2d(one, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
        for one in (change, other)
    ]
    fine = 0.1 * torch.randn(3, 64, 64, generator=generator)
    first = (seed, seed + 10 * coarse[0])
    assert agreement(first, (seed, seed + 10 * coarse[0] + fine)) > 0.9
    assert agreement(first, (seed, seed + 10 * coarse[1])) < 0.5
    assert agreement((seed, seed), (seed, seed + coarse[1])) == 1


def test_umap_keeps_groups_together():
    pytest.importorskip("umap")
    generator = torch.Generator().manual_seed(0)
    centers = torch.nn.functional.normalize(torch.randn(3, 12, generator=generator), dim=1)
    points = centers.repeat_interleave(20, dim=0) + 0.05 * torch.randn(60, 12, generator=generator)
    placed = positions_of(torch.nn.functional.normalize(points, dim=1))
    assert not torch.allclose(placed, principal(torch.nn.functional.normalize(points, dim=1)))
    middles = placed.view(3, 20, 2).mean(dim=1)
    assert (torch.cdist(placed, middles).argmin(dim=1) == torch.arange(3).repeat_interleave(20)).all()
    assert torch.equal(placed, positions_of(torch.nn.functional.normalize(points, dim=1)))


def test_percentiles_are_those_of_the_scan():
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    values[3, 1] = torch.nan
    values[:, 2] = torch.inf
    ranks = Ranks(values)
    for value in (-9.0, values[7, 0].item(), 0.1, 9.0):
        assert ranks.percentile(0, value) == pytest.approx((values[:, 0] < value).double().mean().item() * 100)
        there = values[:, 1][~values[:, 1].isnan()]
        assert ranks.percentile(1, value) == pytest.approx((there < value).double().mean().item() * 100)
        assert ranks.percentile(2, value) == 0


@pytest.mark.parametrize(
    ("points", "rising"),
    [
        ([(0, 0.0), (3, 3.0), (4, 3.1)], False),
        ([(0, 0.0), (3, 1.0), (4, 3.0)], True),
        ([(0, 0.0), (4, 3.0)], False),
        ([(0, 2.0), (3, 1.0), (4, 1.5)], False),
    ],
)
def test_a_way_that_speeds_up_at_its_end_has_not_converged(points, rising):
    assert still_rising(points) is rising


def test_a_dictionary_with_broken_features_over_one_image(model, tmp_path):
    folder = tmp_path / "one"
    (folder / "unheard").mkdir(parents=True)
    shutil.copy(sample_paths()[0], folder / "unheard" / "one.png")
    vectors = torch.randn(4, 112, generator=torch.Generator().manual_seed(0))
    vectors[1] = torch.nan
    vectors[2] = 0
    encoder = EncoderDictionary(
        name="<b>sae</b>", layer="block4", vectors=vectors, activation="relu", labels=("a", "b", "c", "<i>d</i>")
    )
    out = tmp_path / "atlas"
    build_atlas(model, encoder, folder_items(folder), out, RECIPE, OPTIONS)
    head = read_chunk(out, "head")
    assert (head["features"], head["images"], head["errors"]) == (2, 1, 0)
    assert "2 features of the dictionary are zero or not finite" in head["gaps"]
    assert "images whose label is none of the model's classes: 1, such as 'unheard'" in head["gaps"]
    (image,) = read_chunk(out, "images/list-0")
    assert (image[2], image[4]) == ("unheard", False)
    feature = read_chunk(out, "features/3")
    assert (feature["name"], feature["label"]) == ("dictionary:<b>sae</b>#3", "<i>d</i>")
    assert "coherence" not in feature
    (shown,) = feature["shown"]
    assert shown["frames"][0]["value"] < shown["frames"][1]["value"] < shown["frames"][2]["value"]
    assert shown["job"]["feature"] == "dictionary:<b>sae</b>#3"
