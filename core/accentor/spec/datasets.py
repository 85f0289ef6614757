"""Datasets as a service keeps them: what is asked for, the rows of an index, and the card of what there is."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from accentor.spec.dictionaries import NAME_FORM, REFERENCE_FORM, Version
from accentor.spec.identity import Sha256
from accentor.spec.status import Failure

MAX_IMAGES = 5_000_000
"""Images of a dataset."""

MAX_LISTED = 100
"""Members that could not be read, or repeat another, that a card lists; all are counted."""

MAX_CLASSES = 1_000
"""Labels that a card counts one by one."""

MAX_ID = 512
MAX_LABEL = 200
MAX_KEY = 512
MAX_TARS = 10_000
MAX_MEMBERS = 1_000_000
DatasetName = Annotated[str, Field(pattern=f"^{NAME_FORM}$", max_length=100)]
DatasetReference = Annotated[str, Field(pattern=f"^{REFERENCE_FORM}$", max_length=120)]
MemberId = Annotated[str, Field(min_length=1, max_length=MAX_ID, description="what the image is called in its dataset")]
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]
Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
Source = Literal["prefix", "tars", "images"]
Named = tuple[str, str, str | None]
"""Sha256, id and label of an image of a dataset."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetMember(_Frozen):
    """One image of a list: uploaded before, and named by its sha256."""

    image: Sha256
    id: MemberId
    label: Label | None = None
    mask: Sha256 | None = Field(None, description="an uploaded picture of the same size, white where the object is")


class SkippedMember(_Frozen):
    """A member that is not in the dataset, and why."""

    id: str
    reason: str


class DuplicateMember(_Frozen):
    """A member with the same bytes as an earlier one, which alone is in the dataset."""

    id: str
    first: str = Field(description="the earlier one")
    label: str | None = None
    first_label: str | None = None


class DatasetSpec(_Frozen):
    """What a dataset is made from: a list of uploaded images, or what lies in the service's store and stays there.

    A member's label is, unless a file of labels says it: of an object below a prefix the name of its folder; of a
    sample in a tar its ``.cls``, or ``label`` in its ``.json``; of a listed image what the list says.
    """

    name: DatasetName
    images: Annotated[tuple[DatasetMember, ...], Field(max_length=MAX_MEMBERS)] | None = Field(
        None, description="uploaded images"
    )
    prefix: Key | None = Field(None, description="of objects in the store, such as `photos/train/`")
    tars: Annotated[tuple[Key, ...], Field(min_length=1, max_length=MAX_TARS)] | None = Field(
        None, description="keys of WebDataset tars in the store, or what such keys begin with; not compressed"
    )
    labels: Literal["auto", "none"] = "auto"
    labels_file: Key | None = Field(
        None, description="key of an object that says the labels: .csv of id,label, .json {id: label}, or .jsonl"
    )
    masks: Key | None = Field(
        None, description="prefix of masks, each under the name of its image but for the suffix; goes with `prefix`"
    )
    skipped: Annotated[tuple[SkippedMember, ...], Field(max_length=MAX_MEMBERS)] = Field(
        (), description="what a client left out, and why: told with the rest"
    )
    description: str = Field("", max_length=2_000)

    @property
    def source(self) -> Source:
        """Which of the three it is made from."""
        return "images" if self.images is not None else "prefix" if self.prefix is not None else "tars"

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [self.images is not None, self.prefix is not None, self.tars is not None]
        if sum(given) != 1:
            raise ValueError(f"expected one of images, prefix and tars; {sum(given)} were given")
        if self.masks is not None and self.prefix is None:
            raise ValueError("masks go with a prefix; a list names them, a tar has them as .mask.png")
        return self


class Place(_Frozen):
    """Where an image lies in the store: an object, or bytes of one."""

    key: Key
    offset: int | None = None
    size: int | None = None


class DatasetRow(_Frozen):
    """One image of a dataset, as its index says it."""

    image: Sha256
    id: str
    bytes: int
    width: int
    height: int
    label: str | None = None
    mask: Place | None = None
    place: Place | None = Field(None, description="none: it was uploaded")


class DatasetCard(_Frozen):
    """Everything about one version of a dataset but its rows; it never changes."""

    name: DatasetName
    version: Version
    digest: Sha256 = Field(description="over the rows of the index")
    source: Source
    images: int = Field(description="distinct images that could be read")
    bytes: int
    labeled: int = Field(0, description="images with a label")
    classes: dict[str, int] = Field({}, description="images by label; the first labels, in order of their names")
    masks: int = Field(0, description="images with a mask")
    skipped: int = Field(0, description="members that could not be read")
    duplicates: int = Field(0, description="members with the bytes of an earlier one")
    ignored: int = Field(0, description="objects and members that are no images by their names")
    unmatched_labels: int = Field(0, description="ids of the file of labels that the dataset has not")
    skipped_members: tuple[SkippedMember, ...] = Field((), description="the first of them")
    duplicate_members: tuple[DuplicateMember, ...] = Field((), description="the first of them")
    block: Annotated[int, Field(ge=1)] = Field(description="rows that are stored together")
    description: str = ""
    created_at: datetime

    @property
    def reference(self) -> str:
        """What this version, and no other, is named by: ``NAME@VERSION``."""
        return f"{self.name}@{self.version}"


class DatasetStatus(_Frozen):
    """A dataset as it stands: being made, there, or not made and why."""

    name: DatasetName
    state: Literal["indexing", "ready", "failed"]
    done: int = Field(0, description="members looked at")
    failure: Failure | None = None
    card: DatasetCard | None = Field(None, description="once it is ready; while a new version is made, the last one")
    updated_at: datetime
