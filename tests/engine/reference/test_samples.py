"""The shipped samples are the scenes they are said to be."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image

from accentor.engine.reference import SAMPLES, sample_paths
from accentor.engine.reference.samples import SAMPLE_SEEDS, bounding_box, describe, generate_samples
from accentor.engine.reference.scenes import LABELS, render_scene


def test_samples_are_rendered_from_their_seeds():
    entries = json.loads((SAMPLES / "samples.json").read_text())
    assert [entry["file"] for entry in entries] == [path.name for path in sample_paths()]
    assert [entry["seed"] for entry in entries] == list(SAMPLE_SEEDS)
    for entry, path in zip(entries, sample_paths(), strict=True):
        scene = render_scene(entry["seed"], entry["size"])
        assert entry == describe(path.name, entry["seed"], scene)
        with Image.open(path) as image:
            difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - scene.image)
        assert difference.max() <= 1


def test_samples_are_many_varied_and_small():
    entries = json.loads((SAMPLES / "samples.json").read_text())
    shown = {item[kind] for entry in entries for item in entry["objects"] for kind in ("shape", "texture", "color")}
    assert len(entries) >= 24
    assert shown == set(LABELS)
    assert sum(path.stat().st_size for path in sample_paths()) < 3_000_000


def test_bounding_box_is_exclusive_on_the_right_and_below():
    mask = np.zeros((6, 9), bool)
    mask[2:4, 5:8] = True
    assert bounding_box(mask) == [5, 2, 8, 4]


def test_generate_samples_writes_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr("accentor.engine.reference.samples.SAMPLE_SEEDS", SAMPLE_SEEDS[:2])
    paths = generate_samples(tmp_path)
    entries = json.loads((tmp_path / "samples.json").read_text())
    assert [entry["file"] for entry in entries] == [path.name for path in paths]
    assert entries == json.loads((SAMPLES / "samples.json").read_text())[:2]


def test_samples_and_labels_themselves_need_no_torch():
    program = (
        "import sys, types, accentor\n"
        "sys.modules['torch'] = None\n"
        "engine = sys.modules['accentor.engine'] = types.ModuleType('accentor.engine')\n"
        "engine.__path__ = [accentor.__path__[0] + '/engine']\n"
        "from accentor.engine.reference import LABELS, sample_paths\n"
        "sys.exit(0 if LABELS and sample_paths() else 1)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
