"""``accentor atlas`` against a running service."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.api.conftest import bare, running, service
from tests.api.service import Service, picture
from tests.cli.test_service_commands import Run, run

from accentor.cli.atlases import dictionary_of
from accentor.engine import load_model
from accentor.errors import InvalidFeatureError, InvalidRequestError
from accentor.spec import PRESETS

__all__ = ["bare", "run", "running", "service"]

BUILD = ("atlas", "build", "--model", "toy")


def test_from_a_folder_to_its_end(run: Run, service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    (folder / "1.png").write_bytes(picture(1))
    asked = ("--features", "conv1", "--dataset", folder, "--limit", 2, "--top-k", 3, "--recipe", "fast", "--detach")
    status, out, err = run(*BUILD, *asked, "--title", "[b]<i>", "--json")
    assert status == 0, err
    atlas = json.loads(out)
    spec = atlas["spec"]
    assert spec["dataset"].startswith("my-photos@")
    assert (spec["layer"], spec["limit"], spec["top_k"], spec["recipe"]["steps"]) == (
        "conv1",
        2,
        3,
        PRESETS["fast"].steps,
    )
    assert json.loads(run("atlas", "list", "--json")[1])[0]["id"] == atlas["id"]
    assert f"{atlas['id']}  running  [b]<i>" in run("atlas", "list")[1]
    shown = run("atlas", "show", atlas["id"])[1]
    assert "scan        queued  0 of 1" in shown
    assert "select" not in shown
    status, _, err = run("atlas", "fetch", atlas["id"], "--out", tmp_path / "site")
    assert (status, "it has no site yet" in err) == (2, True)
    assert "canceled" in run("atlas", "cancel", atlas["id"])[1]
    assert run("atlas", "show", atlas["id"], "--wait")[0] == 1
    assert json.loads(run("atlas", "delete", atlas["id"], "--json")[1]) == {"atlas": atlas["id"], "deleted": True}
    assert run("atlas", "list")[2].strip() == "no atlases yet"


def test_a_file_of_directions_is_of_the_layer_that_is_said(tmp_path: Path) -> None:
    model = load_model("reference", device="cpu")
    path = tmp_path / "rows.npy"
    np.save(path, np.eye(3, 112, dtype=np.float32))
    assert dictionary_of(str(path), "block4", {}, model).layer == "block4"
    with pytest.raises(InvalidFeatureError, match="does not say what layer"):
        dictionary_of(str(path), None, {}, model)
    with pytest.raises(InvalidRequestError, match="block4 is none"):
        dictionary_of("block4", "block3", {}, model)
    with pytest.raises(InvalidRequestError, match="--k 2: it goes with a dictionary's file, and block4 is none"):
        dictionary_of("block4", None, {"activation": None, "k": 2}, model)


def test_of_an_encoder_that_does_not_say_its_activation_an_atlas_is_built(run: Run, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((112, 3)).astype(np.float32)
    sae = tmp_path / "sae.safetensors"
    save_file({"W_enc": weights, "b_enc": np.full(3, 9, np.float32)}, sae)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(picture())
    options = ("--dataset", tmp_path / "photos", "--out", tmp_path / "site", "--layer", "block4", "--steps", 1)
    asked = ("atlas", "build", "--local", "--features", sae, *options, "--json")
    status, _, err = run(*asked)
    assert (status, "give --activation\n" in err) == (2, True), err
    status, out, err = run(*asked, "--activation", "jumprelu", "--threshold", 1e9)
    assert status == 0, err
    features = (Path(json.loads(out)["page"]).parent / "features.jsonl").read_text().splitlines()
    assert [json.loads(one)["dead"] for one in features] == [True] * 3


def test_what_is_wrong(run: Run, tmp_path: Path) -> None:
    npy = tmp_path / "inner" / "rows.npy"
    npy.parent.mkdir()
    npy.touch()
    for arguments, said in (
        (("--features", "conv1", "--dataset", "none"), "there is no dataset 'none'"),
        (("--features", "conv9", "--dataset", "none"), "(and 1 more)"),
        (("--features", "conv1", "--dataset", "d", "--weights", "w.safetensors"), "the service decides that"),
        (("--features", "conv1", "--dataset", "d", "--layer", "conv1"), "it goes with --local"),
        (("--features", "conv1", "--dataset", "d", "--k", 2), "--k 2: the service decides that"),
        (("--features", npy, "--dataset", "none"), f"`accentor dictionary create NAME {npy}` sends it"),
        (("--features", "conv1", "--dataset", tmp_path), "no images"),
        (("--features", "conv1", "--dataset", "d", "--local"), "--local without --out"),
        (("--features", "conv1", "--dataset", "d", "--out", "x", "--detach"), "fetch it later"),
    ):
        status, _, err = run(*BUILD, *arguments)
        assert (status, said in err) == (2, True), err


def test_the_option_that_says_the_layer_of_a_file_is_named(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.eye(8, dtype="f4"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(picture())
    arguments = ("--features", tmp_path / "rows.npy", "--dataset", tmp_path / "photos", "--out", tmp_path / "site")
    status, _, err = run("atlas", "build", "--local", *arguments)
    assert (status, f"{tmp_path / 'rows.npy'} does not say what layer it is for: give --layer\n" in err) == (2, True), (
        err
    )
