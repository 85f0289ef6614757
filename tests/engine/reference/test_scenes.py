"""The scenes are what they say they are."""

import colorsys
from collections import Counter

import numpy as np
import pytest

from accentor.engine.reference.palette import TONES, oklch
from accentor.engine.reference.scenes import COLORS, LABELS, MIN_VISIBLE, SHAPES, TEXTURES, Scene, render_scene
from accentor.engine.reference.shapes import DISTANCES
from accentor.engine.reference.textures import FIELDS


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed, 160) for seed in range(500, 620)]


def _hue(rgb: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(float(v) for v in rgb))[0] * 360


def test_labels_are_shapes_textures_and_colors_in_order():
    assert LABELS == SHAPES + TEXTURES + COLORS
    assert len(set(LABELS)) == len(LABELS) == 18
    assert {"stripes", "star", "red"} <= set(LABELS)


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others():
    first, again, other = render_scene(7), render_scene(7), render_scene(8)
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first.objects, again.objects, strict=True))
    assert np.abs(first.image.astype(int) - other.image).mean() > 5


def test_a_scene_is_the_same_at_every_size():
    small, large = render_scene(21, 96), render_scene(21, 384)
    assert [item.labels for item in small.objects] == [item.labels for item in large.objects]
    shrunk = large.image.reshape(96, 4, 96, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small.image).mean() < 6
    for little, big in zip(small.objects, large.objects, strict=True):
        agreement = (big.mask[2::4, 2::4] == little.mask).mean()
        assert agreement > 0.99


def test_masks_are_disjoint_and_lie_where_the_colour_is(scenes):
    for scene in scenes:
        assert np.sum([item.mask for item in scene.objects], axis=0).max() == 1
        for item in scene.objects:
            mean = scene.image[item.mask].mean(axis=0) / 255
            gaps = {
                color: abs((_hue(mean) - _hue(oklch(t.lightness, t.chroma, t.hue)) + 180) % 360 - 180)
                for color, t in TONES.items()
            }
            assert min(gaps, key=gaps.__getitem__) == item.color


def test_the_ground_is_muted(scenes):
    for scene in scenes:
        ground = ~np.any([item.mask for item in scene.objects], axis=0)
        spread = np.ptp(scene.image[ground].astype(int), axis=1)
        objects = np.ptp(scene.image[~ground].astype(int), axis=1)
        assert np.median(spread) < 45
        assert np.median(objects) > 2 * np.median(spread)


def test_plain_objects_are_even_and_textured_ones_are_not(scenes):
    contrast = {texture: [] for texture in TEXTURES}
    for scene in scenes:
        for item in scene.objects:
            pixels = scene.image[item.mask].astype(float)
            low, high = np.percentile(pixels, [15, 85], axis=0)
            contrast[item.texture].append(float((high - low).max()))
    assert np.median(contrast.pop("plain")) < 50
    assert min(np.median(values) for values in contrast.values()) > 60


def test_present_objects_are_mostly_visible_and_every_label_is_common(scenes):
    counts = Counter(label for scene in scenes for label in scene.labels)
    for scene in scenes:
        assert 2 <= len(scene.objects) <= 4
        shown = {label for item in scene.objects if item.visible >= MIN_VISIBLE for label in item.labels}
        assert set(scene.labels) == shown
        assert all(item.visible > 0.8 for item in scene.objects)
        assert all(item.mask.mean() > 0.02 for item in scene.objects)
    assert set(counts) == set(LABELS)
    assert all(0.25 < counts[label] / len(scenes) < 0.6 for label in LABELS)


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_signed_and_change_by_one_per_unit(shape):
    axis = np.linspace(-1.3, 1.3, 521, dtype=np.float32)
    distance = DISTANCES[shape](axis[None, :], axis[:, None])
    step = axis[1] - axis[0]
    slope = np.hypot(*np.gradient(distance, step))
    assert distance[0].min() > 0
    assert distance.min() < -0.25
    assert np.median(slope) == pytest.approx(1, abs=0.01)
    assert slope.max() < 1.15
    assert np.allclose(distance, distance[:, ::-1], atol=1e-5)


def test_known_points_of_the_shapes():
    def at(shape: str, x: float, y: float) -> float:
        return float(DISTANCES[shape](np.float32([x]), np.float32([y]))[0])

    assert at("disc", 0, 0) == pytest.approx(-0.92)
    assert at("square", 0.78, 0) == pytest.approx(0, abs=1e-6)
    assert at("ring", 0, 0) > 0
    assert at("star", 0, 1.0) < 0 < at("star", 0, -1.0)
    assert at("triangle", 0, 0.9) < at("triangle", 0, -0.9)
    assert at("heart", 0, -0.85) < 0 < at("heart", 0.5, -0.85)


@pytest.mark.parametrize("texture", [texture for texture in TEXTURES if texture != "plain"])
def test_textures_have_two_tones_of_fair_shares(texture):
    axis = np.linspace(0, 20, 801, dtype=np.float32)
    second = FIELDS[texture](axis[None, :], axis[:, None]) > 0
    assert 0.25 < second.mean() < 0.6


def test_stripes_run_one_way_and_checks_both():
    axis = np.linspace(0, 8, 161, dtype=np.float32)
    stripes, checks = (FIELDS[name](axis[None, :], axis[:, None]) > 0 for name in ("stripes", "checks"))
    assert (stripes == stripes[:1]).all()
    assert not (checks == checks[:1]).all()
    assert not (checks == checks[:, :1]).all()
