"""Datasets without input or output: what is uploaded, what is asked for, and how long it is waited for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from accentor.datasets.folders import LocalMember, folder_members
from accentor.errors import AccentorError, InvalidImageError, InvalidRequestError, TooLargeError, error_from_code
from accentor.spec.datasets import DatasetCard, DatasetMember, DatasetRow, DatasetSpec, DatasetStatus, SkippedMember
from accentor_client import _calls
from accentor_client._following import Patience, Stream, Told
from accentor_client._sources import checked

PAGE = 200
CHUNK = 32
"""Images of a folder that are uploaded before the next are looked at."""

UNUSABLE = (InvalidImageError, TooLargeError)
"""What is wrong with one image alone: it is left out and told."""

Uploaded = str | AccentorError
"""The sha256 that an image has at the service, or why it has none."""

T = TypeVar("T")


class DatasetOptions(TypedDict, total=False):
    """What a dataset is made from; one of ``folder``, ``images``, ``prefix`` and ``tars``.

    ``folder``, or a text file with a path a line, is on this machine and is uploaded, as are its ``masks``, and then
    ``labels_file`` is here as well. All other names are those of objects in the service's store.
    """

    folder: str | Path
    images: Sequence[DatasetMember]
    prefix: str
    tars: Sequence[str]
    labels: Literal["auto", "none"]
    labels_file: str | Path
    masks: str | Path
    description: str


@dataclass
class FolderUpload:
    """A folder that becomes a list of uploaded images; what cannot be uploaded is told."""

    members: list[LocalMember]
    listed: list[DatasetMember] = field(default_factory=list)
    skipped: list[SkippedMember] = field(default_factory=list)

    def chunks(self) -> Iterator[list[LocalMember]]:
        """Yield the members, some at a time."""
        for start in range(0, len(self.members), CHUNK):
            yield self.members[start : start + CHUNK]

    def add(self, members: Sequence[LocalMember], images: Sequence[Uploaded], masks: Sequence[Uploaded | None]) -> None:
        """Note what has become of members and their masks."""
        for member, image, mask in zip(members, images, masks, strict=True):
            error = next((one for one in (image, mask) if isinstance(one, AccentorError)), None)
            if error is not None:
                self.skipped.append(SkippedMember(id=member.id, reason=error.detail))
                continue
            listed = {"image": image, "id": member.id, "label": member.label, "mask": mask}
            self.listed.append(DatasetMember.model_validate(listed))


def folder_upload(options: DatasetOptions) -> FolderUpload | None:
    """Return the folder that is to be uploaded, if that is what was asked for."""
    if "folder" not in options:
        return None
    if names := sorted({"images", "prefix", "tars"} & options.keys()):
        raise InvalidRequestError(f"folder and {' and '.join(names)} were given: a dataset is made from one of them")
    return FolderUpload(
        folder_members(options["folder"], labels_file=options.get("labels_file"), masks=options.get("masks"))
    )


def dataset_spec(name: str, options: DatasetOptions, uploaded: FolderUpload | None) -> DatasetSpec:
    """Return what is asked of the service."""
    fields: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if uploaded is not None:
        for local in ("folder", "labels_file", "masks"):
            fields.pop(local, None)
        fields |= {"images": uploaded.listed, "skipped": uploaded.skipped}
    return checked(DatasetSpec, {**fields, "name": name})


def made(name: str, timeout: float | None) -> Stream[DatasetStatus]:
    """Tell how a dataset stands until it is ready; if it could not be made, raise why."""
    patience = Patience(timeout, f"dataset {name}")
    while True:
        status: DatasetStatus = yield _calls.get_dataset(name)
        yield Told(status)
        if status.failure is not None and status.state == "failed":
            raise error_from_code(status.failure.code, status.failure.detail)
        if status.state == "ready":
            return
        yield patience.pause()


def all_datasets() -> Stream[DatasetCard]:
    """Tell the newest version of each dataset, by name."""
    return through_pages(lambda cursor: _calls.list_datasets(cursor, PAGE))


def all_images(name: str) -> Stream[DatasetRow]:
    """Tell the images of a dataset in order."""
    return through_pages(lambda cursor: _calls.list_dataset_images(name, cursor, PAGE))


def through_pages(ask: Callable[[str | None], Any]) -> Stream[Any]:
    """Tell the entries of page after page."""
    cursor = None
    while True:
        page = yield ask(cursor)
        for entry in page.data:
            yield Told(entry)
        cursor = page.next_cursor
        if cursor is None:
            return
