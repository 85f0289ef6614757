"""Accentuating: what it does to the feature, that it repeats, that pairs do not disturb one another, and bad input."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import accentor
from accentor.engine import Accentuation, Alignment, Diversity, Model, Pair, accentuate, accentuate_pairs, running
from accentor.engine import accentuate as accentuate_function
from accentor.engine.canvas import fit_canvas
from accentor.engine.memory import bytes_per_pair
from accentor.engine.running import DEAD_NOTE, Runner
from accentor.errors import (
    AccentorError,
    InvalidFeatureError,
    InvalidImageError,
    InvalidRecipeError,
    InvalidRequestError,
    NotDifferentiableError,
    NotFiniteError,
    OutOfMemoryError,
    UnitOutOfRangeError,
    UnknownLayerError,
)
from accentor.spec import PRESETS, Recipe, parse_feature

QUICK = Recipe(
    steps=6, crops=4, size=40, snapshots=3, precision="float32", regularization=0.3, learning_rate=0.05, decay=1.0,
    noise_std=0.02, noise_range=0.01, opacity_percentile=80.0, opacity_blur=2.0, opacity_every=1,
)  # fmt: skip
FORMS = ["pixel", "fourier", "phase"]
FEATURES = ["logit:1", "channel:early:2", "neuron:late:3@2,5", "channel:late:0 - 0.5*logit:2", "-channel:act:1"]


def photo(height=40, width=40, seed=0):
    """A smooth random picture, float [3, H, W]."""
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)[0]


def changed(recipe=QUICK, **settings):
    return Recipe.model_validate(recipe.model_dump() | settings)


def run(model, pairs, recipe=QUICK, **options):
    return [ending for _, ending in sorted(accentuate_pairs(model, pairs, recipe, **options), key=lambda one: one[0])]


def pair(feature="logit:1", seed=0, image=None):
    return Pair(photo() if image is None else image, parse_feature(feature), seed)


# --- what it does ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("feature", ["logit:1", "channel:early:2", "neuron:late:3@2,5", "logit:1 - logit:2"])
def test_accentuate_raises_and_suppress_lowers(tiny, form, feature):
    recipe = changed(parameterization=form, steps=10, regularization=0.0)
    up = accentuate(tiny, photo(), feature, recipe)
    down = accentuate(tiny, photo(), -1 * parse_feature(feature), recipe)
    assert up.after > up.before
    assert down.after > down.before
    assert down.before == pytest.approx(-up.before)
    assert -down.after < up.before < up.after


def test_values_are_the_features_on_the_clean_images(tiny, tiny_net):
    result = accentuate(tiny, photo(32, 32), "logit:3", changed(size=32))
    with torch.no_grad():
        before, after = (
            tiny_net((pixels[None] - tiny._mean) / tiny._std)[0, 3].item() for pixels in (photo(32, 32), result.pixels)
        )
    assert result.before == pytest.approx(before, abs=2e-3), "the method's resize shifts by a fraction of a pixel"
    torch.testing.assert_close(result.source, photo(32, 32))
    assert result.after - result.before == pytest.approx(after - before, rel=0.1)


@pytest.mark.parametrize("form", FORMS)
def test_more_regularisation_is_nearer(tiny, form):
    distances = []
    for alpha in (0.0, 0.3, 1.0, 10.0):
        recipe = changed(parameterization=form, regularization=alpha, steps=15, crops=8)
        distances.append(accentuate(tiny, photo(), "channel:late:3", recipe).trajectory[-1].distance)
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.5 * distances[0]


class Scaled(nn.Module):
    def __init__(self, net, scale):
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x):
        return self.scale * self.net(x)


def test_balance_makes_the_features_scale_irrelevant(tiny_net):
    models = [Model(Scaled(tiny_net, scale), input_size=32, regularization_layer="net.early") for scale in (1e3, 1e6)]
    one, other = (accentuate(model, photo(), "logit:1", changed(steps=4, regularization=0.5)) for model in models)
    assert other.before == pytest.approx(1000 * one.before, rel=1e-4)
    torch.testing.assert_close(one.pixels, other.pixels, atol=1e-3, rtol=0)
    free = accentuate(models[0], photo(), "logit:1", changed(steps=4, regularization=0.0))
    assert (free.pixels - one.pixels).abs().max() > 0.01, "the regulariser has a say in this"


def test_the_regularisation_layer_is_the_recipes(tiny):
    near_early, near_late = (
        accentuate(tiny, photo(), "logit:1", changed(steps=12, regularization=3.0, regularization_layer=layer))
        for layer in ("early", "late")
    )
    assert not torch.equal(near_early.pixels, near_late.pixels)
    assert near_early.trajectory[-1].distance > 0


def test_opacity_is_where_the_feature_reads(tiny):
    """A unit in the top left corner of `late` (8 × 8 positions) sees a corner of the whole image alone."""
    recipe = changed(crop_size=(1.0, 1.0), steps=5, regularization=0.0, parameterization="pixel", opacity_blur=1.0)
    for position, rows, columns in (("0,0", slice(0, 12), slice(0, 12)), ("7,0", slice(28, 40), slice(0, 12))):
        opacity = accentuate(tiny, photo(), f"neuron:late:3@{position}", recipe).opacity
        assert opacity[rows, columns].sum() > 0.95 * opacity.sum() > 0
    everywhere = accentuate(tiny, photo(), "channel:late:3", recipe).opacity
    assert everywhere.mean() > 0.3


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_opacity_is_the_features_gradient_alone(tiny, alpha):
    """The regulariser reads all of the image; it leaves no trace in the map of a corner's feature."""
    recipe = changed(crop_size=(1.0, 1.0), regularization=alpha, parameterization="pixel", opacity_blur=0.0, steps=4)
    opacity = accentuate(tiny, photo(), "neuron:late:3@0,0", recipe).opacity
    assert not opacity[20:].any()
    assert not opacity[:, 20:].any()


def test_a_dead_feature(tiny_net):
    with torch.no_grad():
        tiny_net.early.bias[2] = -1e3
    model = Model(tiny_net, input_size=32, regularization_layer="early")
    result = accentuate(model, photo(), "channel:act:2", QUICK)
    assert result.notes == (DEAD_NOTE,)
    assert result.before == result.after == 0.0
    assert not result.opacity.any()
    torch.testing.assert_close(result.pixels, result.source, atol=1e-5, rtol=0)
    dead, alive = run(model, [pair("channel:act:2"), pair("channel:act:1")], micro_batch=2)
    assert (dead.notes, alive.notes) == ((DEAD_NOTE,), ())


# --- shapes and extremes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "canvas"), [((40, 40), (40, 40)), ((100, 50), (40, 20)), ((17, 31), (22, 40)), ((8, 128), (2, 40))]
)
def test_the_canvas_keeps_the_aspect(tiny, size, canvas):
    result = accentuate(tiny, photo(*size), "logit:1", changed(steps=1))
    assert result.pixels.shape == result.source.shape == (3, *canvas)
    assert result.opacity.shape == canvas
    assert result.image.size == canvas[::-1]


def test_default_canvas(tiny):
    assert accentuate(tiny, photo(), "logit:1", changed(size=None, steps=1)).pixels.shape == (3, 73, 73)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 1},
        {"crops": 1},
        {"snapshots": 0},
        {"size": 16},
        {"crop_size": (1e-6, 1e-6)},
        {"crop_size": (1.0, 1.0)},
        {"noise_std": 0.0, "noise_range": 0.0},
        {"noise_std": 1.0, "noise_range": 1.0},
        {"learning_rate": 1e-9},
        {"learning_rate": 10.0},
        {"decay": 0.0},
        {"decay": 4.0},
        {"regularization": 1000.0},
        {"opacity_percentile": 0.01, "opacity_blur": 64.0},
    ],
    ids=str,
)
def test_extreme_recipes(tiny, form, settings):
    for size in ((40, 40), (8, 128)):
        result = accentuate(tiny, photo(*size), "logit:1", changed(parameterization=form, **settings))
        assert result.pixels.min() >= 0
        assert result.pixels.max() <= 1
        assert result.opacity.min() >= 0
        assert result.opacity.max() <= 1
        if settings == {"learning_rate": 1e-9} and form != "phase":
            torch.testing.assert_close(result.pixels, result.source, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_black_and_white_images(tiny, form, value):
    result = accentuate(tiny, torch.full((3, 40, 40), value), "logit:1", changed(parameterization=form))
    assert result.pixels.isfinite().all()


@pytest.mark.parametrize(
    ("snapshots", "steps"),
    [(0, [0, 6]), (1, [0, 6]), (2, [0, 3, 6]), (3, [0, 2, 4, 6]), (6, [0, 1, 2, 3, 4, 5, 6]), (64, list(range(7)))],
)
def test_snapshots(tiny, snapshots, steps):
    result = accentuate(tiny, photo(), "logit:1", changed(snapshots=snapshots))
    assert [point.step for point in result.trajectory] == steps
    assert len(result.snapshots) == len(result.frames) == len(steps)
    assert result.trajectory[0].value == result.before
    assert result.trajectory[-1].value == result.after
    assert result.trajectory[0].distance == pytest.approx(0.0, abs=1e-4)
    assert result.trajectory[-1].distance > 0


# --- it repeats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_run_repeats_bit_for_bit(tiny, form):
    recipe = changed(parameterization=form)
    torch.manual_seed(1)
    one = accentuate(tiny, photo(), "logit:1", recipe, seed=7)
    torch.manual_seed(2)
    again = accentuate(tiny, photo(), "logit:1", recipe, seed=7)
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(one.opacity, again.opacity)
    assert one.trajectory == again.trajectory


def test_another_random_seed_gives_another_picture(tiny):
    seeds = (0, 1, 2**31, 2**32 - 1)
    results = [accentuate(tiny, photo(), "logit:1", QUICK, seed=seed) for seed in seeds]
    for i, one in enumerate(results):
        assert one.seed == seeds[i]
        for other in results[:i]:
            assert not torch.equal(one.pixels, other.pixels)
            assert one.before == other.before


def assert_same(ours, theirs):
    """The promise of design.md: to 1e-4 in pixels at float32."""
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, Accentuation)
        torch.testing.assert_close(one.pixels, other.pixels, atol=1e-4, rtol=0)
        torch.testing.assert_close(one.opacity, other.opacity, atol=1e-3, rtol=0)
        assert one.after == pytest.approx(other.after, abs=1e-4, rel=1e-4)


def mixed_pairs():
    sizes = [(40, 40), (40, 30)]
    return [
        pair(feature, seed=i, image=photo(*sizes[j], seed=10 * i + j))
        for j in range(2)
        for i, feature in enumerate([*FEATURES, "logit:3 + channel:early:1", "-2*logit:0 + neuron:late:1@0,0"])
    ]


@pytest.mark.parametrize("form", FORMS)
def test_batch_invariance(tiny, form):
    """One by one, in micro-batches of several sizes, and among different mates; layers and canvas shapes mixed."""
    recipe = changed(parameterization=form, regularization=0.3)
    pairs = mixed_pairs()
    alone = [run(tiny, [one], recipe)[0] for one in pairs]
    for size in (1, 3, 14):
        assert_same(run(tiny, pairs, recipe, micro_batch=size), alone)
    assert_same(run(tiny, pairs[7:1:-1], recipe, micro_batch=2), alone[7:1:-1])


def test_batch_invariance_of_the_reference_model():
    from accentor.engine import reference

    if not list(Path(reference.__file__).parent.rglob("reference.safetensors")):
        pytest.skip("the reference model has not been trained yet")
    model = accentor.load_model("reference", device="cpu")
    deep = model.card.layers[len(model.card.layers) // 2].name
    features = ["logit:0", f"channel:{deep}:1", "logit:1 - logit:2", "-logit:3"]
    pairs = [pair(feature, seed=i, image=photo(64, 64, seed=i)) for i, feature in enumerate(features)]
    recipe = Recipe(steps=4, crops=2, size=64, snapshots=1, precision="float32")
    assert_same(run(model, pairs, recipe, micro_batch=4), [run(model, [one], recipe)[0] for one in pairs])


def test_pairs_of_one_depth_share_a_micro_batch(tiny):
    reports = []
    pairs = [pair("logit:1"), pair("channel:early:0"), pair("logit:2"), pair("channel:early:1")]
    run(tiny, pairs, micro_batch=4, on_step=reports.append)
    assert {report.indices for report in reports} == {(0, 2), (1, 3)}


def test_reports(tiny, monkeypatch):
    recipe = changed(steps=40, crops=1)
    monkeypatch.setattr(running, "REPORT_S", 0.0)
    every = []
    (ending,) = run(tiny, [pair()], recipe, on_step=every.append)
    assert [report.step for report in every] == list(range(1, 41))
    assert all(report.steps == 40 and report.indices == (0,) and len(report.values) == 1 for report in every)
    assert every[-1].values[0] > ending.before
    monkeypatch.setattr(running, "REPORT_S", 1_000.0)
    last = []
    run(tiny, [pair()], recipe, on_step=last.append)
    assert [report.step for report in last] == [40]


def test_reports_of_a_sweep_count_on(tiny, monkeypatch):
    """The suppressed feature's steps come after the feature's, with its own value all the way."""
    monkeypatch.setattr(running, "REPORT_S", 0.0)

    def reports(feature, recipe):
        told = []
        run(tiny, [pair(feature)], recipe, on_step=told.append)
        return told

    recipe = changed(strengths=(-0.5, 1.0, 1.5))
    swept = reports("logit:1", recipe)
    assert [(report.step, report.steps) for report in swept] == [(step, 12) for step in range(1, 13)]
    more, less = ([report.values[0] for report in reports(one, QUICK)] for one in ("logit:1", "-logit:1"))
    values = [report.values[0] for report in swept]
    assert values[:6] == pytest.approx(more)
    assert values[9:] == pytest.approx([-value for value in less[:3]])
    monkeypatch.setattr(running, "REPORT_S", 1_000.0)
    assert [report.step for report in reports("logit:1", recipe)] == [12]


# --- lists, kinds of images --------------------------------------------------------------------------------------


def test_lists_pair_up(tiny, tmp_path):
    recipe = changed(steps=1)
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40), (255, 0, 51)).save(path)
    one = accentuate(tiny, path, "logit:1", recipe)
    assert isinstance(one, Accentuation)
    torch.testing.assert_close(one.source[:, 3, 4], torch.tensor([1.0, 0.0, 0.2]))
    kinds = [str(path), path, path.read_bytes(), Image.open(path), one.source]
    results = accentuate(tiny, kinds, "logit:1", recipe)
    assert isinstance(results, list)
    assert all(torch.equal(result.pixels, one.pixels) for result in results)
    results = accentuate(tiny, [photo(), path], ["logit:ash", "-logit:1"], recipe)
    assert [str(result.feature) for result in results] == ["logit:ash", "-logit:1"]
    assert not torch.equal(results[0].source, results[1].source)
    results = accentuate(tiny, path, ("logit:1", "logit:2"), recipe)
    assert [str(result.feature) for result in results] == ["logit:1", "logit:2"]
    assert len(accentuate(tiny, [path], "logit:1", recipe)) == 1
    results = accentuate(tiny, path, "logit:1", recipe, seed=[4, 5])
    assert [result.seed for result in results] == [4, 5]


def test_recipes_by_name_and_settings(tiny):
    assert accentuate(tiny, photo(), "logit:1", {"steps": 1, "size": 16}).recipe == Recipe(steps=1, size=16)
    assert accentuate(tiny, photo(), "logit:date palm", "fast").recipe == PRESETS["fast"]


def test_progress_bar(tiny, capsys):
    accentuate(tiny, [photo(), photo()], "logit:1", changed(steps=2), progress=True)
    assert "accentuating" in capsys.readouterr().out


def test_the_progress_bar_is_full_at_the_end(tiny, monkeypatch):
    told = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda bar, task, completed: told.append(completed))
    for early in ({"strengths": (-1.0, 2.0)}, {"stop_at": -1e9}):
        told.clear()
        accentuate(tiny, [photo(), photo()], "logit:1", changed(**early), progress=True)
        assert told == sorted(told)
        assert told[-1] == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_callers_gradient_mode_does_not_matter(tiny, mode, precision):
    options = {"features": ["logit:1", "-logit:1"], "recipe": changed(precision=precision)}
    with mode():
        found = accentuate(tiny, photo(), **options, memory="1GiB")
        assert not torch.is_grad_enabled()
        needed = bytes_per_pair(tiny, frozenset({"late"}), QUICK, (40, 40))
    assert needed == bytes_per_pair(tiny, frozenset({"late"}), QUICK, (40, 40))
    for one, other in zip(found, accentuate(tiny, photo(), **options, memory="1GiB"), strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.opacity, other.opacity)


def test_what_becomes_of_a_tensor_later_does_not_show(tiny):
    """As of a buffer that a stream of pairs fills with one image after the other."""
    buffer = torch.empty(3, 40, 40)

    def pairs():
        for number in range(2):
            yield Pair(buffer.copy_(photo(40, 40) * (1 + number) / 2), parse_feature("logit:1"))

    found = dict(accentuate_pairs(tiny, pairs(), changed(steps=1), micro_batch=2))
    torch.testing.assert_close(found[0].source, photo(40, 40) / 2)
    torch.testing.assert_close(found[1].source, photo(40, 40))


def test_canvas_of_a_tensor():
    image = photo(40, 20)
    assert fit_canvas(image, 40) is not None
    torch.testing.assert_close(fit_canvas(image, 40), image)
    half = fit_canvas(image, 20)
    expected = nn.functional.interpolate(image[None], (20, 10), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(half, expected)
    assert fit_canvas(photo(8, 8), 100).shape == (3, 100, 100)


# --- bad input ---------------------------------------------------------------------------------------------------


BAD_FEATURES = [
    ("channel:erly:1", UnknownLayerError, ["erly", "early"]),
    ("channel:early:6", UnitOutOfRangeError, ["0 to 5"]),
    ("logit:4", UnitOutOfRangeError, ["0 to 3"]),
    ("neuron:late:1@8,0", UnitOutOfRangeError, ["8 rows"]),
    ("logit:birsh", InvalidFeatureError, ["birch"]),
    ("neuron:head:1", InvalidFeatureError, ["channel:head:1"]),
    ("direction:late:nowhere.npy#0", InvalidFeatureError, ["nowhere.npy"]),
    ("palm", InvalidFeatureError, ["logit:UNIT"]),
    (207, InvalidFeatureError, ["207"]),
    (None, InvalidFeatureError, ["None"]),
]
BAD_IMAGES = [
    (torch.rand(40, 40), ["[40, 40]"]),
    (torch.rand(1, 3, 40, 40), ["[1, 3, 40, 40]"]),
    (torch.rand(40, 40, 3), ["[40, 40, 3]"]),
    (torch.zeros(3, 40, 40, dtype=torch.uint8), ["uint8"]),
    (torch.full((3, 40, 40), 1.5), ["1.5", "0 to 1"]),
    (torch.full((3, 40, 40), -0.1), ["-0.1"]),
    (torch.full((3, 40, 40), math.nan), ["nan"]),
    (torch.rand(3, 0, 40), ["40 × 0"]),
    (torch.rand(3, 4, 40), ["40 × 4"]),
    (torch.rand(3, 8, 200), ["too narrow"]),
    ("no/such.png", ["no/such.png"]),
    (b"no image", ["no image"]),
    (None, ["NoneType"]),
]


@pytest.mark.parametrize(("feature", "kind", "parts"), BAD_FEATURES, ids=str)
def test_bad_feature(tiny, feature, kind, parts):
    with pytest.raises(kind) as caught:
        accentuate(tiny, photo(), feature, QUICK)
    assert all(part in caught.value.detail for part in parts), caught.value.detail


@pytest.mark.parametrize(("image", "parts"), BAD_IMAGES, ids=[parts[0] for _, parts in BAD_IMAGES])
def test_bad_image(tiny, image, parts):
    with pytest.raises(InvalidImageError) as caught:
        accentuate(tiny, image, "logit:1", QUICK)
    assert all(part in caught.value.detail for part in parts), caught.value.detail


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({"recipe": "best"}, InvalidRecipeError, "natural, fast, paper"),
        ({"recipe": {"steps": 0}}, InvalidRecipeError, "steps"),
        ({"recipe": changed(regularization_layer="layer1")}, UnknownLayerError, "layer1"),
        ({"seed": -1}, InvalidRequestError, "-1"),
        ({"seed": 2**32}, InvalidRequestError, "4294967295"),
        ({"seed": 0.5}, InvalidRequestError, "whole number"),
        ({"seed": "a"}, InvalidRequestError, "whole number"),
        ({"micro_batch": 0}, InvalidRequestError, "micro_batch is 0"),
        ({"micro_batch": -1}, InvalidRequestError, "micro_batch is -1"),
        ({"images": []}, InvalidRequestError, "0 images and 1 features"),
        ({"features": []}, InvalidRequestError, "1 images and 0 features"),
        ({"images": [photo()] * 2, "features": ["logit:1"] * 3}, InvalidRequestError, "2 images and 3 features"),
        ({"images": [photo()], "features": ["logit:1"] * 2}, InvalidRequestError, "1 images and 2 features"),
        ({"images": [photo()] * 2, "seed": [1, 2, 3]}, InvalidRequestError, "3 random seeds"),
        ({"seed": True}, InvalidRequestError, "the random seed is True"),
    ],
    ids=str,
)
def test_bad_request(tiny, options, kind, part):
    with pytest.raises(kind) as caught:
        accentuate(tiny, **{"images": photo(), "features": "logit:1", "recipe": QUICK} | options)
    assert part in caught.value.detail


def test_nothing_is_computed_before_all_is_checked(tiny, monkeypatch):
    monkeypatch.setattr(Runner, "_run_together", lambda *_: pytest.fail("it ran"))
    with pytest.raises(UnknownLayerError):
        accentuate(tiny, photo(), ["logit:1", "channel:erly:1"], QUICK)


def test_a_bad_pair_fails_alone(tiny, tmp_path):
    (tmp_path / "bad.npy").touch()
    pairs = [
        pair("logit:1"),
        pair("channel:erly:1"),
        pair(image=b"no image"),
        pair("logit:2", seed=3),
        pair("logit:9"),
        pair(seed=-1),
        pair(f"direction:late:{tmp_path / 'bad.npy'}#0"),
        pair(image=torch.full((3, 40, 40), math.nan)),
    ]
    endings = run(tiny, pairs, micro_batch=8)
    assert [type(ending) for ending in endings] == [
        Accentuation,
        UnknownLayerError,
        InvalidImageError,
        Accentuation,
        UnitOutOfRangeError,
        InvalidRequestError,
        InvalidFeatureError,
        InvalidImageError,
    ]
    assert_same([endings[0], endings[3]], run(tiny, [pairs[0], pairs[3]]))


def test_a_recipe_the_model_cannot_follow_fails_at_once(tiny):
    with pytest.raises(UnknownLayerError):
        next(accentuate_pairs(tiny, [pair()], changed(regularization_layer="x")))


# --- failures while it runs --------------------------------------------------------------------------------------


class Explosive(nn.Module):
    """Its logit is the mean brightness, and infinite for images brighter than half."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)

    def forward(self, x):
        dim = (x.mean(dim=(1, 2, 3)) <= 0.5).float()[:, None]
        return self.conv(x).mean(dim=(2, 3)) / dim


@pytest.fixture
def explosive():
    return Model(Explosive(), input_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_nan_of_one_pair_leaves_the_others_right(explosive, alpha):
    dark, bright = 0.3 * photo(), 0.6 + 0.4 * photo()
    pairs = [pair("logit:1", image=dark), pair("logit:1", image=bright), pair("logit:1", seed=4, image=dark)]
    recipe = changed(parameterization="pixel", learning_rate=0.01, regularization=alpha)
    endings = run(explosive, pairs, recipe, micro_batch=3)
    assert isinstance(endings[1], NotFiniteError)
    assert "0.01" in endings[1].detail
    assert_same([endings[0], endings[2]], [run(explosive, [pairs[i]], recipe)[0] for i in (0, 2)])
    with pytest.raises(NotFiniteError):
        accentuate(explosive, [dark, bright], "logit:1", recipe)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stop_at", [None, 1e9])
def test_nan_of_one_pair_changes_no_bit_of_the_others(explosive, form, stop_at):
    """In a micro-batch of the same size without it they are the same: with NaN from the start, and from a step on."""
    recipe = changed(parameterization=form, learning_rate=0.1, opacity_every=3, stop_at=stop_at)

    def others(level):
        images = [0.3 * photo(), level + 0.1 * (photo() - photo().mean()), 0.3 * photo(seed=1)]
        endings = run(explosive, [pair("logit:1", i, image) for i, image in enumerate(images)], recipe, micro_batch=3)
        return isinstance(endings[1], NotFiniteError), [endings[0], endings[2]]

    (sane, expected), *broken = (others(level) for level in (0.1, 0.6, 0.499))
    assert not sane
    for is_broken, got in broken:
        assert is_broken
        for one, other in zip(got, expected, strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert torch.equal(one.opacity, other.opacity)
            assert one.trajectory == other.trajectory


@pytest.mark.parametrize("coupling", [Diversity("conv"), Alignment("conv")], ids=["apart", "alike"])
def test_nan_of_a_coupled_pair_is_its_own(explosive, coupling):
    """The others go on, coupled to one another."""
    recipe = changed(parameterization="pixel", learning_rate=0.01, regularization=0.3)
    pairs = [
        pair(seed=seed, image=image) for seed, image in enumerate([0.3 * photo(), 0.9 * photo() + 0.1, photo() / 4])
    ]

    def ends(coupling):
        return [ending for _, ending in Runner(explosive, recipe, micro_batch=3, coupling=coupling).run(pairs)]

    for one, free, is_broken in zip(ends(coupling), ends(None), (False, True, False), strict=True):
        assert isinstance(one, NotFiniteError if is_broken else Accentuation)
        assert is_broken or not torch.equal(one.pixels, free.pixels)


def test_infinity_that_is_met_on_the_way(explosive):
    """One image brightens until the network breaks, the other darkens."""
    recipe = changed(parameterization="pixel", learning_rate=5.0, regularization=0.0, steps=10)
    pairs = [pair("logit:1", image=0.5 * photo()), pair("-logit:1", image=0.5 * photo())]
    brighter, darker = run(explosive, pairs, recipe, micro_batch=2)
    assert isinstance(brighter, NotFiniteError)
    assert isinstance(darker, Accentuation)
    assert darker.after > darker.before


class Stepped(nn.Module):
    """Its logits have no gradient: they are rounded to whole steps by a comparison."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)

    def forward(self, x):
        return (self.conv(x).mean(dim=(2, 3)) > 0).float()


def test_a_feature_without_gradient():
    model = Model(Stepped(), input_size=32, regularization_layer="conv")
    ends = run(model, [pair("logit:1"), pair("channel:conv:1"), pair("logit:2")], micro_batch=3)
    assert [type(end) for end in ends] == [NotDifferentiableError, Accentuation, NotDifferentiableError]
    (end,) = run(model, [Pair(photo(), parse_feature("logit:1"), stop_at=-1.0)])
    assert end.stopped_at == 0, "a seed at its target takes no step, hence no gradient"


class Undifferentiable(nn.Module):
    """Its logits come behind a step that autograd refuses to go back through; its two convolutions come before."""

    def __init__(self, step):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.next = nn.Conv2d(4, 4, 1)
        self.step = step

    def forward(self, x):
        return self.step(self.next(self.conv(x)).exp()).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda x: torch.igamma(x, torch.ones_like(x)), "the derivative for 'igamma: input' is not implemented"),
        (lambda x: x.mul_(2), "modified by an inplace operation"),
    ],
)
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_network_that_autograd_refuses(step, reason, micro_batch):
    model = Model(Undifferentiable(step), input_size=32, regularization_layer="conv")
    features = ["channel:conv:1", "logit:1", "logit:1 + channel:conv:1", "channel:next:1"]
    first, *refused, last = run(model, [pair(one) for one in features], micro_batch=micro_batch)
    assert isinstance(first, Accentuation)
    assert isinstance(last, Accentuation)
    for end in refused:
        assert isinstance(end, NotDifferentiableError)
        assert reason in end.detail


def test_an_error_of_the_network_that_is_not_of_gradients_ends_the_call():
    def broken(x):
        if x.requires_grad:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return x

    model = Model(Undifferentiable(broken), input_size=32, regularization_layer="conv")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(model, [pair("logit:1")])


def test_out_of_memory_halves_the_micro_batch(tiny, monkeypatch):
    real, sizes = Runner._run_together, []

    def limited(runner, group, part):
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(runner, group, part)

    monkeypatch.setattr(Runner, "_run_together", limited)
    pairs = [pair(seed=i) for i in range(7)]
    endings = run(tiny, pairs, micro_batch=7)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert [ending.seed for ending in endings] == list(range(7))
    monkeypatch.undo()
    assert_same(endings, run(tiny, pairs))


def test_one_pair_that_does_not_fit(tiny, monkeypatch):
    real = Runner._run_together

    def limited(runner, group, part):
        if any(one.seed == 1 for one in part):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(runner, group, part)

    monkeypatch.setattr(Runner, "_run_together", limited)
    endings = run(tiny, [pair(seed=i) for i in range(4)], micro_batch=4)
    assert [type(ending) for ending in endings] == [Accentuation, OutOfMemoryError, Accentuation, Accentuation]
    assert "4 crops of 1 pair" in endings[1].detail


class Greedy(nn.Module):
    """It wants more memory than there is for more than eight crops at once."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)

    def forward(self, x):
        torch.empty(2**50 if len(x) > 8 else 1)
        return self.conv(x).mean(dim=(2, 3))


def test_memory_of_the_cpu_that_really_runs_out():
    model = Model(Greedy(), input_size=32, regularization_layer="conv")
    pairs = [pair(seed=i) for i in range(5)]
    endings = run(model, pairs, micro_batch=5)
    assert_same(endings, run(model, pairs, micro_batch=1))
    (alone,) = run(model, pairs[:1], changed(crops=9))
    assert isinstance(alone, OutOfMemoryError)
    assert "9 crops of 1 pair" in alone.detail


def test_other_errors_are_not_swallowed(tiny, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(tiny, "activations", broken)
    with pytest.raises(RuntimeError, match="device-side"):
        run(tiny, [pair()])


def test_what_on_step_raises_ends_the_call(tiny):
    class StopError(AccentorError):
        code = "stop-of-a-test"

    def stop(report):
        raise StopError("enough")

    with pytest.raises(StopError):
        run(tiny, [pair()], on_step=stop)
    assert isinstance(run(tiny, [pair()])[0], Accentuation)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("element 0 of tensors does not require grad"),
        NotDifferentiableError("no gradient"),
        RuntimeError("CUDA out of memory"),
        torch.OutOfMemoryError("out of memory"),
        OutOfMemoryError("out of memory"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("count", [1, 2])
def test_what_on_step_raises_is_taken_for_no_error_of_the_run(tiny, error, count):
    told = []

    def stop(report):
        told.append(report)
        raise error

    with pytest.raises(type(error)) as raised:
        run(tiny, [pair(seed=i) for i in range(count)], micro_batch=count, on_step=stop)
    assert raised.value is error
    assert len(told) == 1


def test_public_name():
    assert accentor.accentuate is accentuate_function


def test_a_name_is_no_model():
    with pytest.raises(InvalidRequestError, match="the model is 'reference': expected one from load_model"):
        accentuate("reference", photo(), "logit:1")


@pytest.mark.parametrize("target", ["9", float("nan"), float("inf"), [1.0]])
def test_a_target_that_is_no_finite_number(tiny, target):
    """Its pair is refused, and the other goes on."""
    pairs = [Pair(photo(), parse_feature("logit:1"), stop_at=target), Pair(photo(), parse_feature("logit:1"))]
    endings = dict(accentuate_pairs(tiny, pairs, changed(steps=1, crops=1)))
    assert isinstance(endings[0], InvalidRequestError)
    assert "expected a finite number, or none" in str(endings[0])
    assert isinstance(endings[1], Accentuation)
