"""The public names: adding one is a decision, removing one breaks somebody's program."""

from accentor.engine import companions


def test_companions():
    assert set(companions.__all__) == {
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
    }
    assert all(getattr(companions, name) is not None for name in companions.__all__)
