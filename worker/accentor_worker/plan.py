"""From a shard to the work that is really to be done."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

from accentor.images import open_image
from accentor.spec import Feature, JobSpec, Recipe
from accentor.state import Shard
from accentor.storage import ObjectStore
from accentor.storage.datasets import DatasetStore
from accentor.storage.images import StoredImages

CHUNK_JOBS = 64
CHUNK_PIXELS = 128_000_000
"""Decoded pixels held at once, unless a single image has more."""

KEPT_PIXELS = 32_000_000
"""Decoded pixels kept from one shard to the next: in a product, the same images come again with every feature."""


@dataclass(frozen=True)
class Item:
    """A job to compute: its shard, its index in the batch, and the content key that its result lies under."""

    shard: Shard
    index: int
    spec: JobSpec
    key: str


@dataclass(frozen=True)
class Ready:
    """A job with its decoded image, and its feature by value."""

    item: Item
    image: Image.Image
    feature: Feature


def by_recipe(items: Iterable[Item]) -> dict[Recipe, list[Item]]:
    """Group jobs that one engine call can run together."""
    groups: dict[Recipe, list[Item]] = {}
    for item in items:
        groups.setdefault(item.spec.recipe, []).append(item)
    return groups


def chunks(ready: Iterable[Ready]) -> Iterator[list[Ready]]:
    """Cut a stream of jobs into runs that fit the memory."""
    chunk: list[Ready] = []
    pixels: dict[int, int] = {}
    for one in ready:
        size = pixels.get(id(one.image), one.image.width * one.image.height)
        new = 0 if id(one.image) in pixels else size
        if chunk and (len(chunk) >= CHUNK_JOBS or sum(pixels.values()) + new > CHUNK_PIXELS):
            yield chunk
            chunk, pixels = [], {}
        chunk.append(one)
        pixels[id(one.image)] = size
    if chunk:
        yield chunk


class Images:
    """Decodes images from the store, keeping the last ones."""

    def __init__(self, objects: ObjectStore, max_pixels: int) -> None:
        self._stored = StoredImages(objects, DatasetStore(objects))
        self._max_pixels = max_pixels
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()
        self._pixels = 0

    def get(self, sha256: str) -> Image.Image:
        """Return the image; `NotFoundError`, `DigestMismatchError` or `InvalidImageError` if it cannot be had."""
        image = self._kept.get(sha256)
        if image is None:
            image = self._kept[sha256] = open_image(self._stored.get(sha256), max_pixels=self._max_pixels)
            self._pixels += image.width * image.height
            while self._pixels > KEPT_PIXELS and len(self._kept) > 1:
                oldest = self._kept.popitem(last=False)[1]
                self._pixels -= oldest.width * oldest.height
        self._kept.move_to_end(sha256)
        return image
