"""Crops and jittered views against interpolation and sampling; and the random streams behind them."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from accentor.engine.crops import Augmentation, Stream, crops_of, draw_boxes, draw_warps, whole_image
from accentor.engine.noise import POOL, ResizedNoise
from accentor.engine.resampling import LineMap
from accentor.spec import Recipe

CPU = torch.device("cpu")


def noisy(**settings):
    return Recipe(noise_std=0.02, noise_range=0.01, **settings)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cut(image, box, out):
    y0, x0, y1, x1 = box
    return interpolate(image[None, :, y0:y1, x0:x1], (out, out), mode="bilinear", antialias=True, align_corners=True)[0]


def random_boxes(count, size, seed=0):
    a, b = (torch.rand(count, 2, generator=generator(seed + i)) for i in (0, 1))
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    scale = torch.tensor(size)
    start = (low * scale).long()
    stop = (high * scale).long().maximum(start + 1)
    return torch.cat([start, stop], dim=-1)


@pytest.mark.parametrize(
    ("size", "out"), [((40, 40), 16), ((33, 57), 16), ((20, 20), 32), ((16, 256), 24), ((5, 3), 8), ((64, 64), 2)]
)
def test_crops_are_interpolation(size, out):
    height, width = size
    images = torch.rand(2, 3, *size, generator=generator())
    boxes = random_boxes(24, size)
    corner = [0, 0, 1, 1], [height - 1, width - 1, height, width], [0, 0, height, width], [0, 0, 1, width]
    boxes = torch.cat([boxes, torch.tensor(corner)]).view(2, 14, 4)
    crops = crops_of(boxes, size, out).of(images).reshape(2, 14, 3, out, out)
    for n in range(2):
        for t in range(14):
            expected = cut(images[n], boxes[n, t].tolist(), out)
            torch.testing.assert_close(crops[n, t], expected, atol=1e-5, rtol=1e-5)


def test_a_box_of_one_pixel_is_that_pixel():
    image = torch.rand(1, 3, 9, 7, generator=generator())
    crop = crops_of(torch.tensor([[[4, 5, 5, 6]]]), (9, 7), 8).of(image)
    assert (crop[0] == image[0, :, 4, 5, None, None]).all()


def test_crops_do_not_see_beyond_their_box():
    image = torch.rand(1, 3, 20, 20, generator=generator()).requires_grad_()
    crops_of(torch.tensor([[[3, 5, 12, 9]]]), (20, 20), 8).of(image).sum().backward()
    inside = torch.zeros(20, 20, dtype=torch.bool)
    inside[3:12, 5:9] = True
    assert (image.grad[0].abs().sum(0)[inside] > 0).all()
    assert not image.grad[0][:, ~inside].any()


def test_whole_image():
    images = torch.rand(2, 3, 30, 20, generator=generator())
    ours = whole_image(2, (30, 20), 16, CPU).of(images)
    expected = interpolate(images, (16, 16), mode="bilinear", antialias=True, align_corners=True)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_boxes_are_uniform():
    boxes = draw_boxes(generator(), (20_000,), (0.2, 0.6), (1000, 2000))
    y0, x0, y1, x1 = boxes.double().unbind(-1)
    assert y0.min() >= 0
    assert x0.min() >= 0
    assert y1.max() <= 1000
    assert x1.max() <= 2000
    tall, wide = (y1 - y0) / 1000, (x1 - x0) / 2000
    assert (tall - wide).abs().max() <= 0.0015, "the side fraction is the same for height and width"
    quantiles = torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99], dtype=torch.float64)
    expected = 0.2 + 0.4 * quantiles
    torch.testing.assert_close(tall.quantile(quantiles), expected, atol=0.01, rtol=0)
    places = y0 / (1000 - (y1 - y0)), x0 / (2000 - (x1 - x0))
    for place in places:
        torch.testing.assert_close(place.quantile(quantiles), quantiles, atol=0.015, rtol=0)
    correlations = torch.corrcoef(torch.stack([*places, tall])).fill_diagonal_(0)
    assert correlations.abs().max() < 0.03


@pytest.mark.parametrize("size", [(16, 16), (1, 16), (511, 33)])
def test_extreme_boxes(size):
    height, width = size
    assert draw_boxes(generator(), (50,), (1.0, 1.0), size).unique(dim=0).tolist() == [[0, 0, height, width]]
    tiny = draw_boxes(generator(), (500,), (1e-9, 1e-9), size)
    assert (tiny[:, 2:] - tiny[:, :2] == 1).all()
    assert (tiny[:, 2:] <= torch.tensor(size)).all()


@pytest.mark.parametrize("augmentation", ["uniform", "centered", "jitter"])
def test_streams_depend_on_their_own_seed_alone(augmentation):
    recipe = Recipe(steps=3, crops=4, augmentation=augmentation, noise_std=0.02)
    size = (40, 30)
    image = torch.rand(1, 3, *size, generator=generator())

    def views(seeds):
        one = Augmentation([Stream(seed, recipe, size, CPU) for seed in seeds], recipe, size, 16)
        images = image.expand(len(seeds), -1, -1, -1)
        return [one.views(step).of(images).reshape(len(seeds), 4, 3, 16, 16) for step in range(3)]

    together, alone, reordered = views([5, 6, 7]), views([6]), views([6, 9])
    for a, b, c in zip(together, alone, reordered, strict=True):
        assert torch.equal(a[1], b[0])
        assert torch.equal(c[0], b[0])
        assert not torch.equal(a[0], a[1])
    assert not torch.equal(alone[0], alone[1])


def test_longer_runs_begin_as_shorter_ones():
    size = (40, 30)
    short, long = (
        Augmentation([Stream(3, one, size, CPU)], one, size, 16)
        for one in (noisy(steps=3, crops=4), noisy(steps=3, crops=4, strengths=(2.0, -3.0)))
    )
    image = torch.rand(1, 3, *size, generator=generator())
    for step in range(3):
        assert torch.equal(short.views(step).of(image), long.views(step).of(image))
    long.views(8)


def test_crops_and_noise_do_not_share_random_numbers():
    stream = Stream(3, Recipe(noise_std=1.0, noise_range=0.0), (8, 8), CPU)
    first = stream.pool(100).at(torch.tensor([0]))[0]
    assert not torch.equal(first, torch.randn(POOL, generator=generator(3))[:100])


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    recipe = Recipe(steps=2, crops=2)
    Augmentation([Stream(0, recipe, (20, 20), CPU)], recipe, (20, 20), 8).views(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_white_noise():
    pool = Stream(0, Recipe(noise_std=0.02, noise_range=0.01), (8, 8), CPU).pool(1_000)
    white = pool.at(torch.arange(0, 200_000, 1_000)).flatten()
    assert white.mean().abs() < 2e-4
    assert white.std().item() == pytest.approx(math.sqrt(0.02**2 + 0.01**2 / 3), rel=0.01)
    even = Stream(0, Recipe(noise_std=0.0, noise_range=0.01), (8, 8), CPU).pool(200_000).at(torch.tensor([5]))
    assert even.abs().max() <= 0.01
    assert even.std().item() == pytest.approx(0.01 / math.sqrt(3), rel=0.01)


def test_a_pool_is_never_shorter_than_two_views():
    pool = Stream(0, Recipe(), (8, 8), CPU).pool(POOL)
    assert pool.starts == POOL + 1
    assert pool.at(torch.tensor([0, POOL])).shape == (2, POOL)


def test_the_noise_of_no_two_views_is_the_same():
    recipe = noisy(steps=5, crops=6, noise_at="input")
    noise = Augmentation([Stream(2, recipe, (20, 20), CPU)], recipe, (20, 20), 16)
    seen = torch.cat([noise.views(step).noise for step in range(5)])
    correlation = torch.corrcoef(seen.flatten(1)).fill_diagonal_(0)
    assert correlation.abs().max() < 0.2, "these are 768 numbers each"


@pytest.mark.parametrize("side", [1, 2, 7, 16])
def test_noise_of_small_crops_is_resized_noise(side):
    white = torch.randn(1, 16, 16, generator=generator())
    maps = ResizedNoise(30, 16, CPU).along(torch.tensor([side]))
    ours = maps(maps(white).mT.contiguous()).mT[0]
    expected = cut(white.expand(3, -1, -1), (0, 0, side, side), 16)[0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [17, 18, 40, 200])
def test_noise_of_large_crops_has_the_covariance_of_resized_noise(side):
    factor = ResizedNoise(200, 16, CPU).along(torch.tensor([side]))(torch.eye(16)[None])[0].double()
    lines = torch.eye(side)[None, None].expand(1, 3, -1, -1)
    resize = interpolate(lines, (16, side), mode="bilinear", antialias=True, align_corners=True)[0, 0].double()
    torch.testing.assert_close(factor @ factor.mT, resize @ resize.mT, atol=1e-5, rtol=0)


@pytest.mark.parametrize("augmentation", ["uniform", "jitter"])
@pytest.mark.parametrize("at", ["crop", "input"])
def test_noise_is_added_to_the_views(augmentation, at):
    recipe = Recipe(steps=1, crops=3, noise_std=0.1, augmentation=augmentation, noise_at=at)
    size = (30, 30)
    loud, quiet = (
        Augmentation([Stream(1, one, size, CPU)], one, size, 8).views(0)
        for one in (recipe, recipe.model_copy(update={"noise_std": 0.0, "noise_range": 0.0}))
    )
    assert quiet.noise is None
    image = torch.rand(1, 3, *size, generator=generator())
    torch.testing.assert_close(loud.of(image) - quiet.of(image), loud.noise, atol=1e-6, rtol=0)
    assert loud.noise.abs().max() > 0.01


def recolored(**settings):
    return Recipe.model_validate({"noise_std": 0.0, "noise_range": 0.0} | settings)


@pytest.mark.parametrize("augmentation", ["uniform", "jitter"])
def test_a_colour_shifts_all_of_a_view(augmentation):
    """Each view by its own, N(0, 0.1²) in every channel; the views themselves are the same ones as without it."""
    image = torch.rand(1, 3, 40, 40)
    plain, shifted = (recolored(augmentation=augmentation, crops=8, steps=50, noise_color=std) for std in (0.0, 0.1))
    differences = []
    ours = [Augmentation([Stream(3, one, (40, 40), CPU)], one, (40, 40), 16) for one in (plain, shifted)]
    for step in range(50):
        without, given = (one.views(step).of(image) for one in ours)
        difference = given - without
        shift = difference.mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(difference, shift.expand_as(difference), atol=1e-6, rtol=0)
        differences.append(shift.flatten(1))
    drawn = torch.cat(differences)
    assert drawn.mean().abs() < 0.01
    torch.testing.assert_close(drawn.std(dim=0), torch.full((3,), 0.1), atol=0.012, rtol=0)
    assert torch.corrcoef(drawn.T).triu(1).abs().max() < 0.15


def test_a_colour_is_added_to_the_noise():
    image = torch.rand(1, 3, 40, 40)
    both, noise = (recolored(crops=4, steps=1, noise_std=0.05, noise_color=std) for std in (0.2, 0.0))
    views = [
        Augmentation([Stream(3, one, (40, 40), CPU)], one, (40, 40), 16).views(0).of(image) for one in (both, noise)
    ]
    shift = (views[0] - views[1]).flatten(2)
    assert shift.std(dim=2).max() < 1e-6
    assert shift.std() > 0.1


def test_noise_at_the_input_is_white_whatever_the_crop():
    recipe = Recipe(steps=1, crops=8, noise_std=0.1, noise_range=0.0, noise_at="input", crop_size=(0.1, 0.1))
    noise = Augmentation([Stream(1, recipe, (80, 80), CPU)], recipe, (80, 80), 32).views(0).noise
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    assert torch.corrcoef(torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()]))[0, 1].abs() < 0.02
    spread = Augmentation(
        [Stream(1, one := recipe.model_copy(update={"noise_at": "crop"}), (80, 80), CPU)], one, (80, 80), 32
    )
    smooth = spread.views(0).noise
    assert torch.corrcoef(torch.stack([smooth[..., 1:].flatten(), smooth[..., :-1].flatten()]))[0, 1] > 0.8


def test_noise_of_a_crop_that_is_not_square():
    """Each axis has its own resize: rows of a tall crop are mixed, columns of a narrow one are spread."""
    recipe = noisy(steps=1, crops=1, crop_size=(1.0, 1.0))
    size = (60, 12)
    stream = Stream(4, recipe, size, CPU)
    noise = Augmentation([Stream(4, recipe, size, CPU)], recipe, size, 16).views(0).noise[0]
    pool = stream.pool(16 * 16 * 3)
    white = pool.at(stream.starts(pool.starts)[0]).view(16, 16, 3).permute(2, 1, 0)
    table = ResizedNoise(60, 16, CPU)
    tall, narrow = (table.along(torch.tensor([side]))(torch.eye(16)[None])[0] for side in size)
    torch.testing.assert_close(noise, tall @ white @ narrow.mT, atol=1e-6, rtol=1e-4)


def test_the_adjoint_is_the_transpose():
    index = torch.randint(5, (3, 7, 4), generator=generator())
    weight = torch.randn(3, 7, 4, generator=generator(1), dtype=torch.float64)
    maps = LineMap(index, weight, 5)
    dense = torch.zeros(3, 7, 5, dtype=torch.float64).scatter_add_(2, index, weight)
    values = torch.randn(3, 5, 2, generator=generator(2), dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(maps(values), dense @ values)
    torch.testing.assert_close(
        maps.adjoint(maps(values)), dense.mT @ (dense @ values), msg="a row twice in one entry adds up"
    )
    assert torch.autograd.gradcheck(maps, values)


def test_centered_crops():
    boxes = draw_boxes(generator(), (20_000,), (0.05, 0.5), (1000, 2000), centered=True).double()
    y0, x0, y1, x1 = boxes.unbind(-1)
    assert boxes.min() >= 0
    assert y1.max() <= 1000
    assert x1.max() <= 2000
    assert ((y1 - y0) / 1000).quantile(0.5).item() == pytest.approx(0.275, abs=0.005)
    for middle in ((y0 + y1) / 2000, (x0 + x1) / 4000):
        assert middle.mean().item() == pytest.approx(0.5, abs=0.003)
        assert middle.std().item() == pytest.approx(0.1, abs=0.003)


def test_jittered_views_without_jitter_are_the_whole_image():
    images = torch.rand(2, 3, 40, 30, generator=generator())
    recipe = Recipe(steps=1, crops=2, noise_std=0.0, noise_range=0.0, augmentation="jitter")
    views = Augmentation([Stream(seed, recipe, (40, 30), CPU) for seed in (0, 1)], recipe, (40, 30), 16).views(0)
    still = torch.nn.functional.affine_grid(torch.eye(2, 3).expand(4, -1, -1), [4, 3, 16, 16], align_corners=False)
    same = type(views)(views.whole, still).of(images)
    expected = whole_image(2, (40, 30), 16, CPU).of(images).repeat_interleave(2, dim=0)
    torch.testing.assert_close(same, expected, atol=1e-5, rtol=1e-5)
    assert (views.of(images) - expected).abs().max() > 0.05


def test_warps_turn_scale_and_shift_within_bounds():
    warps = draw_warps(generator(), (5_000,), 64).double()
    turn, shift = warps[..., :2], warps[..., 2] * 32
    scale = 1 / torch.linalg.det(turn).sqrt()
    angle = torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0]))
    for values, low, high in ((scale, 0.9, 1.1), (angle, -10.0, 10.0)):
        assert values.min().item() == pytest.approx(low, abs=0.01 * abs(high))
        assert values.max().item() == pytest.approx(high, abs=0.01 * abs(high))
    assert 5.5 < shift.abs().max() < 4 + 2 * math.sqrt(2) / 0.9
    rotation = turn * scale[:, None, None]
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(2, dtype=torch.float64).expand(5_000, 2, 2), atol=1e-6, rtol=0
    )


def test_what_lies_beyond_a_jittered_view_is_grey():
    recipe = Recipe(steps=6, crops=8, noise_std=0.0, noise_range=0.0, augmentation="jitter")
    views = Augmentation([Stream(0, recipe, (32, 32), CPU)], recipe, (32, 32), 32)
    corners = torch.stack([views.views(step).of(torch.ones(1, 3, 32, 32)) for step in range(6)])
    assert corners.min().item() == pytest.approx(0.5, abs=1e-6)
    assert corners.max().item() == pytest.approx(1.0, abs=1e-5)


def test_crops_of_one_image_do_not_touch_another():
    images = torch.rand(2, 3, 12, 12, generator=generator()).requires_grad_()
    boxes = random_boxes(6, (12, 12)).view(2, 3, 4)
    crops_of(boxes, (12, 12), 8).of(images)[:3].sum().backward()
    assert images.grad[0].any()
    assert not images.grad[1].any()
