"""What an atlas tells of the photograph that the real SqueezeNet takes for another class."""

import json
import shutil

import pytest

from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items
from accentor.spec import Recipe

pytestmark = pytest.mark.assets

PHOTOGRAPHS = {"flamingo": "130_flamingo.jpg", "zebra": "340_zebra.jpg"}
RECIPE = Recipe(steps=6, crops=2, strengths=(-1, 0, 1), snapshots=4)


def test_both_classes_of_a_mistake_are_accentuated_from_the_same_seed(assets, squeezenet, tmp_path):
    for label, name in PHOTOGRAPHS.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        shutil.copy(assets / "images" / name, tmp_path / "photos" / label / name)
    out = tmp_path / "atlas"
    options = AtlasOptions(top_k=1, limit=1, images=0)
    build_atlas(squeezenet, "features.12", folder_items(tmp_path / "photos"), out, RECIPE, options)
    (error,) = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert not any("value" in error[side] for side in ("shown_predicted", "shown_truth"))
    images = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert [image["name"] for image in images if image["index"] == error["image"]] == ["130_flamingo.jpg"]
    assert (error["truth"], error["predicted"]) == ("flamingo", "spoonbill")
    assert error["probability"] == pytest.approx(0.6, abs=0.1)
    ways = [[frame["value"] for frame in error[side]["frames"]] for side in ("shown_predicted", "shown_truth")]
    assert ways[0][1] > ways[1][1]
    for suppressed, seed, raised in ways:
        assert suppressed < seed < raised
    for image in images:
        assert image["label"] == image["predicted"] or image["index"] == error["image"]
