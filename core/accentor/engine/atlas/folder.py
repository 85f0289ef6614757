"""A folder of images as items of a scan: those in subfolders are labelled by the folder they lie in."""

from functools import partial
from pathlib import Path

from accentor.engine.scan import Item
from accentor.errors import InvalidImageError
from accentor.images import images_below, no_images


def folder_items(folder: Path) -> list[Item]:
    """Return the images in a folder and its subfolders, in order of their names.

    Raises
    ------
    InvalidImageError
        If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InvalidImageError(f"{folder} is no folder of images")
    paths = images_below(folder)
    if not paths:
        raise InvalidImageError(no_images(folder))
    return [
        Item(str(path), partial(Path, path), label=None if path.parent == folder else path.parent.name)
        for path in paths
    ]
