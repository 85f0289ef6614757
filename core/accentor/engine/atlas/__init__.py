"""Building an atlas in process: scan, select, accentuate, evaluate, publish."""

from accentor.engine.atlas.building import build_atlas
from accentor.engine.atlas.folder import folder_items
from accentor.engine.atlas.planning import AtlasOptions

__all__ = ["AtlasOptions", "build_atlas", "folder_items"]
