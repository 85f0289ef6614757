"""Scenes as evidence: their labels and masks are those of their objects; the judge reads them."""

import numpy as np
import torch

from accentor.engine.evaluate import log_probabilities
from accentor.engine.evaluate.scenes import FIRST_SEED, label_scene, load_judge_model, scenes_with, scenes_without
from accentor.engine.reference import LABELS
from accentor.engine.reference.scenes import Scene, SceneObject, render_scene
from accentor.engine.reference.train import EVALUATION_SEED, TRAINING_SEED


def test_with_and_without():
    shown, missing = scenes_with("stripes", 3, size=96), scenes_without("stripes", 3, size=96)
    for scene in shown:
        drawn = render_scene(scene.seed, 96)
        assert scene.labels == drawn.labels
        mask = torch.zeros(96, 96, dtype=torch.bool)
        for item in drawn.objects:
            if item.texture == "stripes":
                mask |= torch.from_numpy(item.mask)
        assert mask.any()
        assert torch.equal(scene.masks["stripes"], mask)
        torch.testing.assert_close(scene.pixels.mul(255).round().byte().permute(1, 2, 0), torch.from_numpy(drawn.image))
    for scene in missing:
        assert all(item.texture != "stripes" for item in render_scene(scene.seed, 96).objects)
    assert [scene.seed for scene in shown] == sorted({scene.seed for scene in shown})


def test_masks_of_a_label_are_joined_and_what_is_hidden_is_not_absent():
    columns = [np.arange(16) // 4 == i for i in range(3)]
    masks = [column.reshape(4, 4) for column in columns]
    objects = (
        SceneObject("disc", "stripes", "red", masks[0], 1.0, 0.1),
        SceneObject("star", "stripes", "blue", masks[1], 0.9, 0.1),
        SceneObject("heart", "dots", "blue", masks[2], 0.3, 0.1),
    )
    scene = label_scene(Scene(np.full((4, 4, 3), 51, np.uint8), objects), 7)
    assert scene.labels == ("disc", "star", "stripes", "red", "blue")
    assert scene.masks["stripes"].int().tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert scene.masks["blue"].int().tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]
    assert scene.masks["heart"].int().tolist() == [[0] * 4, [0] * 4, [1] * 4, [0] * 4]
    assert not scene.shows_nothing_of("heart"), "most of it is hidden, but some is there"
    assert scene.shows_nothing_of("ring")
    assert scene.seed == 7
    torch.testing.assert_close(scene.pixels, torch.full((3, 4, 4), 0.2))


def test_no_scene_was_trained_on():
    assert max(TRAINING_SEED, EVALUATION_SEED) + 500_000 < FIRST_SEED


def test_the_judge_reads_the_scenes():
    judge = load_judge_model()
    assert judge.card.labels == LABELS
    unit = LABELS.index("star")
    shown, missing = (torch.stack([s.pixels for s in find("star", 4)]) for find in (scenes_with, scenes_without))
    yes, no = (log_probabilities(judge, x, [unit] * 4, multilabel=True) for x in (shown, missing))
    assert yes.min() > no.max() + 1
