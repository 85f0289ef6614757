"""docs/recipes.md names every setting with its default."""

import ast
import re
from pathlib import Path

from accentor.spec import PRESETS, Recipe

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
ROW = re.compile(r"^\| `(\w+)` \| (none|`[^`]+`) \| \S", re.MULTILINE)


def test_every_setting_is_there_with_its_default():
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    rows = {name: None if default == "none" else ast.literal_eval(default[1:-1]) for name, default in found}
    assert rows == {name: field.default for name, field in Recipe.model_fields.items()}


def test_every_preset_is_there():
    rows = re.findall(r"^\| `(\w+)` \| \S", PAGE.read_text(encoding="utf-8").partition("## ")[0], re.MULTILINE)
    assert rows == list(PRESETS)
