"""Building an atlas in process: scan, select, accentuate, evaluate, publish."""

from accentor.engine.atlas.building import AtlasOptions, build_atlas
from accentor.engine.atlas.folder import folder_items

__all__ = ["AtlasOptions", "build_atlas", "folder_items"]
