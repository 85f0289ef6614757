"""The error tree: as drawn, with stable codes."""

import pickle
import re

import pytest

from accentor import errors
from accentor.errors import AccentorError, JobError, RequestError, ServiceError, error_from_code

BASES = {"RequestError": RequestError, "JobError": JobError, "ServiceError": ServiceError}
LINE = re.compile(r"[├└]── (\w+) +(.*)")


def classes(base=AccentorError):
    for child in base.__subclasses__():
        if child.__module__ == "accentor.errors":
            yield child
            yield from classes(child)


def drawn():
    """Return {class: (base, code, status)} of the leaves in the drawing."""
    found, base = {}, None
    for line in errors.__doc__.splitlines():
        if match := LINE.search(line):
            name, rest = match[1], match[2].split()
            if name in BASES:
                base = name
            else:
                found[name] = (base, rest[0], int(rest[1]))
    return found


def test_the_drawing_is_the_tree():
    leaves = {
        cls.__name__: (base, cls.code, cls.status)
        for cls in classes()
        if cls.__name__ not in BASES
        for base in BASES
        if issubclass(cls, BASES[base])
    }
    assert drawn() == leaves
    assert len(leaves) >= 25


def test_codes_are_unique_and_well_formed():
    codes = [cls.code for cls in (AccentorError, *classes())]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_statuses_tell_whose_fault_it_is():
    for cls in classes():
        expected = 4 if issubclass(cls, RequestError) else 5
        assert cls.status // 100 == expected, cls


@pytest.mark.parametrize("cls", list(classes()), ids=lambda cls: cls.__name__)
def test_from_code(cls):
    error = error_from_code(cls.code, "why", nearest=["a"])
    assert type(error) is cls
    assert (str(error), error.detail, error.extra) == ("why", "why", {"nearest": ["a"]})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), again.detail, again.extra) == (cls, "why", {"nearest": ["a"]})


def test_from_an_unknown_code():
    error = error_from_code("of-the-future", "why")
    assert type(error) is AccentorError
    assert error.detail == "why"


def test_builtin_bases():
    assert issubclass(RequestError, ValueError)
    assert issubclass(errors.WaitTimeoutError, TimeoutError)
    assert not issubclass(JobError, ValueError)
