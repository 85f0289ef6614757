"""The atlas: what a whole dictionary sees in a dataset, as a site of files that needs no server."""

from accentor.atlas.model import (
    Atlas,
    DepthPoint,
    ErrorEntry,
    FeatureEntry,
    Frame,
    Histogram,
    ImageEntry,
    ImageFeature,
    Mark,
    Shown,
)
from accentor.atlas.publishing import publish

__all__ = [
    "Atlas",
    "DepthPoint",
    "ErrorEntry",
    "FeatureEntry",
    "Frame",
    "Histogram",
    "ImageEntry",
    "ImageFeature",
    "Mark",
    "Shown",
    "publish",
]
