"""The examples of the pages on the engine run as they stand, one after the other; their pictures are there."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("features", "recipes", "models", "dictionaries", "companions", "outputs")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = {"dictionaries": ["overcomplete"], "outputs": ["av", "matplotlib"]}
WITH_A_SERVICE = "from accentor_client import"


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, tmp_path, monkeypatch):
    if missing := [package for package in NEEDS.get(page, ()) if find_spec(package) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = [found for found in BLOCK.finditer(text) if WITH_A_SERVICE not in found[1]]
    assert blocks
    names: dict[str, object] = {}
    for found in blocks:
        lines_before = text.count("\n", 0, found.start(1))
        exec(compile("\n" * lines_before + found[1], f"docs/{page}.md", "exec"), names)  # noqa: S102


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_there(page):
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert (DOCS / picture).is_file(), picture
