"""Augmentation τ: random views of the canvas at the model's input size, the same for an image and for its seed.

A bilinear resize is linear and separable, so that cutting a box from X and resizing it is ``R_y X R_xᵀ`` with two
sparse matrices. All crops of all images are two products, with no loop over either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from accentor.engine.noise import NoisePool, ResizedNoise
from accentor.engine.resampling import LineMap, resize_taps, taps_needed
from accentor.engine.schedule import steps_needed
from accentor.spec import Recipe

NOISE_STREAM = 0x9E3779B9
PLACE_STREAM = 0x85EBCA6B
START_STREAM = 0xC2B2AE35
COLOR_STREAM = 0x27D4EB2F
"""Exclusive-ors of a pair's random seed, so that crops, noise and a start from noise do not share random numbers."""

CENTRE_STD = 0.1
"""Standard deviation of a centred crop's middle, as a fraction of the canvas (MACO, arXiv 2306.06805)."""

JITTER_PIXELS = (4, 2)
JITTER_SCALE = 0.1
JITTER_DEGREES = 10.0
"""Lucid's standard transforms: shifts before and after the turn, in pixels of the model's input, scales and angles."""

GREY = 0.5
"""What lies beyond the image's border in jittered views (Lucid pads with it)."""


class Views(Protocol):
    """T views of each of N images."""

    def of(self, images: Tensor) -> Tensor:
        """Return the views [N · T, C, S, S] of the images [N, C, H, W]."""


@dataclass(frozen=True)
class Crops:
    """Boxes cut from the images and resized: R_x [N, T · S, W], R_y [N · T, S, H]; noise [N · T, C, S, S] if any.

    Noise of one colour is [N · T, C, 1, 1].
    """

    columns: LineMap
    rows: LineMap
    noise: Tensor | None = None

    def of(self, images: Tensor) -> Tensor:
        """Return R_y X R_xᵀ + noise, [N · T, C, S, S], of the images [N, C, H, W]."""
        n, channels, height, width = images.shape
        views, out = self.rows.groups, self.rows.rows
        wide = self.columns(images.permute(0, 3, 1, 2).reshape(n, width, channels * height))
        tall = wide.view(views, out, channels, height).permute(0, 3, 2, 1).reshape(views, height, channels * out)
        small = self.rows(tall).view(views, out, channels, out).transpose(1, 2)
        return small if self.noise is None else small + self.noise


@dataclass(frozen=True)
class Jittered:
    """The whole image, shifted, scaled and rotated: sampling grids [N · T, S, S, 2]; noise [N · T, C, S, S] if any."""

    whole: Crops
    grids: Tensor
    noise: Tensor | None = None

    def of(self, images: Tensor) -> Tensor:
        """Return the views [N · T, C, S, S] of the images [N, C, H, W]."""
        small = self.whole.of(images).repeat_interleave(len(self.grids) // len(images), dim=0)
        moved = grid_sample(small - GREY, self.grids, mode="bilinear", padding_mode="zeros", align_corners=False) + GREY
        return moved if self.noise is None else moved + self.noise


class Stream:
    """The random stream of one pair: its views and its noise depend on its own seed and on nothing else."""

    def __init__(self, seed: int, recipe: Recipe, size: tuple[int, int], device: torch.device) -> None:
        self.views = torch.Generator().manual_seed(seed)
        self.noise = torch.Generator(device).manual_seed(seed ^ NOISE_STREAM)
        self.places = torch.Generator().manual_seed(seed ^ PLACE_STREAM)
        self.start = torch.Generator(device).manual_seed(seed ^ START_STREAM)
        self.shades = torch.Generator().manual_seed(seed ^ COLOR_STREAM)
        self._recipe = recipe
        self._size = size
        self._shape = (max(steps_needed(recipe), steps_needed(recipe, suppress=True)), recipe.crops)

    def boxes(self) -> Tensor:
        """Draw the crops of all steps at once: boxes [steps, T, 4] as (y0, x0, y1, x1), on the CPU."""
        centered = self._recipe.augmentation == "centered"
        return draw_boxes(self.views, self._shape, self._recipe.crop_size, self._size, centered=centered)

    def warps(self, out: int) -> Tensor:
        """Draw the affine maps of all steps at once: [steps, T, 2, 3], on the CPU."""
        return draw_warps(self.views, self._shape, out)

    def pool(self, count: int) -> NoisePool:
        """Draw the noise for views of so many numbers."""
        return NoisePool(self.noise, self._recipe.noise_std, self._recipe.noise_range, count)

    def starts(self, places: int) -> Tensor:
        """Draw where the noise of every view begins: [steps, T], on the CPU."""
        return torch.randint(places, self._shape, generator=self.places)

    def colors(self, channels: int) -> Tensor:
        """Draw the colour that is added to all of a view: [steps, T, C, 1, 1], on the CPU."""
        return self._recipe.noise_color * torch.randn(*self._shape, channels, 1, 1, generator=self.shades)


class Augmentation:
    """τ of N pairs of one canvas size: ``views(step)`` are the T views of each pair in that step.

    Parameters
    ----------
    streams
        One for each pair.
    recipe
        Its crops and noise.
    size
        Height and width of the canvas.
    out
        S, the side of the model's input.
    channels
        C of the images.
    """

    def __init__(
        self, streams: Sequence[Stream], recipe: Recipe, size: tuple[int, int], out: int, channels: int = 3
    ) -> None:
        self._recipe = recipe
        self._size = size
        self._out = out
        self._channels = channels
        self._device = streams[0].noise.device
        self._warps = self._boxes = self._resized = self._colors = None
        if recipe.noise_color > 0:
            self._colors = torch.stack([stream.colors(channels) for stream in streams], dim=1).to(self._device)
        if recipe.augmentation == "jitter":
            self._warps = torch.stack([stream.warps(out) for stream in streams], dim=1).to(self._device)
            self._whole = whole_image(len(streams), size, out, self._device)
        else:
            boxes = torch.stack([stream.boxes() for stream in streams], dim=1)
            if self._noisy and recipe.noise_at == "crop":
                self._resized = ResizedNoise(max(size), out, self._device)
            self._boxes = boxes.to(self._device)
        if self._noisy:
            self._pools = [stream.pool(out * out * channels) for stream in streams]
            starts = [stream.starts(pool.starts) for stream, pool in zip(streams, self._pools, strict=True)]
            self._starts = torch.stack(starts, dim=1).to(self._device)
        self.generators = [stream.start for stream in streams]

    @property
    def _noisy(self) -> bool:
        return self._recipe.noise_std > 0 or self._recipe.noise_range > 0

    def views(self, step: int) -> Views:
        """Return the T views of each pair in this step."""
        noise = self._noise(step) if self._noisy else None
        if self._colors is not None:
            colors = self._colors[step].flatten(0, 1)
            noise = colors if noise is None else noise + colors
        if self._warps is not None:
            warps = self._warps[step]
            shape = [len(warps) * self._recipe.crops, self._channels, self._out, self._out]
            return Jittered(self._whole, affine_grid(warps.flatten(0, 1), shape, align_corners=False), noise)
        assert self._boxes is not None  # noqa: S101 - what is not warped is cut
        return crops_of(self._boxes[step], self._size, self._out, noise)

    def _noise(self, step: int) -> Tensor:
        """Return the noise of all views, [N · T, C, S, S]."""
        drawn = [pool.at(starts) for pool, starts in zip(self._pools, self._starts[step], strict=True)]
        white = torch.cat(drawn).view(-1, self._out, self._out * self._channels)
        if self._resized is not None:
            assert self._boxes is not None  # noqa: S101 - noise is resized with the boxes it is cut with
            sides = (self._boxes[step][..., 2:] - self._boxes[step][..., :2]).flatten(0, 1)
            columns = self._resized.along(sides[:, 1])(white)
            lines = columns.view(-1, self._out, self._out, self._channels).transpose(1, 2)
            white = self._resized.along(sides[:, 0])(lines.reshape(white.shape))
        return white.view(-1, self._out, self._out, self._channels).permute(0, 3, 1, 2)


def whole_image(count: int, size: tuple[int, int], out: int, device: torch.device) -> Crops:
    """Return the one view of each image that is the whole of it, without noise: what "clean" values are measured on."""
    box = torch.tensor([0, 0, *size], device=device).expand(count, 1, 4)
    return crops_of(box, size, out)


def crops_of(boxes: Tensor, size: tuple[int, int], out: int, noise: Tensor | None = None) -> Crops:
    """Return the crops of N images of this size in the boxes [N, T, 4] given as (y0, x0, y1, x1)."""
    count, taps = len(boxes), taps_needed(max(size), out)
    index, weight = resize_taps(boxes[..., 1], boxes[..., 3], out, taps)
    columns = LineMap(index.reshape(count, -1, taps), weight.reshape(count, -1, taps), size[1])
    index, weight = resize_taps(boxes[..., 0], boxes[..., 2], out, taps)
    return Crops(columns, LineMap(index.flatten(0, 1), weight.flatten(0, 1), size[0]), noise)


def draw_boxes(
    generator: torch.Generator,
    shape: tuple[int, ...],
    crop_size: tuple[float, float],
    size: tuple[int, int],
    *,
    centered: bool = False,
) -> Tensor:
    """Draw crop boxes [*shape, 4] as (y0, x0, y1, x1), half open, in pixels.

    The side fraction d ~ U(crop_size) is the same for height and width. The corner is uniform over the in-bounds range;
    centred crops have their middle at N(0.5, 0.1²), kept in bounds. Bounds are truncated to whole pixels, one at least.
    """
    low, high = crop_size
    drawn = torch.rand(*shape, 3, generator=generator, dtype=torch.float64)
    side = low + (high - low) * drawn[..., :1]
    if centered:
        middle = 0.5 + CENTRE_STD * torch.special.ndtri(drawn[..., 1:])
        corner = (middle - side / 2).clamp_min(0.0).minimum(1 - side)
    else:
        corner = drawn[..., 1:] * (1 - side)
    scale = torch.tensor(size, dtype=torch.float64)
    start = (corner * scale).long()
    stop = ((corner + side) * scale).long().maximum(start + 1)
    return torch.cat([start, stop], dim=-1)


def draw_warps(generator: torch.Generator, shape: tuple[int, ...], out: int) -> Tensor:
    """Draw affine maps [*shape, 2, 3] from a view's coordinates in -1..1 to the image's: Lucid's standard transforms.

    Scales are uniform in 0.9..1.1, angles in ±10°, shifts in whole pixels of the model's input: up to ±4 before, and
    ±2 after, the others.
    """
    drawn = 2 * torch.rand(*shape, 6, generator=generator, dtype=torch.float64) - 1
    scale = 1 + JITTER_SCALE * drawn[..., 0]
    angle = torch.deg2rad(JITTER_DEGREES * drawn[..., 1])
    first, second = (JITTER_PIXELS[0] * drawn[..., 2:4]).round(), (JITTER_PIXELS[1] * drawn[..., 4:]).round()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)
    shift = (first + (turn @ second[..., None])[..., 0]) * (2 / out)
    return torch.cat([turn, shift[..., None]], dim=-1).float()
