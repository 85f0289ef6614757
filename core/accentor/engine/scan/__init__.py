"""Scans: what a dictionary's features do over many images, found in one pass and in bounded memory."""

from accentor.engine.loading import Item, Skipped
from accentor.engine.scan.joining import join
from accentor.engine.scan.result import PERCENTILES, Scan, Settings, Top, merge
from accentor.engine.scan.rows import ImageRows
from accentor.engine.scan.scanning import scan
from accentor.engine.scan.shards import scan_in_shards
from accentor.engine.scan.tables import read_scan, write_scan

__all__ = [
    "PERCENTILES",
    "ImageRows",
    "Item",
    "Scan",
    "Settings",
    "Skipped",
    "Top",
    "join",
    "merge",
    "read_scan",
    "scan",
    "scan_in_shards",
    "write_scan",
]
