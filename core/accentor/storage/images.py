"""Images by their sha256: those that were uploaded, and those of datasets that lie elsewhere in the store."""

from contextlib import suppress

from accentor.errors import DigestMismatchError, NotFoundError
from accentor.spec import sha256_hex
from accentor.spec.datasets import DatasetRow, Place
from accentor.storage.base import ObjectStore
from accentor.storage.datasets import DatasetStore
from accentor.storage.keys import image_key


class StoredImages:
    """Finds images, wherever they lie."""

    def __init__(self, objects: ObjectStore, datasets: DatasetStore) -> None:
        self._objects = objects
        self._datasets = datasets

    def size(self, image: str) -> int | None:
        """Return the number of bytes, or none if there is no such image."""
        size = self._objects.size(image_key(image))
        if size is not None:
            return size
        found = self._datasets.row_of(image)
        place = found and found[1].place
        return found[1].bytes if found and place and self._objects.exists(place.key) else None

    def get(self, image: str) -> bytes:
        """Return an image's bytes.

        Raises
        ------
        NotFoundError
            If there is none.
        DigestMismatchError
            If it lies in a dataset's place, and has changed since that was made.
        """
        try:
            return self._objects.get(image_key(image))
        except NotFoundError:
            found = self._datasets.row_of(image)
            if found is None:
                raise
        return read_row(self._objects, found[1], found[0].reference)


def read_row(objects: ObjectStore, row: DatasetRow, reference: str) -> bytes:
    """Return the bytes of a dataset's image: from its place, or if they are there no longer those that were uploaded.

    Raises
    ------
    NotFoundError
        If it is gone.
    DigestMismatchError
        If it has changed since the dataset was made.
    """
    if row.place is None:
        return objects.get(image_key(row.image))
    try:
        return _read_at(objects, row.place, row, reference)
    except (NotFoundError, DigestMismatchError):
        with suppress(NotFoundError):
            return objects.get(image_key(row.image))
        raise


def _read_at(objects: ObjectStore, place: Place, row: DatasetRow, reference: str) -> bytes:
    if place.offset is None or place.size is None:
        data = objects.get(place.key)
    else:
        data = objects.get_range(place.key, place.offset, place.size)
    if (found := sha256_hex(data)) != row.image:
        raise DigestMismatchError(
            f"{row.id} has changed since the dataset {reference} was made: its sha256 is {found}, expected {row.image}",
            actual=found,
        )
    return data
