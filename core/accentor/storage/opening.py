"""From a storage address to its store."""

from accentor.errors import InvalidRequestError
from accentor.settings import Settings, file_root
from accentor.storage.base import ObjectStore
from accentor.storage.file import FileStore


def open_store(settings: Settings) -> ObjectStore:
    """Return the store that ``settings.storage_url`` names; nothing is connected to yet.

    Raises
    ------
    InvalidRequestError
        If the address is neither ``file://FOLDER`` nor ``s3://BUCKET/PREFIX``.
    """
    scheme, separator, place = settings.storage_url.partition("://")
    if separator and place:
        if scheme == "file":
            return FileStore(file_root(settings.storage_url))
        if scheme == "s3":
            from accentor.storage.s3 import S3Store

            return S3Store.from_settings(settings)
    raise InvalidRequestError(
        f"storage_url is {settings.storage_url!r}: expected file://FOLDER or s3://BUCKET or s3://BUCKET/PREFIX"
    )
