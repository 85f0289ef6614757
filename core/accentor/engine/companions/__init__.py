"""Companions of accentuation: where a feature's value comes from, what a unit can see, and through which channels."""

from accentor.engine.companions.attribution import attribution_vectors
from accentor.engine.companions.circuits import Circuit, Overlap, circuit, circuit_from_scores, overlap
from accentor.engine.companions.fields import ReceptiveField, crop_to_unit, receptive_field
from accentor.engine.companions.maps import AttributionMap, attribution_maps, attribution_ranges, default_layer
from accentor.engine.companions.masks import Faithfulness, faithfulness, masked
from accentor.engine.companions.ranges import MapRange

__all__ = [
    "AttributionMap",
    "Circuit",
    "Faithfulness",
    "MapRange",
    "Overlap",
    "ReceptiveField",
    "attribution_maps",
    "attribution_ranges",
    "attribution_vectors",
    "circuit",
    "circuit_from_scores",
    "crop_to_unit",
    "default_layer",
    "faithfulness",
    "masked",
    "overlap",
    "receptive_field",
]
