"""``accentor accentuate``: its recipe from flags, its files and its JSON."""

import json
from pathlib import Path

import av
import pytest
from PIL import Image
from typer.testing import CliRunner

import accentor
from accentor.cli import writing
from accentor.cli.console import list_images
from accentor.cli.main import build, main
from accentor.cli.recipes import changed_recipe, read_setting
from accentor.engine.reference import sample_paths
from accentor.errors import InvalidImageError, InvalidRecipeError
from accentor.spec import Recipe, resolve_recipe

SMALL = ("--set", "size=64", "--set", "crops=2", "--set", "snapshots=1", "--steps", "2")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``accentor accentuate`` on a sample scene; return (exit status, standard output, standard error)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["accentor", "accentuate", str(sample_paths()[0]), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_flags_change_the_recipe():
    chosen = changed_recipe(
        "fast",
        steps=7,
        strengths=["-0.5,1", "0"],
        settings=["size=256", "crop_size=0.2,0.8", "schedule=cosine", "redirected_relu=true", "ball=none"],
    )
    expected = resolve_recipe("fast").model_copy(
        update={
            "steps": 7,
            "strengths": (-0.5, 0.0, 1.0),
            "size": 256,
            "crop_size": (0.2, 0.8),
            "schedule": "cosine",
            "redirected_relu": True,
        }
    )
    assert chosen == expected
    assert chosen.learning_rate == resolve_recipe("fast").learning_rate != Recipe().learning_rate
    assert changed_recipe("paper") == resolve_recipe("paper")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=40", ("steps", 40)),
        (" learning_rate = 1e-2 ", ("learning_rate", 0.01)),
        ("regularization_layer=features.3", ("regularization_layer", "features.3")),
        ("regularization_layer=a.0, b", ("regularization_layer", ["a.0", "b"])),
        ("strengths=-1,0.5", ("strengths", [-1, 0.5])),
        ("strengths=[1]", ("strengths", [1])),
        ("opacity_feature=neuron:a:3@7,5", ("opacity_feature", "neuron:a:3@7,5")),
        ("size=None", ("size", None)),
    ],
)
def test_settings_are_read_from_text(text, expected):
    assert read_setting(text) == expected


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "stpes=3"], "no setting 'stpes': did you mean steps"),
        (["--set", "zzz=3"], "there are parameterization, start"),
        (["--set", "steps"], "expected NAME=VALUE, such as size=256"),
        (["--set", "steps="], "expected NAME=VALUE"),
        (["--set", "steps=0"], "steps = 0"),
        (["--set", "steps=many"], "steps = 'many'"),
        (["--steps", "3", "--set", "steps=4"], "steps is given twice: 4 and 3"),
        (["--strength", "much"], "much"),
        (["--strength", "1,1"], "each once"),
    ],
)
def test_wrong_flags(run, tmp_path, arguments, named):
    status, _, err = run("-f", "logit:0", "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert "invalid-recipe" in err
    assert named in err
    assert not (tmp_path / "out").exists()


def test_files_that_are_asked_for(run, tmp_path):
    more = ("--video", "--figure", "--strip", "--difference", "--page")
    status, out, err = run("-f", "logit:star", "--strength", "-1,0,1", *SMALL, *more, "--out", tmp_path, "--json")
    assert status == 0
    (line,) = (json.loads(text) for text in out.splitlines())
    files = {Path(file).name.removeprefix("scene-01-logit-star-"): Path(file) for file in line["files"]}
    assert set(files) == {
        "accentuated.png", "opacity.png", "overlay.png", "frames.webp", "sweep.webp",
        "figure.png", "strip.png", "difference.png", "frames.mp4",
    }  # fmt: skip
    with Image.open(files["sweep.webp"]) as sweep, Image.open(files["strip.png"]) as strip:
        assert (sweep.n_frames, sweep.size, strip.size) == (3, (64, 64), (4 * 64 + 3 * 8, 64))
    with av.open(str(files["frames.mp4"])) as film:
        assert sum(1 for _ in film.decode(video=0)) == 4 + 30
    assert accentor.read_metadata(files["difference.png"]).view == "difference, gain 4"
    page = (tmp_path / "index.html").read_text()
    assert page.count('type="radio"') == 3
    assert "index.html" in err


def test_of_a_folder_only_its_own_images_are_taken_unless_what_lies_below_is_asked_for(tmp_path):
    for name in ("b.png", "inner/a.JPG", "inner/deep/c.webp", "inner/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    inside = [tmp_path / name for name in ("b.png", "inner/a.JPG", "inner/deep/c.webp")]
    assert list_images([tmp_path, Path("x.png")]) == [inside[0], Path("x.png")]
    assert list_images([tmp_path], below=True) == inside
    inside[0].unlink()
    with pytest.raises(InvalidImageError, match=r"holds no images.*; 2 lie in folders below it, name those"):
        list_images([tmp_path])


def test_json_tells_the_numbers(run, tmp_path):
    _, out, _ = run("-f", "logit:star", "--strength", "-1", "--strength", "1", *SMALL, "--out", tmp_path, "--json")
    line = json.loads(out)
    metadata = accentor.read_metadata(line["files"][0])
    assert (line["before"], line["after"]) == (metadata.before, metadata.after)
    assert (line["steps"], line["stopped_at"], line["precision"]) == (2, None, metadata.precision)
    assert metadata.to_recipe() == changed_recipe("natural", steps=2, strengths=["-1,1"], settings=SMALL[1:6:2])
    assert [(point["strength"], point["step"]) for point in line["sweep"]] == [(-1.0, 2), (1.0, 2)]
    assert line["sweep"][1]["value"] == line["after"]
    assert line["sweep"][0]["value"] < line["before"] < line["after"]
    assert line["distance"] == line["sweep"][1]["distance"] > 0
    assert line["seconds"] > 0
    assert line["notes"] == list(metadata.notes)


def test_a_missing_library_is_told_before_anything_is_computed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "EXTRAS", {"frames.mp4": ("no_such_library", "video")})
    status, _, err = run("-f", "logit:star", "--video", "--out", tmp_path / "out")
    assert status == 2
    assert "frames.mp4 needs no_such_library: pip install 'accentor[video]'" in err
    assert not (tmp_path / "out").exists()


def test_help_is_sorted_into_panels():
    text = CliRunner().invoke(build(), ["accentuate", "--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    assert text.index("Recipe") < text.index("--strength") < text.index("More files") < text.index("--video")


def test_settings_of_the_recipe_are_named_in_errors():
    with pytest.raises(InvalidRecipeError, match="did you mean regularizer or regularization"):
        read_setting("regulariser=l1")
