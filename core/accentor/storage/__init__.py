"""Object storage: a folder or an S3 bucket behind one small interface."""

from accentor.storage.base import ObjectStore
from accentor.storage.opening import open_store

__all__ = ["ObjectStore", "open_store"]
