"""What every object store can do."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from accentor.errors import InvalidRequestError

MAX_KEY_LENGTH = 512
DEFAULT_CONTENT_TYPE = "application/octet-stream"


def check_key(key: str) -> str:
    """Return the key if it is a plain relative path of printable ASCII; no part of it leads out of the store."""
    parts = key.split("/")
    if (
        not key.isascii()
        or not key.isprintable()
        or "\\" in key
        or not 0 < len(key) <= MAX_KEY_LENGTH
        or any(part in {"", ".", ".."} for part in parts)
    ):
        raise InvalidRequestError(f"{key[:MAX_KEY_LENGTH]!r} is no key of an object")
    return key


class ObjectStore(ABC):
    """Bytes under keys. Every method may raise `StorageUnavailableError`, naming the folder or bucket."""

    @abstractmethod
    def put(self, key: str, data: bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> None:
        """Store the bytes; a reader sees the old object or the whole new one."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the bytes; `NotFoundError` if there is no such object."""

    @abstractmethod
    def get_range(self, key: str, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``start`` on; `NotFoundError` if there is no such object."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Return the number of bytes, or none if there is no such object."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """Return the keys that begin with the prefix, in order."""

    @abstractmethod
    def url(self, key: str, *, expires_s: int) -> str | None:
        """Return a link that the store itself serves for ``expires_s`` seconds, or none if it serves no links."""

    @abstractmethod
    def check(self) -> None:
        """Raise `StorageUnavailableError` unless the store can be used now."""

    @abstractmethod
    def ensure_bucket(self) -> None:
        """Create the folder or bucket if it is missing."""

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""
        return self.size(key) is not None
