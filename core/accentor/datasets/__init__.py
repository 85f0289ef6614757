"""Making datasets: from what lies in a store to an immutable index."""

from accentor.datasets.indexing import Index, build_index
from accentor.datasets.sources import members_of

__all__ = ["Index", "build_index", "members_of"]
