"""Where members come from: a list of uploaded images, objects below a prefix, tars."""

from collections.abc import Iterator
from functools import partial

from accentor.datasets.members import Broken, Ignored, Member
from accentor.datasets.tars import tar_members
from accentor.errors import InvalidRequestError
from accentor.images import IMAGE_SUFFIXES
from accentor.spec.datasets import DatasetMember, DatasetSpec, Place
from accentor.storage.base import ObjectStore
from accentor.storage.keys import OWN_FOLDERS, image_key

TAR = ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def members_of(objects: ObjectStore, spec: DatasetSpec) -> Iterator[Member | Broken | Ignored]:
    """Yield the members of a dataset in order.

    Raises
    ------
    InvalidRequestError
        If there is nothing of this name in the store, or the service's own is asked for.
    """
    if spec.images is not None:
        return (_listed(objects, member) for member in spec.images)
    if spec.prefix is not None:
        return _below(objects, _outside(spec.prefix), None if spec.masks is None else _outside(spec.masks))
    return _in_tars(objects, [_outside(key) for key in spec.tars or ()])


def _listed(objects: ObjectStore, member: DatasetMember) -> Member:
    mask = member.mask
    return Member(
        id=member.id,
        read=partial(objects.get, image_key(member.image)),
        label=member.label,
        mask=None if mask is None else Place(key=image_key(mask)),
        read_mask=None if mask is None else partial(objects.get, image_key(mask)),
        expected=member.image,
    )


def _below(objects: ObjectStore, prefix: str, masks: str | None) -> Iterator[Member | Ignored]:
    known = {} if masks is None else {_stem(key.removeprefix(masks)): key for key in objects.keys(masks)}
    count = 0
    for key in objects.keys(prefix):
        count += 1
        name = key.removeprefix(prefix).lstrip("/")
        if not name.lower().endswith(tuple(IMAGE_SUFFIXES)) or (masks is not None and key.startswith(masks)):
            yield Ignored()
            continue
        mask = known.get(_stem(name))
        yield Member(
            id=name,
            read=partial(objects.get, key),
            place=Place(key=key),
            label=_folder(name),
            mask=None if mask is None else Place(key=mask),
            read_mask=None if mask is None else partial(objects.get, mask),
        )
    if not count:
        raise InvalidRequestError(f"there is no object whose key begins with {prefix!r}")


def _in_tars(objects: ObjectStore, names: list[str]) -> Iterator[Member | Broken | Ignored]:
    for name in names:
        keys = [name] if name.endswith((TAR, *PACKED)) else [key for key in objects.keys(name) if key.endswith(TAR)]
        if not keys:
            raise InvalidRequestError(f"there is no tar whose key begins with {name!r}")
        for key in keys:
            if key.endswith(PACKED):
                raise InvalidRequestError(f"{key} is compressed: its images cannot be read one by one; give plain .tar")
            yield from tar_members(objects, key)


def _outside(key: str) -> str:
    folder = key.partition("/")[0]
    if folder in OWN_FOLDERS:
        raise InvalidRequestError(f"{key!r} is the service's own: a dataset is made from what lies beside it")
    return key


def _folder(name: str) -> str | None:
    return name.rpartition("/")[0].rpartition("/")[2] or None


def _stem(name: str) -> str:
    return name.lstrip("/").rpartition(".")[0]
