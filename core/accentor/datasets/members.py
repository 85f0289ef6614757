"""Members: what a dataset is made from, before anybody has looked into it."""

from collections.abc import Callable
from dataclasses import dataclass

from accentor.spec.datasets import Place


@dataclass(frozen=True)
class Member:
    """One image to look at.

    Attributes
    ----------
    id
        What it is called in the dataset.
    read, read_mask
        Return the bytes; called in a thread.
    place, mask
        Where they lie; none for what was uploaded.
    label
        Its class; none: not known.
    expected
        The sha256 that it must have; none: any.
    """

    id: str
    read: Callable[[], bytes]
    place: Place | None = None
    label: str | None = None
    mask: Place | None = None
    read_mask: Callable[[], bytes] | None = None
    expected: str | None = None


@dataclass(frozen=True)
class Broken:
    """Something that yields no members, and why."""

    id: str
    reason: str


class Ignored:
    """Something that is no image by its name."""
