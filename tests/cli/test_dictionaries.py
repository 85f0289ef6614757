"""``accentor dictionary`` against a running service, and the fit on this machine."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.api.conftest import bare, running, service
from tests.api.scans import finish
from tests.api.service import Service, picture
from tests.cli.test_service_commands import Run, run
from tests.engine.dictionaries.test_overcomplete import library
from tests.servers import wait_until

from accentor.engine.dictionaries import DirectionDictionary

__all__ = ["bare", "library", "run", "running", "service"]


def test_from_a_file_to_its_end(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.eye(8, dtype="f4")[[0, 1, 1]] * [[1], [0], [2]])
    (tmp_path / "labels.txt").write_text("ear\neye\nnose\n")
    arguments = ("--model", "toy", "--layer", "conv1", "--labels", tmp_path / "labels.txt")
    status, out, err = run("dictionary", "create", "mine", tmp_path / "rows.npy", *arguments)
    assert status == 0
    assert "3 features (directions) of conv1 of toy, 8 units" in out
    assert "1 all zero, 0 not finite, they cannot be used: 1" in err
    [card] = json.loads(run("dictionary", "list", "--json")[1])
    assert (card["name"], card["features"], card["zero"]) == ("mine", 3, 1)
    assert "mine" in run("dictionary", "list", "--model", "toy")[1]
    shown = run("dictionary", "show", "mine")[1]
    assert f"dictionary:mine@{card['version']}#1  eye  zero" in shown
    found = json.loads(run("dictionary", "show", "mine", "--search", "OSE", "--json")[1])
    assert [one["index"] for one in found["found"]] == [2]
    assert "no label has '[ox' in it" in run("dictionary", "show", "mine", "--search", "[ox")[2]
    assert json.loads(run("dictionary", "delete", "mine", "--json")[1]) == {"dictionary": "mine", "deleted": True}
    status, _, err = run("dictionary", "show", "mine")
    assert (status, "there is no dictionary 'mine'" in err) == (2, True)


def test_that_only_the_first_features_are_shown_is_said(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((14, 8), "f4"))
    (tmp_path / "labels.txt").write_text("\n".join(["ear"] * 12 + ["eye"] * 2))
    arguments = ("--model", "toy", "--layer", "conv1", "--labels", tmp_path / "labels.txt")
    assert run("dictionary", "create", "many", tmp_path / "rows.npy", *arguments)[0] == 0

    def listed(*more: object) -> tuple[int, str]:
        _, out, err = run("dictionary", "show", "many", *more)
        return sum(line.startswith("dictionary:") for line in out.splitlines()), err

    count, err = listed()
    assert (count, "the first 10 of 14; --limit lists more" in err) == (10, True)
    count, err = listed("--search", "ear")
    assert (count, "the first 10; --limit lists more" in err) == (10, True)
    for more, whole in ((("--limit", 14), 14), (("--search", "ear", "--limit", 12), 12), (("--search", "eye"), 2)):
        count, err = listed(*more)
        assert (count, "--limit" in err) == (whole, False)
    for more, found in (((), 12), (("--limit", 3), 3)):
        out = run("dictionary", "show", "many", "--search", "ear", "--json", *more)[1]
        assert len(json.loads(out)["found"]) == found


def test_what_another_library_wrote_is_converted_here(run: Run, tmp_path: Path, library: ModuleType) -> None:
    torch.manual_seed(0)
    path = tmp_path / "sae.pt"
    torch.save(library.TopKSAE(8, 5, top_k=2).eval().state_dict(), path)
    arguments = ("--model", "toy", "--layer", "conv1", "--activation", "topk", "--k", "2", "--json")
    for left_out, given in (("--layer", (*arguments[:2], *arguments[4:])), ("--activation", arguments[:4])):
        status, _, err = run("dictionary", "create", "sae", path, *given)
        assert (status, f": give {left_out}\n" in err) == (2, True), err
    card = json.loads(run("dictionary", "create", "sae", path, *arguments)[1])
    assert (card["kind"], card["features"], card["activation"], card["k"]) == ("encoder", 5, "topk", 2)


def test_it_is_shown_which_scan_tells_of_the_features(
    run: Run, service: Service, tmp_path: Path, library: ModuleType
) -> None:
    torch.save(library.TopKSAE(8, 5, top_k=2).eval().state_dict(), tmp_path / "sae.pt")
    arguments = ("--model", "toy", "--layer", "conv1", "--activation", "topk", "--k", "2")
    assert run("dictionary", "create", "sae", tmp_path / "sae.pt", *arguments)[0] == 0
    service.objects.put("photos/0.png", picture())
    service.http.post("/v1/datasets", json={"name": "d", "prefix": "photos/"})
    wait_until(lambda: service.http.get("/v1/datasets/d").json()["state"] == "ready")
    version = service.http.get("/v1/datasets/d").json()["card"]["version"]

    def scanned(top: float, **settings: str) -> str:
        asked = {"model": "toy", "dictionary": "sae", **settings}
        status = service.http.post("/v1/datasets/d/scans", json=asked).json()
        finish(service, status, [[0]] * 5, tmp_path, numbers=[top] * 5)
        return str(status["id"])

    def shown() -> list[str]:
        lines = run("dictionary", "show", "sae")[1].splitlines()
        return [line for line in lines if line.startswith("scan ")] + [lines[-1].rpartition("max ")[2]]

    before = scanned(0.25, code="pre")
    assert shown() == [f"scan {before}  1 images of d@{version}, mean of its pre-codes, shown here", "0.25"]
    for top, settings in ((0.5, {}), (0.75, {"reduce": "max"})):
        scanned(top, **settings)
        assert {line.partition(", ")[2] for line in shown() if "shown here" in line} == {
            "mean of its post-codes, shown here"
        }
        assert shown()[-1] == "0.5"
    assert f"scan {before}  1 images of d@{version}, mean of its pre-codes" in shown()


def test_a_layer_that_the_file_alone_names(run: Run, tmp_path: Path) -> None:
    path = DirectionDictionary(name="d", layer="blocks.1", vectors=torch.eye(8)).save(tmp_path / "d.safetensors")
    status, _, err = run("dictionary", "create", "d", path, "--model", "toy")
    assert status == 2
    assert "toy has no layer 'blocks.1'" in err
    assert f"{path} says so: name the model's own with --layer" in " ".join(err.split())


def test_a_feature_of_the_service_is_submitted_by_name(
    run: Run, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("dictionary", "create", "mine", "--channels", "--model", "toy", "--layer", "conv1")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(picture())
    status, out, _ = run("submit", tmp_path / "a.png", "-m", "toy", "-f", "dictionary:mine#3", "--json")
    assert status == 0
    spec = service.http.get(f"/v1/batches/{json.loads(out)['id']}/jobs").json()["data"][0]["spec"]
    assert spec["feature"]["unit"] == 3
    assert spec["feature"]["dictionary"].startswith("mine@")
    status, out, _ = run("submit", tmp_path / "a.png", "-m", "toy", "--dictionary", "mine", "--range", "0:4", "--json")
    assert json.loads(out)["total"] == 4


def test_what_is_wrong(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((2, 5), "f4"))
    for arguments, said in (
        (("d",), "expected one of SOURCE, --channels and --object"),
        (("d", tmp_path / "rows.npy", "--channels"), "expected one of SOURCE, --channels and --object"),
        (("d", tmp_path / "rows.npy", "-m", "toy", "-l", "conv1"), "5 units, conv1 of toy has 8 units"),
        (("d", tmp_path / "sae.pt", "-m", "toy", "-l", "conv1"), "sae.pt"),
        (("d", "--object", "none.npy", "-m", "toy", "-l", "conv1"), "no object of this service's store"),
    ):
        status, _, err = run("dictionary", "create", *arguments)
        assert status == 2
        assert said in " ".join(err.split())


@pytest.mark.usefixtures("library")
def test_a_fit_is_written_here(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    from accentor.engine.reference.scenes import render_scene

    (tmp_path / "more").mkdir()
    for seed in range(12):
        place = tmp_path / "more" if seed % 2 else tmp_path
        Image.fromarray(render_scene(seed, size=64).image).save(place / f"{seed}.png")
    out = tmp_path / "made" / "concepts.safetensors"
    arguments = ("--layer", "block4", "--size", "4", "--positions", "400", "--out", out, "--json")
    status, printed, err = run("dictionary", "fit", tmp_path, *arguments)
    assert status == 0, err
    said = json.loads(printed)
    assert (said["features"], said["images"], said["dead"]) == (4, 12, [])
    assert 0 < said["r2"] <= 1
    with safe_open(out, framework="np") as file:
        assert file.get_tensor("vectors").shape[0] == 4
    assert run("dictionary", "fit", tmp_path, "--layer", "block3", "--out", tmp_path / "a.npy")[0] == 2


@pytest.mark.usefixtures("library")
def test_a_fit_leaves_out_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    from accentor.engine.reference.scenes import render_scene

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(11):
        (photos / f"damaged-{number:02}.png").write_bytes(b"no image")
    arguments = ("dictionary", "fit", photos, "--layer", "block4", "--size", "2", "--out", tmp_path / "a.safetensors")
    status, _, err = run(*arguments)
    assert status == 2
    assert "11 of 11 images could not be read" in err
    assert "there is no image to fit" in " ".join(err.split())
    for seed in range(3):
        Image.fromarray(render_scene(seed, size=64).image).save(photos / f"{seed}.png")
    status, printed, err = run(*arguments, "--json")
    assert status == 0, err
    said = json.loads(printed)
    assert (said["images"], len(said["skipped"])) == (3, 11)
    assert said["skipped"][0]["image"] == str(photos / "damaged-00.png")
    assert "11 of 14 images could not be read" in err
    assert err.count("left out: ") == 10
    assert f"{photos / 'damaged-09.png'} is no image" in err
