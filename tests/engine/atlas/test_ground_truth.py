"""An atlas of the reference model's classes over scenes whose shapes, textures and masks are known."""

from functools import partial
from itertools import islice

import pytest
import torch
from PIL import Image

from accentor.engine import load_model
from accentor.engine.atlas import AtlasOptions
from accentor.engine.atlas.building import Build, Told
from accentor.engine.dictionaries import channels_of
from accentor.engine.evaluate import auroc
from accentor.engine.evaluate.scenes import scenes
from accentor.engine.scan import Item
from accentor.spec import PRESETS
from accentor.spec.atlases import sweeping

SCENES = 96
TOP = 2
CLASSES = ("stripes", "dots", "star", "heart", "red", "blue")
SHOWN = 0.9
"""Least share of the top images that show the class."""
WHERE = 0.65
"""Least mean area under the ROC curve of the opacity maps, against the objects of the class."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    found = list(islice(scenes(), SCENES))
    for place, scene in enumerate(found):
        pixels = (scene.pixels.permute(1, 2, 0) * 255).round().byte()
        Image.fromarray(pixels.numpy()).save(folder / f"{place:03d}.png")
    return folder, found


def test_top_images_show_the_class_and_opacity_maps_lie_on_it(drawn, tmp_path):
    folder, found = drawn
    model = load_model("reference", device="cpu")
    items = [Item(str(path), partial(type(path), path)) for path in sorted(folder.iterdir())]
    recipe = sweeping(PRESETS["fast"].model_copy(update={"strengths": (0.0, 1.0)}))
    dictionary = channels_of(model, "classifier")
    build = Build(model, dictionary, items, tmp_path, recipe, AtlasOptions(top_k=8), "scenes", Told())
    plan = build.plan
    assert plan.labels == model.card.labels
    units = {name: model.card.labels.index(name) for name in CLASSES}
    right = [name in found[choice.image].labels for name, unit in units.items() for choice in plan.choices(unit)[:8]]
    assert sum(right) / len(right) >= SHOWN
    wanted = [
        (name, choice.image, plan.want(dictionary.feature(unit), choice.image))
        for name, unit in units.items()
        for choice in plan.choices(unit)[:TOP]
    ]
    assert all(error is None for _, error in build.pictures.make(one for _, _, one in wanted))
    scores = []
    for name, image, one in wanted:
        with Image.open(build.pictures.folder / f"{build.pictures.stem(one)}-where.webp") as where:
            opacity = torch.frombuffer(bytearray(where.getchannel("A").tobytes()), dtype=torch.uint8)
        scores.append(auroc(opacity.view(where.height, where.width).float(), found[image].masks[name]))
    assert sum(scores) / len(scores) >= WHERE, scores
