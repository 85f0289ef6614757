"""A folder of images as items of a scan: those in subfolders are labelled by the folder they lie in."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from accentor.engine.scan import Item
from accentor.errors import InvalidImageError
from accentor.images import images_below, no_images


def folder_items(folder: Path, say: Callable[[str], None] = lambda _: None) -> list[Item]:
    """Return the images in a folder and its subfolders, in order of their names; of files that are alike the first.

    Parameters
    ----------
    folder
        Where they lie.
    say
        Is told how many files repeat another, if any do.

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
    if repeated := repeats(paths):
        say(f"{len(repeated)} of {len(paths)} files repeat another, and are passed over: {min(repeated)} is the first")
    return [
        Item(str(path), partial(Path, path), label=None if path.parent == folder else path.parent.name)
        for path in paths
        if path not in repeated
    ]


def repeats(paths: Iterable[Path]) -> set[Path]:
    """Return the files with the same bytes as an earlier one. Only those of one size are read.

    One that cannot be read repeats none: the scan will say what is wrong with it.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            by_size[path.stat().st_size].append(path)
    repeated: set[Path] = set()
    for alike in by_size.values():
        seen: set[bytes] = set()
        for path in alike if len(alike) > 1 else ():
            with suppress(OSError), path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
                if digest in seen:
                    repeated.add(path)
                seen.add(digest)
    return repeated
