"""Pickles that would run code are refused before they run it."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from accentor.engine.dictionaries import load_dictionary
from accentor.errors import InvalidFeatureError


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def as_torch(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def as_old_torch(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("write", [as_torch, as_old_torch, pickle.dumps])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_checkpoint_that_would_touch_a_file(tmp_path: Path, write, suffix: str):
    path, mark = tmp_path / f"sae{suffix}", tmp_path / "touched"
    path.write_bytes(write({"encoder.weight": torch.ones(2, 3), "more": Touch(mark)}))
    with pytest.raises(InvalidFeatureError, match="never loaded"):
        load_dictionary(path, "late", activation="relu")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Touch(mark)))  # noqa: S301
    assert mark.exists()


@pytest.mark.parametrize("name", ["bank.npy", "bank.safetensors", "bank.npz", "bank.pkl"])
def test_a_pickle_under_another_name(tmp_path: Path, name: str):
    path, mark = tmp_path / name, tmp_path / "touched"
    path.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(InvalidFeatureError, match=name):
        load_dictionary(path, "late")
    assert not mark.exists()


def test_objects_in_an_array(tmp_path: Path):
    path, mark = tmp_path / "bank.npy", tmp_path / "touched"
    np.save(path, np.array([[Touch(mark)]], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidFeatureError, match="numeric array"):
        load_dictionary(path, "late")
    assert not mark.exists()


@pytest.mark.parametrize("thing", [[torch.ones(2)], {"a": 3}, torch.ones(2, 3), {"weights": torch.ones(2, 3)}])
def test_tensors_that_are_no_state_dict(tmp_path: Path, thing: object):
    path = tmp_path / "sae.pt"
    torch.save(thing, path)
    with pytest.raises(InvalidFeatureError, match=r"sae\.pt"):
        load_dictionary(path, "late", activation="relu")


def test_a_torn_checkpoint(tmp_path: Path):
    path = tmp_path / "sae.pt"
    path.write_bytes(as_torch({"encoder.weight": torch.ones(20, 30)})[:600])
    with pytest.raises(InvalidFeatureError, match=r"sae\.pt"):
        load_dictionary(path, "late", activation="relu")
