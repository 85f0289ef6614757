"""Folders and lists of images on this machine: what is in them, with labels and masks."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from accentor.datasets.labels import read_labels
from accentor.errors import InvalidRequestError
from accentor.images import images_below, no_images


@dataclass(frozen=True)
class LocalMember:
    """An image of a folder: its path from there, where it is, its label and its mask."""

    id: str
    path: Path
    label: str | None = None
    mask: Path | None = None


def folder_members(
    folder: str | Path, *, labels_file: str | Path | None = None, masks: str | Path | None = None
) -> list[LocalMember]:
    """Return the images of a folder and all below it, in order of their paths; others are passed over.

    Or those of a list, a text file with a path a line, from the list's own folder. The label is that of the file of
    labels, if there is one, else the name of the folder that the image is in below this one. A mask is the file of the
    same path, but for the suffix, below the folder of masks.

    Raises
    ------
    InvalidRequestError
        If there is no such folder or list, no image in it, or the file of labels names none of them.
    """
    root = Path(folder)
    if not root.exists():
        raise InvalidRequestError(f"{root} is no folder, and no file that lists images")
    found = (
        _listed(root) if root.is_file() else {path.relative_to(root).as_posix(): path for path in images_below(root)}
    )
    labels = None if labels_file is None else _labels(Path(labels_file))
    beside = None if masks is None else Path(masks)
    known = {} if beside is None else {_stem(path, beside): path for path in images_below(beside)}
    members = []
    for name, path in found.items():
        if beside is not None and path.is_relative_to(beside):
            continue
        own = PurePosixPath(name).parent.name or None
        label = own if labels is None else labels.get(name)
        members.append(LocalMember(name, path, label, known.get(PurePosixPath(name).with_suffix("").as_posix())))
    if not members:
        raise InvalidRequestError(no_images(root))
    if labels and not any(member.label for member in members):
        raise InvalidRequestError(
            f"the labels {labels_file} name no image of {root}: they begin with {next(iter(labels))!r}, the images "
            f"with {members[0].id!r}"
        )
    return members


def _labels(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"the labels {path} cannot be read: {error.strerror}") from error
    return read_labels(path.name, data)


def _listed(path: Path) -> dict[str, Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidRequestError(f"the list {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        said = f"{path} is no text file with the path of an image a line; tars are read where they lie in the store"
        raise InvalidRequestError(said) from error
    names = (line.strip() for line in lines)
    return {name: path.parent / name for name in names if name}


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
