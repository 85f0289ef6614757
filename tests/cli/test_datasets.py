"""``accentor dataset`` against a running service."""

import json
from pathlib import Path

from tests.api.conftest import bare, running, service
from tests.api.scans import Scanner
from tests.api.service import Service, picture
from tests.cli.test_service_commands import Run, run

__all__ = ["bare", "run", "running", "service"]


def test_from_a_folder_to_its_end(run: Run, tmp_path: Path) -> None:
    for index in range(3):
        path = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(index))
    (tmp_path / "photos" / "x.png").write_bytes(b"broken")
    status, out, err = run("dataset", "create", "mine", tmp_path / "photos")
    assert status == 0
    assert "3 images, 3 labeled, 1 could not be read" in out
    assert "labels: a 2, b 1" in out
    assert "left out: x.png: " in err
    listed = json.loads(run("dataset", "list", "--json")[1])
    assert [(card["name"], card["images"]) for card in listed] == [("mine", 3)]
    assert "mine" in run("dataset", "list")[1]
    shown = json.loads(run("dataset", "show", f"mine@{listed[0]['version']}", "--json")[1])
    assert shown["card"] == listed[0]
    assert "3 images" in run("dataset", "show", "mine")[1]
    assert json.loads(run("dataset", "delete", "mine", "--json")[1]) == {"dataset": "mine", "deleted": True}
    status, _, err = run("dataset", "show", "mine")
    assert (status, "there is no dataset 'mine'" in err) == (2, True)


def test_from_the_store(run: Run, service: Service) -> None:
    for index in range(3):
        service.objects.put(f"photos/{index}.png", picture(index))
    service.objects.put("labels.csv", b"0.png,zero\n9.png,nine\n")
    status, out, _ = run("dataset", "create", "d", "--prefix", "photos/", "--labels", "labels.csv", "--json")
    card = json.loads(out)
    assert (status, card["images"], card["classes"], card["unmatched_labels"]) == (0, 3, {"zero": 1}, 1)


def test_what_is_wrong(run: Run, tmp_path: Path) -> None:
    for arguments, said in (
        (("d",), "0 were given"),
        (("d", tmp_path, "--prefix", "p/"), "2 were given"),
        (("d", tmp_path), "holds no images"),
        (("d", "--tar", "nothing/"), "no tar whose key begins with"),
        (("d", tmp_path / "a.tar"), "a line; tars are read where they lie in the store"),
    ):
        (tmp_path / "a.tar").write_bytes(b"\xff")
        status, _, err = run("dataset", "create", *arguments)
        assert status == 2
        assert not err.startswith("\n")
        assert said in " ".join(err.split())


def test_a_scan_and_what_is_paired_by_it(run: Run, service: Service, tmp_path: Path) -> None:
    for index in range(3):
        service.objects.put(f"photos/{index}.png", picture(index))
    run("dataset", "create", "d", "--prefix", "photos/")
    Scanner(service, [[unit % 3, (unit + 1) % 3] for unit in range(8)], tmp_path).start()
    scanned = ("dataset", "scan", "d", "--model", "toy", "--layer", "conv1", "--top-k", "2")
    status, out, _ = run(*scanned, "--out", tmp_path / "out")
    assert status == 0
    assert "conv1 of toy: 8 features on 3 images" in out
    assert (tmp_path / "out" / "sample.parquet").read_bytes() == b"sample"
    told = json.loads(run(*scanned, "--json")[1])
    assert (told["state"], told["card"]["top_k"]) == ("ready", 2)
    assert told["id"] in run("dataset", "show", "d")[1]
    assert [scan["id"] for scan in json.loads(run("dataset", "show", "d", "--json")[1])["scans"]] == [told["id"]]
    paired = ("submit", "--model", "toy", "--layer", "conv1", "--dataset", "d", "--json")
    assert json.loads(run(*paired, "--top-k", "2")[1])["total"] == 16
    assert json.loads(run(*paired)[1])["total"] == 24
    for arguments, said in (
        ((*paired, "--top-k", "3"), "keep 2"),
        ((*paired, "--top-k", "2", "--pairing", "zip"), "--pairing and --top-k were given"),
        ((*paired, tmp_path), "either images, a file of JSON Lines, or --dataset"),
        (("submit", "--layer", "conv1"), "either images, a file of JSON Lines, or --dataset"),
        (("dataset", "scan", "d", "--model", "toy"), "either layer or dictionary"),
    ):
        status, _, err = run(*arguments)
        assert status == 2
        assert said in " ".join(err.split())
