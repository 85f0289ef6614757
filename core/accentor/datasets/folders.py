"""Folders of images on this machine: what is in them, with labels and masks."""

from dataclasses import dataclass
from pathlib import Path

from accentor.datasets.labels import read_labels
from accentor.errors import InvalidRequestError
from accentor.images import IMAGE_SUFFIXES


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

    The label is that of the file of labels, if there is one, else the name of the folder that the image is in below
    this one. A mask is the file of the same path, but for the suffix, below the folder of masks.

    Raises
    ------
    InvalidRequestError
        If there is no such folder, no image in it, or the file of labels names none of them.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidRequestError(f"{root} is no folder")
    labels = None if labels_file is None else _labels(Path(labels_file))
    beside = None if masks is None else Path(masks)
    known = {} if beside is None else {_stem(path, beside): path for path in _pictures(beside)}
    members = []
    for path in _pictures(root):
        if beside is not None and path.is_relative_to(beside):
            continue
        inside = path.relative_to(root)
        own = inside.parent.name or None
        label = own if labels is None else labels.get(inside.as_posix())
        members.append(LocalMember(inside.as_posix(), path, label, known.get(_stem(path, root))))
    if not members:
        raise InvalidRequestError(
            f"{root} holds no images: expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
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


def _pictures(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(paths)


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
