"""Stops and schedules: target, learning rate, sweep of strengths, ball, opacity steps; noise, couplings, streams."""

import math

import pytest
import torch
from torch import nn

from accentor.engine import Accentuation, Model, Pair, accentuate, accentuate_pairs, memory, running
from accentor.engine.couplings import Diversity
from accentor.engine.dictionaries import DirectionDictionary
from accentor.engine.evaluate import values_over
from accentor.engine.memory import HELD, bytes_per_pair
from accentor.engine.running import MET_NOTE
from accentor.engine.schedule import kept_steps, learning_rate, snapshot_steps, steps_needed, strength_step
from accentor.errors import InvalidRecipeError, InvalidRequestError, NotFiniteError, UnitOutOfRangeError
from accentor.metadata import read_metadata
from accentor.spec import Recipe, parse_feature, resolve_recipe

QUICK = Recipe(
    steps=6, crops=4, size=40, snapshots=3, precision="float32", regularization=0.1, learning_rate=0.05, decay=1.0,
    noise_std=0.02, noise_range=0.01, opacity_percentile=80.0, opacity_blur=2.0, opacity_every=1,
)  # fmt: skip


def photo(seed=0, size=(40, 40)):
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, size, mode="bicubic").clamp(0, 1)[0]


def changed(**settings):
    return Recipe.model_validate(QUICK.model_dump() | settings)


# --- the learning rate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("linear", [0.1, 0.075, 0.05, 0.025]),
        ("cosine", [0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5))]),
    ],
)
def test_learning_rates(schedule, expected):
    recipe = Recipe(steps=4, learning_rate=0.1, schedule=schedule)
    assert [learning_rate(recipe, step) for step in range(4)] == pytest.approx(expected)


def test_a_falling_rate_ends_nearer_to_the_seed(tiny):
    free = {"regularization": 0.0, "parameterization": "pixel"}
    constant, linear, cosine = (
        accentuate(tiny, photo(), "logit:1", changed(schedule=schedule, **free)).trajectory
        for schedule in ("constant", "linear", "cosine")
    )
    assert constant[-1].distance > linear[-1].distance > 0
    assert constant[-1].distance > cosine[-1].distance > 0


# --- the activation target ---------------------------------------------------------------------------------------


def test_a_pair_stops_where_it_reaches_its_target(tiny):
    full = accentuate(tiny, photo(), "logit:1", changed(snapshots=6))
    values = [point.value for point in full.trajectory]
    target = (values[3] + values[4]) / 2
    assert values[:4] == sorted(values[:4]), "it rises step by step here"
    stopped = accentuate(tiny, photo(), "logit:1", changed(snapshots=6, stop_at=target))
    assert stopped.stopped_at == 4
    assert [point.step for point in stopped.trajectory] == [0, 1, 2, 3, 4]
    assert stopped.after == pytest.approx(values[4])
    torch.testing.assert_close(stopped.snapshots[-1], full.snapshots[4])
    assert full.stopped_at is None


@pytest.mark.parametrize("settings", [{}, {"parameterization": "phase"}, {"redirected_relu": True}], ids=str)
def test_a_seed_at_its_target_takes_no_step(tiny, settings, tmp_path):
    pairs = [Pair(photo(), parse_feature("logit:1"), stop_at=-1e9)]
    ((_, result),) = accentuate_pairs(tiny, pairs, changed(**settings))
    assert (result.stopped_at, result.notes) == (0, (MET_NOTE,))
    assert [point.step for point in result.trajectory] == [0]
    assert result.after == result.before
    torch.testing.assert_close(result.pixels, photo(), rtol=0, atol=0)
    assert not result.opacity.any()
    metadata = read_metadata(result.png())
    assert (metadata.steps, metadata.stopped_at, metadata.notes) == (0, 0, (MET_NOTE,))
    assert "0 steps, target reached" in result._repr_html_()
    assert len(result.frames) == 1
    result.save(tmp_path)
    result.figure()
    result.strip()


def test_a_seed_that_a_network_makes_infinite_takes_no_step(monkeypatch):
    monkeypatch.setattr(running, "REPORT_S", 0.0)
    model = Model(Breaking(0.2), input_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")
    reports = []
    ((_, ending),) = accentuate_pairs(model, [Pair(photo(), parse_feature("logit:1"))], QUICK, on_step=reports.append)
    assert isinstance(ending, NotFiniteError)
    assert not reports


def test_each_pair_stops_on_its_own(tiny):
    before = accentuate(tiny, photo(), "logit:1", changed(steps=1)).before
    pairs = [
        Pair(photo(), parse_feature("logit:1"), stop_at=before + 1e-3),
        Pair(photo(), parse_feature("logit:1"), stop_at=-1e9),
        Pair(photo(), parse_feature("logit:1"), stop_at=1e9),
        Pair(photo(), parse_feature("logit:1")),
    ]
    recipe = changed(snapshots=2)
    endings = [ending for _, ending in sorted(accentuate_pairs(tiny, pairs, recipe, micro_batch=4), key=key)]
    assert [ending.stopped_at for ending in endings] == [1, 0, None, None]
    once, at_seed, never, none = endings
    assert [point.step for point in once.trajectory] == [0, 1]
    torch.testing.assert_close(at_seed.pixels, photo(), rtol=0, atol=0)
    assert [point.step for point in never.trajectory] == [point.step for point in none.trajectory] == [0, 3, 6]
    torch.testing.assert_close(never.pixels, none.pixels, atol=1e-4, rtol=0)
    (alone,) = (ending for _, ending in accentuate_pairs(tiny, pairs[:1], recipe))
    torch.testing.assert_close(once.pixels, alone.pixels, atol=1e-4, rtol=0)
    torch.testing.assert_close(once.opacity, alone.opacity, atol=1e-3, rtol=0)


def key(item):
    return item[0]


# --- the sweep ---------------------------------------------------------------------------------------------------


def test_steps_of_a_sweep():
    recipe = Recipe(steps=40, snapshots=2, strengths=(1.5, -0.5, 0.25, 0.0))
    assert recipe.strengths == (-0.5, 0.0, 0.25, 1.5)
    assert [strength_step(recipe, strength) for strength in recipe.strengths] == [20, 0, 10, 60]
    assert (steps_needed(recipe), steps_needed(recipe, suppress=True)) == (60, 20)
    assert (steps_needed(Recipe(steps=7)), steps_needed(Recipe(steps=7), suppress=True)) == (7, 0)
    assert snapshot_steps(recipe) == {20, 40}
    assert kept_steps(recipe, 60) == {10, 20, 40, 60}
    assert kept_steps(recipe, 20) == {10, 20}


def test_every_strength_but_0_takes_a_step(tiny):
    swept = accentuate(tiny, photo(), "logit:1", changed(strengths=(-0.01, 0.0, 0.001, 1.0)))
    assert [point.step for point in swept.sweep] == [1, 0, 1, 6]
    less, seed, more, _ = (point.value for point in swept.sweep)
    assert less < seed == swept.before < more


def test_a_sweep_is_the_runs_it_stands_for(tiny):
    swept = accentuate(tiny, photo(), "logit:1", changed(strengths=(-1.0, -0.5, 0.0, 0.5, 1.0, 2.0)))
    assert [point.strength for point in swept.sweep] == [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    assert [point.step for point in swept.sweep] == [6, 3, 0, 3, 6, 12]
    values = [point.value for point in swept.sweep]
    assert values == sorted(values)
    plain = accentuate(tiny, photo(), "logit:1", QUICK)
    torch.testing.assert_close(swept.pixels, plain.pixels)
    assert swept.trajectory == plain.trajectory
    torch.testing.assert_close(swept.opacity, plain.opacity)
    torch.testing.assert_close(swept.sweep[4].image, plain.snapshots[-1])
    torch.testing.assert_close(swept.sweep[2].image, plain.snapshots[0])
    less = accentuate(tiny, photo(), "-logit:1", QUICK)
    torch.testing.assert_close(swept.sweep[0].image, less.snapshots[-1])
    assert swept.sweep[0].value == pytest.approx(-less.after)
    longer = accentuate(tiny, photo(), "logit:1", changed(steps=12))
    assert swept.sweep[5].value == pytest.approx(longer.after, rel=1e-4)


def test_a_sweep_takes_no_target_of_a_pair(tiny):
    recipe = changed(strengths=(-0.5, 0.5, 1.0))
    pairs = [Pair(photo(), parse_feature("logit:1"), stop_at=-1e9), Pair(photo(), parse_feature("logit:1"))]
    endings = dict(accentuate_pairs(tiny, pairs, recipe))
    assert isinstance(endings[0], InvalidRequestError)
    assert "strengths" in endings[0].detail
    assert [point.strength for point in endings[1].sweep] == [-0.5, 0.5, 1.0]


@pytest.mark.parametrize("target", [math.nan, math.inf])
def test_a_target_of_a_pair_is_a_number(tiny, target):
    pairs = [Pair(photo(), parse_feature("logit:1"), stop_at=target), Pair(photo(), parse_feature("logit:1"))]
    endings = dict(accentuate_pairs(tiny, pairs, changed(steps=1)))
    assert isinstance(endings[0], InvalidRequestError)
    assert isinstance(endings[1], Accentuation)


class Breaking(nn.Module):
    """Its logit is the mean brightness, and infinite for images with a mean above the limit."""

    def __init__(self, limit):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.limit = limit
        with torch.no_grad():
            self.conv.weight.fill_(1.0)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3)) / (x.mean(dim=(1, 2, 3)) <= self.limit).float()[:, None]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("feature", "strengths"), [("logit:1", (1.0, 2.0, 4.0, 8.0)), ("-logit:1", (-8.0, -4.0, 1.0))])
def test_a_sweep_that_breaks_at_a_strength_is_no_result(count, feature, strengths):
    """The recipe's own steps are finite; the limit is crossed behind them, or by the suppressed feature's run."""
    model = Model(Breaking(0.44), input_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")
    settings = {"parameterization": "pixel", "learning_rate": 0.1, "regularization": 0.0}
    pairs = [Pair(torch.full((3, 40, 40), level), parse_feature(feature)) for level in (0.4, 0.0)][:count]
    (plain,) = (ending for _, ending in accentuate_pairs(model, pairs[:1], changed(**settings)))
    assert isinstance(plain, Accentuation)
    swept = dict(accentuate_pairs(model, pairs, changed(**settings, strengths=strengths), micro_batch=count))
    assert isinstance(swept[0], NotFiniteError)


def test_what_becomes_of_a_pair_behind_its_target_does_not_count():
    """Its micro-batch goes on, and with it the pair's image, which becomes so bright that the network breaks."""
    model = Model(Breaking(0.44), input_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")
    recipe = changed(parameterization="pixel", learning_rate=0.1, regularization=0.0, steps=30)
    bright, dark = torch.full((3, 40, 40), 0.4), torch.zeros(3, 40, 40)
    (start,) = (end for _, end in accentuate_pairs(model, [Pair(bright, parse_feature("logit:1"))], changed(steps=1)))
    reached = Pair(bright, parse_feature("logit:1"), stop_at=start.before * 1.01)
    (alone,) = (end for _, end in accentuate_pairs(model, [reached], recipe))
    together = dict(accentuate_pairs(model, [reached, Pair(dark, parse_feature("logit:1"))], recipe, micro_batch=2))
    assert together[0].stopped_at == alone.stopped_at > 0
    torch.testing.assert_close(together[0].pixels, alone.pixels)
    torch.testing.assert_close(together[0].opacity, alone.opacity)


def test_infinity_is_no_target():
    """The first step leaps so far that the network breaks."""
    model = Model(Breaking(0.44), input_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="conv")
    recipe = changed(parameterization="pixel", learning_rate=5.0, regularization=0.0, stop_at=1e9)
    ((_, ending),) = accentuate_pairs(model, [Pair(torch.full((3, 40, 40), 0.4), parse_feature("logit:1"))], recipe)
    assert isinstance(ending, NotFiniteError)


# --- the ball ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pixel", "fourier"])
def test_the_image_stays_in_the_ball(tiny, form):
    free = accentuate(tiny, photo(), "logit:1", changed(parameterization=form, regularization=0.0))
    kept = accentuate(tiny, photo(), "logit:1", changed(parameterization=form, regularization=0.0, ball=0.002))
    apart = [(result.pixels - result.source).square().mean().sqrt().item() for result in (free, kept)]
    assert apart[0] > 0.003
    assert apart[1] == pytest.approx(0.002, rel=0.05)
    assert kept.after > kept.before


@pytest.mark.parametrize("form", ["fourier", "phase"])
def test_a_border_is_not_in_the_picture(tiny, form):
    settings = {"parameterization": form, "border": 0.5, "regularization": 0.2}
    result = accentuate(tiny, photo(0, (40, 30)), "logit:1", changed(**settings, ball=None))
    assert result.pixels.shape == (3, 40, 30)
    assert result.after > result.before
    pairs = [Pair(photo(0, (40, 30)), parse_feature(f"logit:{index}"), index) for index in (1, 2)]
    together, alone = (dict(accentuate_pairs(tiny, pairs, changed(**settings), micro_batch=count)) for count in (2, 1))
    torch.testing.assert_close(together[1].pixels, alone[1].pixels, atol=1e-4, rtol=0)


# --- the opacity map ---------------------------------------------------------------------------------------------


def test_the_map_may_be_of_every_third_step(tiny):
    """The picture is the same to rounding; the map is made of fewer steps."""
    every, third = (accentuate(tiny, photo(), "logit:1", changed(opacity_every=count)) for count in (1, 3))
    torch.testing.assert_close(every.pixels, third.pixels, atol=1e-4, rtol=0)
    assert not torch.equal(every.opacity, third.opacity)
    assert third.accumulated[-1].sum() < 0.7 * every.accumulated[-1].sum()


def test_the_map_may_be_of_another_feature(tiny):
    """The corner's unit leaves its trace in the map, and none in the picture."""
    settings = {"crop_size": (1.0, 1.0), "opacity_blur": 0.0, "parameterization": "pixel"}
    plain = accentuate(tiny, photo(), "logit:1", changed(**settings))
    shown = accentuate(tiny, photo(), "logit:1", changed(**settings, opacity_feature="neuron:late:3@0,0"))
    torch.testing.assert_close(plain.pixels, shown.pixels, atol=1e-5, rtol=0)
    assert plain.opacity[20:].any()
    assert not shown.opacity[20:].any()
    assert shown.opacity[:12, :12].any()


def test_only_steps_of_the_map_run_as_deep_as_its_feature(tiny, tiny_net):
    """Every third of six, and the second, which measures λ; no clean value is of it."""
    passes = []
    tiny_net.late.register_forward_hook(lambda *_: passes.append(0))
    result = accentuate(tiny, photo(), "channel:early:2", changed(opacity_every=3, opacity_feature="channel:late:1"))
    assert len(passes) == 3
    assert result.opacity.any()


def test_the_map_may_be_of_a_dictionarys_feature(tiny, tmp_path):
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    dictionary = DirectionDictionary(name="rows", layer="late", vectors=vectors)
    dictionary.save(tmp_path / "rows.safetensors")
    named = f"dictionary:{tmp_path / 'rows.safetensors'}#3"
    shown, expected = (
        accentuate(tiny, photo(), "logit:1", changed(opacity_feature=feature))
        for feature in (named, dictionary.feature(3).model_dump())
    )
    torch.testing.assert_close(shown.accumulated, expected.accumulated, rtol=0, atol=0)
    with pytest.raises(UnitOutOfRangeError):
        accentuate(tiny, photo(), "logit:1", changed(opacity_feature=named.replace("#3", "#9")))


# --- from noise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pixel", "fourier", "phase"])
def test_from_noise_the_seed_image_gives_its_shape_alone(tiny, form):
    recipe = changed(start="noise", regularization=0.0, parameterization=form, steps=10)
    one, other = (accentuate(tiny, photo(seed, (40, 30)), "logit:1", recipe, seed=5) for seed in (0, 1))
    torch.testing.assert_close(one.pixels, other.pixels)
    assert one.pixels.shape == (3, 40, 30)
    assert one.after > one.before
    assert not torch.equal(one.pixels, accentuate(tiny, photo(0, (40, 30)), "logit:1", recipe, seed=6).pixels)


# --- coupled pairs -----------------------------------------------------------------------------------------------


def test_diversity_makes_pairs_differ(tiny):
    recipe = changed(start="noise", regularization=0.0, steps=15)

    def likeness(weight):
        results = accentuate(
            tiny, photo(), "channel:late:1", recipe, seed=[0, 1, 2], coupling=Diversity("early", weight)
        )
        with torch.no_grad(), tiny.frozen():
            acts = tiny.activations(
                torch.stack([nn.functional.interpolate(r.pixels[None], (32, 32))[0] for r in results]),
                frozenset({"early"}),
            )["early"].flatten(2)
        grams = nn.functional.normalize((acts @ acts.mT).flatten(1), dim=1)
        return (grams @ grams.T).sum().item() - 3

    assert likeness(30.0) < likeness(0.0)


def test_values_of_coupled_pairs_are_their_own(tiny):
    """The coupling moves the images; neither the values told nor the target are of it."""
    pairs = {"images": [photo(0), photo(1)], "features": "logit:1", "recipe": changed(strengths=(-1.0, 1.0))}
    coupled = accentuate(tiny, **pairs, coupling=Diversity("early", 3.0))
    for one, plain in zip(coupled, accentuate(tiny, **pairs), strict=True):
        assert one.before == pytest.approx(plain.before)
        assert not torch.equal(one.pixels, plain.pixels)
        suppressed, accentuated = (
            values_over(tiny, "logit:1", point.image[None].float() / 255).item() for point in one.sweep
        )
        assert [point.value for point in one.sweep] == pytest.approx([suppressed, accentuated], abs=2e-3)


def test_coupled_pairs_need_one_canvas(tiny):
    with pytest.raises(InvalidRequestError, match="2 pairs are coupled, 1 of them"):
        accentuate(tiny, [photo(), photo(0, (40, 30))], "logit:1", QUICK, coupling=Diversity("early"))


# --- memory and streams ------------------------------------------------------------------------------------------


def test_a_stream_is_read_as_it_is_needed(tiny):
    taken = []

    def pairs():
        for index in range(1_000):
            taken.append(index)
            yield Pair(photo(), parse_feature("logit:1"), index)

    stream = accentuate_pairs(tiny, pairs(), changed(steps=1, crops=1), micro_batch=2)
    for expected in range(6):
        index, ending = next(stream)
        assert index == expected
        assert isinstance(ending, Accentuation)
    assert len(taken) <= 8


def test_few_images_wait_for_others_of_their_size(tiny):
    taken = 0

    def pairs():
        nonlocal taken
        for index in range(500):
            taken += 1
            yield Pair(photo(0, (40, 10 + index % 40)), parse_feature("logit:1"), index)

    next(accentuate_pairs(tiny, pairs(), changed(steps=1, crops=1), micro_batch=4))
    assert taken <= 17


@pytest.mark.parametrize("memory", ["0", "4 parsecs", "", "-1GiB", True, 0, -5, "GiB"])
def test_a_bad_bound_on_memory(tiny, memory):
    with pytest.raises(InvalidRequestError, match="expected a size such as '4GiB'"):
        accentuate(tiny, photo(), "logit:1", QUICK, memory=memory)


def test_a_pair_that_does_not_fit_the_bound_is_refused(tiny):
    with pytest.raises(InvalidRequestError, match=r"one pair of 4 crops needs [\d.]+ MiB, memory is 0.0954 MiB"):
        accentuate(tiny, photo(), "logit:1", QUICK, memory="100kB")
    assert accentuate(tiny, photo(), "logit:1", QUICK, memory="1GiB").after is not None


@pytest.mark.parametrize(("pairs", "expected"), [(1.0, 1), (1.99, 1), (5.5, 5), (1_000.0, 64)])
def test_as_many_pairs_as_the_bound_holds(tiny, monkeypatch, pairs, expected):
    """As on a GPU; on a CPU one pair fills the cores, whatever the bound."""
    layers, canvas = frozenset({"late"}), (40, 30)
    bound = int(pairs * bytes_per_pair(tiny, layers, QUICK, canvas))
    assert memory.micro_batch(tiny, layers, QUICK, canvas, bound) == 1
    monkeypatch.setattr(memory, "CPU_MICRO_BATCH", memory.MAX_MICRO_BATCH)
    assert memory.micro_batch(tiny, layers, QUICK, canvas, bound) == expected


def test_images_that_are_kept_count_as_memory(tiny):
    """A frame is the image and the gradient of one channel; the suppressed way has its own, and its seed."""

    def needed(**settings):
        return bytes_per_pair(tiny, frozenset({"late"}), changed(**settings), (40, 30))

    one = int(HELD * 4 * 4 * 40 * 30)
    plain = needed(snapshots=1)
    assert needed(snapshots=6) - plain == 5 * one
    assert needed(snapshots=1, strengths=(0.5, 1.0, 2.0)) - plain == 2 * one
    assert needed(snapshots=1, strengths=(-1.0, 1.0)) - plain == 2 * one


# --- specs that contradict themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"start": "noise"}, "no seed to stay near"),
        ({"start": "noise", "regularization": 0, "ball": 0.1}, "ball is 0.1"),
        ({"ball": 0.1, "parameterization": "phase"}, "phases cannot"),
        ({"strengths": (1.0,), "stop_at": 3.0}, "either strengths or stop_at"),
        ({"strengths": (2.0,), "schedule": "linear"}, "beyond 1"),
        ({"strengths": (1.0, 1.0)}, "each once"),
        ({"strengths": (11.0,)}, "-10 to 10"),
        ({"regularization": -0.3}, "regularization = -0.3"),
        ({"ball": 0.0}, "ball"),
        ({"regularizer": "l3"}, "regularizer"),
    ],
)
def test_contradictions(settings, part):
    with pytest.raises(InvalidRecipeError) as caught:
        resolve_recipe(settings)
    assert part in caught.value.detail


# --- redirected gradients ----------------------------------------------------------------------------------------


def test_a_dead_feature_comes_alive_with_redirected_gradients(tiny_net):
    """Its bias is such that no crop of this image reaches it, but brighter ones do."""
    dark = 0.2 * photo()
    with torch.no_grad():
        model = Model(tiny_net, input_size=32, regularization_layer="early")
        whole = nn.functional.interpolate(dark[None], (32, 32))
        tiny_net.early.bias[2] -= model.activations(whole, frozenset({"early"}))["early"][:, 2].amax() + 0.05
    model = Model(tiny_net, input_size=32, regularization_layer="early")
    recipe = changed(crop_size=(1, 1), learning_rate=0.3, regularization=0, noise_std=0, noise_range=0)
    dead = accentuate(model, dark, "channel:act:2", recipe)
    alive = accentuate(model, dark, "channel:act:2", recipe.model_copy(update={"redirected_relu": True}))
    assert dead.after == 0.0
    assert alive.after > 0.0
    assert any("redirected" in note for note in alive.notes)
    assert not any("redirected" in note for note in dead.notes)


# --- precision ---------------------------------------------------------------------------------------------------


class Single(nn.Module):
    """Its arithmetic is in float32, whatever it is cast to."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.register_buffer("table", torch.eye(4))

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3)).float() @ torch.eye(4, dtype=torch.float32) @ self.table


def test_a_network_that_runs_in_float32_alone(monkeypatch):
    monkeypatch.setattr("accentor.engine.running.choose_precision", lambda recipe, device: torch.bfloat16)
    model = Model(Single(), input_size=32, regularization_layer="conv")
    result = accentuate(model, photo(), "logit:1", changed(precision="auto"))
    assert result.precision == "float32"
    assert result.after > result.before
    with pytest.raises(InvalidRecipeError, match="bfloat16"):
        accentuate(model, photo(), "logit:1", changed(precision="bfloat16"))


def test_half_precision_follows_float32(tiny):
    full, half = (accentuate(tiny, photo(), "logit:1", changed(precision=name)) for name in ("float32", "bfloat16"))
    assert (full.precision, half.precision) == ("float32", "bfloat16")
    assert half.before == full.before, "clean values are measured in float32"
    assert half.after - half.before == pytest.approx(full.after - full.before, rel=0.2)
