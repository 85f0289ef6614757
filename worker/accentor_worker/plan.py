"""From a shard to the work that is really to be done."""

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
    """Decodes images from the store, keeping the last one: jobs of one image often follow one another."""

    def __init__(self, objects: ObjectStore, max_pixels: int) -> None:
        self._stored = StoredImages(objects, DatasetStore(objects))
        self._max_pixels = max_pixels
        self._last: tuple[str, Image.Image] | None = None

    def get(self, sha256: str) -> Image.Image:
        """Return the image; `NotFoundError`, `DigestMismatchError` or `InvalidImageError` if it cannot be had."""
        if self._last is None or self._last[0] != sha256:
            data = self._stored.get(sha256)
            self._last = (sha256, open_image(data, max_pixels=self._max_pixels))
        return self._last[1]
