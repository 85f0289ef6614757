"""Every error has a code of its own, and the page and the tree at the top of the module know them all."""

import re
from collections import Counter

from docs.make_errors import TARGET, classes, render

from accentor import errors
from accentor.errors import AccentorError, error_from_code
from accentor_api.problems import HTTP_CODES

SHARED = {"bad-request", "not-found"}
"""Codes of ours that HTTP's own answers have too: they mean the same."""


def test_the_page_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run: python docs/make_errors.py"


def test_every_code_belongs_to_one_class() -> None:
    codes = Counter(kind.code for kind in classes(AccentorError))
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert codes.keys() & set(HTTP_CODES.values()) == SHARED


def test_the_page_knows_every_code() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", TARGET.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert listed == {kind.code for kind in classes(AccentorError)} - {"error"} | set(HTTP_CODES.values())


def test_the_tree_is_that_of_the_classes() -> None:
    drawn = re.findall(r"[├└]── (\w+) +([a-z-]+) +(\d{3})$", errors.__doc__ or "", flags=re.MULTILINE)
    leaves = [kind for kind in classes(AccentorError) if not kind.__subclasses__()]
    assert sorted(drawn) == sorted((kind.__name__, kind.code, str(kind.status)) for kind in leaves)


def test_an_error_is_rebuilt_from_its_code() -> None:
    for kind in classes(AccentorError):
        rebuilt = error_from_code(kind.code, "why", limit=3)
        assert (type(rebuilt), rebuilt.detail, rebuilt.extra) == (kind, "why", {"limit": 3})
