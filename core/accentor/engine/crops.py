"""Augmentation τ: random crops with noise, resized to the model's input, as batched matrix products.

A bilinear resize is linear and separable, so that cropping box (y0, x0, y1, x1) of X and resizing it is
``R_y X R_xᵀ`` with two matrices of a row per output pixel. All crops of all images are two products.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from accentor.spec import Recipe

NOISE_STREAM = 0x9E3779B9
"""Exclusive-or of a pair's random seed that seeds its noise, so that crops and noise do not share random numbers."""

CHOLESKY_JITTER = 1e-6
"""Added to the covariance of resized noise, whose smallest eigenvalues fall to 1e-5 for crops just above the input."""


@dataclass(frozen=True)
class Views:
    """T crops of each of N images: R_y [N, T, S, H], R_x [N, T, S, W], and their noise [N, T, 3, S, S] if any."""

    rows: Tensor
    columns: Tensor
    noise: Tensor | None = None

    def of(self, images: Tensor) -> Tensor:
        """Return the crops [N · T, 3, S, S] of the images [N, 3, H, W]: R_y X R_xᵀ + noise."""
        n, crops, size, height = self.rows.shape
        channels, width = images.shape[1], images.shape[3]
        beside = images.transpose(1, 2).reshape(n, height, channels * width)
        tall = (self.rows.reshape(n, crops * size, height) @ beside).view(n, crops, size * channels, width)
        small = (tall @ self.columns.mT).view(n, crops, size, channels, size).transpose(2, 3)
        if self.noise is not None:
            small = small + self.noise
        return small.reshape(n * crops, channels, size, size)


class Stream:
    """The random stream of one pair: its crops and its noise depend on its own seed and on nothing else."""

    def __init__(self, seed: int, recipe: Recipe, size: tuple[int, int], device: torch.device) -> None:
        self._boxes = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator(device).manual_seed(seed ^ NOISE_STREAM)
        self._recipe = recipe
        self._size = size

    def boxes(self) -> Tensor:
        """Draw the crops of all steps at once: boxes [steps, T, 4] as (y0, x0, y1, x1), on the CPU."""
        return draw_boxes(self._boxes, (self._recipe.steps, self._recipe.crops), self._recipe.crop_size, self._size)

    def white(self, shape: Sequence[int]) -> Tensor:
        """Draw N(0, σ²) + U(−r, r) for every element of the shape."""
        device = self._noise.device
        gauss = torch.randn(*shape, generator=self._noise, device=device)
        even = torch.rand(*shape, generator=self._noise, device=device)
        return gauss.mul_(self._recipe.noise_std).add_(even.sub_(0.5), alpha=2 * self._recipe.noise_range)


class Augmentation:
    """τ of N pairs of one canvas size: the views of step t."""

    def __init__(self, streams: Sequence[Stream], recipe: Recipe, size: tuple[int, int], out: int) -> None:
        self._streams = streams
        self._recipe = recipe
        self._size = size
        self._out = out
        self._device = streams[0]._noise.device
        boxes = torch.stack([stream.boxes() for stream in streams], dim=1)
        sides = sorted(set((boxes[..., 2:] - boxes[..., :2]).flatten().tolist())) if self._noisy else []
        self._factors = torch.stack([noise_factor(side, out) for side in sides]).to(self._device) if sides else None
        self._factor_of = torch.zeros(max(size) + 1, dtype=torch.long)
        self._factor_of[sides] = torch.arange(len(sides))
        self._factor_of = self._factor_of.to(self._device)
        self._boxes = boxes.to(self._device)

    @property
    def _noisy(self) -> bool:
        return self._recipe.noise_std > 0 or self._recipe.noise_range > 0

    def views(self, step: int) -> Views:
        """Draw the T crops of each pair for this step."""
        boxes = self._boxes[step]
        rows, columns = resize_matrices(boxes, self._size, self._out)
        return Views(rows, columns, self._draw_noise(boxes) if self._factors is not None else None)

    def _draw_noise(self, boxes: Tensor) -> Tensor:
        assert self._factors is not None  # noqa: S101 - views() checked it
        shape = (self._recipe.crops, 3, self._out, self._out)
        white = torch.stack([stream.white(shape) for stream in self._streams])
        rows, columns = (self._factors[self._factor_of[boxes[..., 2 + i] - boxes[..., i]]] for i in (0, 1))
        return rows[:, :, None] @ white @ columns[:, :, None].mT


def whole_image(count: int, size: tuple[int, int], out: int, device: torch.device) -> Views:
    """Return the one view [N, 1, ...] that is the whole image, without noise: what "clean" values are measured on."""
    box = torch.tensor([0, 0, *size], device=device).expand(count, 1, 4)
    return Views(*resize_matrices(box, size, out))


def draw_boxes(
    generator: torch.Generator, shape: tuple[int, ...], crop_size: tuple[float, float], size: tuple[int, int]
) -> Tensor:
    """Draw crop boxes [*shape, 4] as (y0, x0, y1, x1), half open, in pixels.

    The side fraction d ~ U(crop_size) is the same for height and width, the corner is uniform over the in-bounds
    range, and bounds are truncated to whole pixels (at least one).
    """
    low, high = crop_size
    side, top, left = torch.rand(*shape, 3, generator=generator, dtype=torch.float64).unbind(-1)
    side = low + (high - low) * side
    corner = torch.stack([top, left], dim=-1) * (1 - side[..., None])
    scale = torch.tensor(size, dtype=torch.float64)
    start = (corner * scale).long()
    stop = ((corner + side[..., None]) * scale).long().maximum(start + 1)
    return torch.cat([start, stop], dim=-1)


def resize_matrices(boxes: Tensor, size: tuple[int, int], out: int) -> tuple[Tensor, Tensor]:
    """Return R_y [..., S, H] and R_x [..., S, W] that cut the boxes [..., 4] and resize them to S × S."""
    height, width = size
    return (
        resize_matrix(boxes[..., 0], boxes[..., 2], height, out),
        resize_matrix(boxes[..., 1], boxes[..., 3], width, out),
    )


def resize_matrix(start: Tensor, stop: Tensor, length: int, out: int) -> Tensor:
    """Return R [..., S, L]: the bilinear, antialiased resize of the pixels start..stop of a line of L pixels.

    As ``torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=True)``: a triangle of
    half-width max(scale, 1) around scale · (i + 0.5), with scale = (n − 1)/(S − 1), normalised to sum 1.
    """
    count = (stop - start)[..., None, None]
    scale = (count - 1) / max(out - 1, 1)
    centre = scale * (torch.arange(out, device=start.device)[:, None] + 0.5)
    pixel = torch.arange(length, device=start.device) - start[..., None, None]
    weight = (1 - (pixel + 0.5 - centre).abs() / scale.clamp_min(1.0)).clamp_min(0.0)
    weight = torch.where((pixel >= 0) & (pixel < count), weight, 0.0)
    return weight / weight.sum(dim=-1, keepdim=True)


@lru_cache(maxsize=256)
def noise_factor(side: int, out: int) -> Tensor:
    """Return A [S, S] such that A Z Aᵀ, with white Z [S, S], is white noise on a crop of this side, resized to S.

    For a crop no larger than S it is the resize itself, of the first ``side`` rows of Z. For a larger one it is the
    Cholesky factor of the resized noise's covariance R Rᵀ: the same first two moments at the price of S × S numbers.
    """
    resize = resize_matrix(torch.tensor(0), torch.tensor(side), side, out)
    if side <= out:
        return torch.nn.functional.pad(resize, (0, out - side))
    covariance = (resize.double() @ resize.double().mT) + CHOLESKY_JITTER * torch.eye(out, dtype=torch.float64)
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor.float()
