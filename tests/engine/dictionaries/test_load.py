"""Dictionaries by name, and files that are read once."""

import os
from pathlib import Path

import numpy as np
import pytest

from accentor.engine import Model
from accentor.engine.dictionaries import (
    channels_of,
    forget_dictionary,
    load_dictionary,
    register_dictionary,
    registered_dictionaries,
)
from accentor.errors import InvalidFeatureError, UnknownDictionaryError


@pytest.fixture
def registered(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("accentor.engine.dictionaries.load._registered", {})
    register_dictionary(channels_of(tiny, "late"))
    register_dictionary(channels_of(tiny, "early"), "early-bank")
    return ["late", "early-bank"]


def test_by_name(registered: list[str]):
    assert registered_dictionaries() == ["early-bank", "late"]
    assert load_dictionary("early-bank").layer == "early"
    assert load_dictionary("late").feature(3).unit == 3
    assert load_dictionary("late", "late") is load_dictionary("late")
    with pytest.raises(InvalidFeatureError, match="for layer 'late', not for 'early'"):
        load_dictionary("late", "early")
    with pytest.raises(InvalidFeatureError, match="registered as it is"):
        load_dictionary("late", activation="relu")


def test_an_unknown_name_lists_what_there_is(registered: list[str]):
    with pytest.raises(UnknownDictionaryError, match=r"no dictionary 'lat'.*registered are late, early-bank"):
        load_dictionary("lat")
    for name in registered:
        forget_dictionary(name)
    with pytest.raises(UnknownDictionaryError, match="none is registered"):
        load_dictionary("late")


def test_a_name_wins_over_a_file_but_not_over_a_path(registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "late.npy", np.ones((2, 3)))
    (tmp_path / "late.npy").rename(tmp_path / "late")
    assert load_dictionary("late").kind == "channels"
    with pytest.raises(InvalidFeatureError, match="late is no dictionary"):
        load_dictionary(Path("late"))


@pytest.mark.parametrize("name", ["a b", "a#3", "a:b", "a/b", "a@1"])
def test_names_that_would_not_be_read_again(tiny: Model, name: str):
    with pytest.raises(InvalidFeatureError, match="no name"):
        register_dictionary(channels_of(tiny, "late"), name)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path):
    path = tmp_path / "bank.npy"
    np.save(path, np.ones((2, 3)))
    first = load_dictionary(path, "late")
    assert load_dictionary(str(path), "late") is first
    assert load_dictionary(path, "early").layer == "early"
    np.save(path, np.full((2, 3), 5.0))
    os.utime(path, ns=(1, 1))
    assert load_dictionary(path, "late").vectors[0, 0] == 5.0


def test_a_folder_without_a_checkpoint(tmp_path: Path):
    with pytest.raises(InvalidFeatureError, match=r"cfg\.json"):
        load_dictionary(tmp_path)
