"""Images for a scan or a fit: decoded in threads ahead of the network; those that cannot be read are passed over."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from accentor.engine.canvas import ImageLike, fit_canvas
from accentor.errors import DigestMismatchError, InvalidImageError, NotFoundError
from accentor.images import open_image
from accentor.spec import ModelCard

BATCHES_AHEAD = 2
"""Batches that are decoded while the network runs."""


@dataclass(frozen=True)
class Item:
    """One image of many.

    Attributes
    ----------
    id
        What it is called: a path, a sha256.
    read
        Returns it; called in a thread.
    label
        Its class, as the model calls it or by index; none: not known.
    """

    id: str
    read: Callable[[], ImageLike]
    label: str | int | None = None


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    image: int
    id: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """A batch: pixels [B, C, S, S], the images' indices, names, labels and sizes [B, 2] (height, width)."""

    pixels: Tensor
    images: list[int]
    items: list[Item]
    sizes: Tensor
    skipped: list[Skipped]


def as_items(images: "Iterable[ImageLike | Item]") -> Iterator[Item]:
    """Return items; an image that has no name is called by its index."""
    for index, image in enumerate(images):
        yield image if isinstance(image, Item) else Item(_name(image, index), lambda image=image: image)  # type: ignore[misc]


def load(items: Iterable[Item], card: ModelCard, batch: int, threads: int) -> Iterator[Loaded]:
    """Yield batches in order; images are numbered."""
    numbered = enumerate(items)
    waiting: deque[list[tuple[int, Item, Future[tuple[Tensor, tuple[int, int]]]]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        while True:
            while len(waiting) <= BATCHES_AHEAD and (group := list(islice(numbered, batch))):
                waiting.append([(index, item, pool.submit(_decode, item, card)) for index, item in group])
            if not waiting:
                return
            yield _collect(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(group: list[tuple[int, Item, "Future[tuple[Tensor, tuple[int, int]]]"]]) -> Loaded:
    pixels, images, items, sizes, skipped = [], [], [], [], []
    for index, item, future in group:
        try:
            square, size = future.result()
        except (InvalidImageError, NotFoundError, DigestMismatchError) as error:
            skipped.append(Skipped(index, item.id, error.detail))
            continue
        pixels.append(square)
        images.append(index)
        items.append(item)
        sizes.append(size)
    stacked = torch.stack(pixels) if pixels else torch.empty(0)
    return Loaded(stacked, images, items, torch.tensor(sizes, dtype=torch.int64).view(-1, 2), skipped)


def _decode(item: Item, card: ModelCard) -> tuple[Tensor, tuple[int, int]]:
    source = item.read()
    opened = source if isinstance(source, Tensor) else open_image(source)
    height, width = opened.shape[-2:] if isinstance(opened, Tensor) else (opened.height, opened.width)
    return _square(opened, card, height, width), (height, width)


def _square(opened: "Tensor | Image.Image", card: ModelCard, height: int, width: int) -> Tensor:
    side = card.input_size
    pixels = fit_canvas(opened, max(side, round(side * max(height, width) / min(height, width))), card.channels)
    top, left = (pixels.shape[1] - side) // 2, (pixels.shape[2] - side) // 2
    return pixels[:, top : top + side, left : left + side]


def _name(image: ImageLike, index: int) -> str:
    return str(index) if isinstance(image, bytes | Tensor | Image.Image) else str(image)
