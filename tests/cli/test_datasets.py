"""``accentor dataset`` against a running service."""

import json
from pathlib import Path

from tests.api.conftest import bare, running, service
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
    ):
        status, _, err = run("dataset", "create", *arguments)
        assert status == 2
        assert said in " ".join(err.split())
