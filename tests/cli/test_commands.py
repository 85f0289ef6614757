"""The command line in process: what it prints, writes, and ends with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from accentor.cli.accentuating import file_stem, unique
from accentor.cli.demo import default_features, read_features
from accentor.cli.main import build, exit_status, main
from accentor.cli.serving import read_models
from accentor.engine.reference import sample_paths
from accentor.errors import InvalidImageError, InvalidRequestError, NotFiniteError, StorageUnavailableError
from accentor.gallery import Exhibit, write_gallery
from accentor.spec import Snapshot, parse_feature

RECIPE = '{"steps": 3, "crops": 2, "size": 64, "snapshots": 1}'


@pytest.fixture
def run(monkeypatch):
    """Run the program; return (exit status, standard output, standard error)."""

    def call(capsys, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["accentor", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("accentor sub", ["submit"]),
        ("accentor dict", ["dictionary"]),
        ("accentor keys rev", ["revoke"]),
        ("accentor submit --dead", ["--deadline"]),
        ("accentor submit --recipe f", ["fast"]),
        ("accentor accentuate --recipe ", ["natural", "fast", "paper"]),
    ],
)
def test_the_shell_completes(words, completed):
    shell = {"_ACCENTOR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = "import sys; sys.argv[0] = 'accentor'; from accentor.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **shell},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == completed


def test_help_names_every_command():
    result = CliRunner().invoke(build(), ["--help"])
    for command in (
        "accentuate",
        "models",
        "layers",
        "up",
        "api",
        "worker",
        "submit",
        "status",
        "watch",
        "cancel",
        "fetch",
        "retry",
        "delete",
        "dictionary",
        "dataset",
        "atlas",
        "webhooks",
        "keys",
        "bench",
    ):
        assert f" {command} " in result.output


def test_bench_measures(run, capsys):
    status, out, _ = run(capsys, "bench", "--pairs", "3", "-r", RECIPE, "--steps", "2", "--device", "cpu", "--json")
    told = json.loads(out)
    assert (status, told["model"], told["device"], told["pairs"], told["steps"]) == (0, "reference", "cpu", 3, 2)
    assert told["seconds"] > 0
    assert told["seconds_per_pair"] == pytest.approx(told["seconds"] / 3)
    assert told["pairs_per_hour"] == pytest.approx(3600 / told["seconds_per_pair"])
    status, out, _ = run(capsys, "bench", "--pairs", "1", "-r", RECIPE, "--steps", "1", "--device", "cpu")
    assert status == 0
    assert out.startswith("1 accentuations of 1 steps × 2 crops by reference on cpu: ")
    status, _, err = run(capsys, "bench", "-f", "channel:blok1:0")
    assert (status, "unknown-layer" in err) == (2, True)


def test_accentuate_writes_pictures_and_json_lines(run, capsys, tmp_path):
    images = sample_paths()[:2]
    features = ("-f", "logit:stripes", "-f", "-logit:red")
    status, out, _ = run(capsys, "accentuate", *images, *features, "-r", RECIPE, "--out", tmp_path, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(Path(line["image"]).name, line["feature"]) for line in lines] == [
        (image.name, feature) for image in images for feature in ("logit:stripes", "-logit:red")
    ]
    for line in lines:
        assert line["after"] > line["before"]
        assert all(Path(file).stat().st_size > 0 for file in line["files"])
        with Image.open(line["files"][0]) as picture:
            assert picture.size == (64, 64)
    assert len({file for line in lines for file in line["files"]}) == 16


def test_bad_image_fails_alone(run, capsys, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    options = ("-f", "logit:dots", "-r", RECIPE, "--out", tmp_path / "out", "--json")
    status, out, err = run(capsys, "accentuate", bad, sample_paths()[0], *options)
    lines = sorted((json.loads(line) for line in out.splitlines()), key=lambda line: "error" in line)
    assert status == 1
    assert "1 of 2 failed" in err
    assert lines[0]["after"] > lines[0]["before"]
    assert lines[1]["error"]["code"] == "invalid-image"
    assert "0 bytes" in lines[1]["error"]["detail"]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["-f", "channel:blok1:0"], "unknown-layer", "block1"),
        (["-f", "channel:block1:9999"], "unit-out-of-range", "9999"),
        (["-f", "logit:strpes"], "invalid-feature", "stripes"),
        (["-f", "nonsense"], "invalid-feature", "logit:UNIT"),
        (["-f", "logit:0", "-r", "beautiful"], "invalid-recipe", "natural, fast, paper"),
        (["-f", "logit:0", "-r", '{"steps": 0}'], "invalid-recipe", "steps"),
        (["-f", "logit:0", "-r", '{"steps": 1000000000}'], "invalid-recipe", "10000"),
        (["-f", "logit:0", "-r", '{"steps": '], "invalid-recipe", "no JSON"),
        (["-f", "logit:0", "-m", "resnet50"], "unknown-model", "torchvision:NAME"),
        (["-f", "logit:0", "-m", "torchvision:resnet5"], "unknown-model", "resnet50"),
        (["-f", "logit:0", "-m", "torchvision:resnet18", "-w", "weights.pt"], "invalid-weights", "safetensors"),
        (["-f", "logit:0", "--device", "abacus"], "invalid-request", "abacus"),
    ],
)
def test_wrong_requests_say_what_was_expected(run, capsys, tmp_path, arguments, code, named):
    status, out, err = run(capsys, "accentuate", sample_paths()[0], *arguments, "--out", tmp_path, "--json")
    said = out + err
    assert code in said
    assert named in said
    assert status == 2
    assert not list(tmp_path.glob("*.png"))


def test_layers_as_json(run, capsys):
    status, out, _ = run(capsys, "layers", "reference", "--json")
    layers = {layer["name"]: layer for layer in json.loads(out)}
    assert status == 0
    assert layers["block1"]["shape"][1:] == [28, 28]


def test_service_that_is_not_there(run, capsys):
    status, _, err = run(capsys, "status", "--url", "http://127.0.0.1:9")
    assert status == 3
    assert "127.0.0.1:9" in err


def test_exit_statuses():
    assert exit_status(InvalidImageError("")) == 2
    assert exit_status(NotFiniteError("")) == 1
    assert exit_status(StorageUnavailableError("")) == 3


def test_served_models_are_read_from_text(tmp_path):
    weights = tmp_path / "w.safetensors"
    assert read_models(["resnet=torchvision:resnet50", "reference", f"s=torchvision:squeezenet1_0,{weights}"]) == {
        "resnet": {"source": "torchvision:resnet50"},
        "reference": {"source": "reference"},
        "s": {"source": "torchvision:squeezenet1_0", "weights": str(weights)},
    }
    assert read_models(["r=torchvision:resnet50,/w/a=b.safetensors"])["r"]["weights"] == "/w/a=b.safetensors"
    for wrong in ("=x", "my net=reference", "", "a="):
        with pytest.raises(InvalidRequestError, match="NAME=SOURCE"):
            read_models([wrong])


def test_pictures_of_the_same_name_are_kept_apart():
    assert unique(["dog-a", "cat-a", "dog-a"]) == ["dog-a-0", "cat-a", "dog-a-2"]
    assert file_stem(parse_feature("-logit:great grey owl")) == "minus-logit-great-grey-owl"
    assert file_stem(parse_feature("neuron:a.b:3@7,5")) == "neuron-a.b-3@7,5"


def test_demo_features_are_read_from_text():
    texts = ["logit:207 - logit:208", "neuron:a.b:3@7,5", "-channel:c:1", "2.5*logit:great grey owl"]
    assert read_features("; ".join(texts)) == [parse_feature(text) for text in texts]
    assert read_features(",".join(texts)) == [parse_feature(text) for text in texts]


def test_demo_features_exist_in_the_reference_model():
    from accentor.engine import load_model

    card = load_model("reference", device="cpu").card
    features = default_features(card)
    assert len({str(card.resolve(feature)) for feature in features}) == 8
    kinds = {term.feature.kind for feature in features for term in feature.terms_of()}
    assert kinds == {"logit", "channel", "neuron", "direction"}


def test_gallery_shows_text_as_text(tmp_path):
    points = (Snapshot(step=0, value=1.0, distance=0.0), Snapshot(step=9, value=3.0, distance=2.0))
    exhibit = Exhibit("<script>x</script>", 'a"b', "s.png", "a.png", "o.png", 1.0, 3.0, points, 10, 10, ("<b>",))
    write_gallery(tmp_path / "index.html", [exhibit], title="<t>", subtitle="s")
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;x" in page
    assert "&lt;b&gt;" in page
    assert "1<i>→</i><b>3</b>" in page
