"""Crops as matrix products, against interpolation; and the random streams behind them."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from accentor.engine.crops import Augmentation, Stream, Views, draw_boxes, noise_factor, resize_matrices, whole_image
from accentor.spec import Recipe

CPU = torch.device("cpu")


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
    crops = Views(*resize_matrices(boxes, size, out)).of(images).view(2, 14, 3, out, out)
    for n in range(2):
        for t in range(14):
            expected = cut(images[n], boxes[n, t].tolist(), out)
            torch.testing.assert_close(crops[n, t], expected, atol=1e-5, rtol=1e-5)


def test_a_box_of_one_pixel_is_that_pixel():
    image = torch.rand(1, 3, 9, 7, generator=generator())
    crop = Views(*resize_matrices(torch.tensor([[[4, 5, 5, 6]]]), (9, 7), 8)).of(image)
    assert (crop[0] == image[0, :, 4, 5, None, None]).all()


def test_crops_do_not_see_beyond_their_box():
    image = torch.rand(1, 3, 20, 20, generator=generator()).requires_grad_()
    Views(*resize_matrices(torch.tensor([[[3, 5, 12, 9]]]), (20, 20), 8)).of(image).sum().backward()
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


def test_streams_depend_on_their_own_seed_alone():
    recipe = Recipe(steps=3, crops=4)
    size = (40, 30)

    def views(seeds):
        augmentation = Augmentation([Stream(seed, recipe, size, CPU) for seed in seeds], recipe, size, 16)
        return [augmentation.views(step) for step in range(3)]

    together, alone, reordered = views([5, 6, 7]), views([6]), views([6, 9])
    for a, b, c in zip(together, alone, reordered, strict=True):
        for part in ("rows", "columns", "noise"):
            assert torch.equal(getattr(a, part)[1], getattr(b, part)[0])
            assert torch.equal(getattr(c, part)[0], getattr(b, part)[0])
        assert not torch.equal(a.rows[0], a.rows[1])
        assert not torch.equal(a.noise[0], a.noise[1])
    assert not torch.equal(alone[0].rows, alone[1].rows)
    assert not torch.equal(alone[0].noise, alone[1].noise)


def test_crops_and_noise_do_not_share_random_numbers():
    stream = Stream(3, Recipe(noise_std=1.0, noise_range=0.0), (8, 8), CPU)
    assert not torch.equal(stream.white((100,)), torch.randn(100, generator=generator(3)))


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    recipe = Recipe(steps=2, crops=2)
    Augmentation([Stream(0, recipe, (20, 20), CPU)], recipe, (20, 20), 8).views(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_white_noise():
    white = Stream(0, Recipe(noise_std=0.02, noise_range=0.01), (8, 8), CPU).white((200_000,))
    assert white.mean().abs() < 2e-4
    assert white.std().item() == pytest.approx(math.sqrt(0.02**2 + 0.01**2 / 3), rel=0.01)
    even = Stream(0, Recipe(noise_std=0.0, noise_range=0.01), (8, 8), CPU).white((200_000,))
    assert even.abs().max() <= 0.01
    assert even.std().item() == pytest.approx(0.01 / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("side", [1, 2, 7, 16])
def test_noise_of_small_crops_is_resized_noise(side):
    white = torch.randn(16, 16, generator=generator())
    ours = noise_factor(side, 16) @ white @ noise_factor(side, 16).mT
    expected = cut(white[None].expand(3, -1, -1), (0, 0, side, side), 16)[0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [17, 40, 200])
def test_noise_of_large_crops_has_the_covariance_of_resized_noise(side):
    factor = noise_factor(side, 16).double()
    rows, _ = resize_matrices(torch.tensor([0, 0, side, side]), (side, side), 16)
    torch.testing.assert_close(factor @ factor.mT, rows.double() @ rows.double().mT, atol=1e-5, rtol=0)


def test_noise_is_added_to_the_crops():
    recipe = Recipe(steps=1, crops=3, noise_std=0.1)
    size = (30, 30)
    loud, quiet = (
        Augmentation([Stream(1, one, size, CPU)], one, size, 8).views(0)
        for one in (recipe, recipe.model_copy(update={"noise_std": 0.0, "noise_range": 0.0}))
    )
    assert quiet.noise is None
    image = torch.rand(1, 3, *size, generator=generator())
    torch.testing.assert_close(loud.of(image) - quiet.of(image), loud.noise.flatten(0, 1), atol=1e-6, rtol=0)
    assert loud.noise.abs().max() > 0.01


def test_noise_of_a_crop_that_is_not_square():
    """Each axis has its own resize: rows of a tall crop are mixed, columns of a narrow one are spread."""
    recipe = Recipe(steps=1, crops=2, crop_size=(1.0, 1.0))
    size = (60, 12)
    noise = Augmentation([Stream(4, recipe, size, CPU)], recipe, size, 16).views(0).noise
    white = Stream(4, recipe, size, CPU).white((2, 3, 16, 16))
    torch.testing.assert_close(noise[0], noise_factor(60, 16) @ white @ noise_factor(12, 16).mT)


def test_crops_of_one_image_do_not_touch_another():
    images = torch.rand(2, 3, 12, 12, generator=generator()).requires_grad_()
    boxes = random_boxes(6, (12, 12)).view(2, 3, 4)
    Views(*resize_matrices(boxes, (12, 12), 8)).of(images)[:3].sum().backward()
    assert images.grad[0].any()
    assert not images.grad[1].any()
