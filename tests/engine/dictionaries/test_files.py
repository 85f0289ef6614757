"""Dictionaries written and read again, and matrices from elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from accentor.engine.dictionaries import (
    ChannelDictionary,
    Dictionary,
    DirectionDictionary,
    EncoderDictionary,
    load_dictionary,
)
from accentor.errors import InvalidFeatureError
from accentor.spec import Direction


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sae(activation: str, **other) -> EncoderDictionary:
    return EncoderDictionary(
        name="sae",
        layer="layer4.1",
        labels=("fell", "Himmel", "été"),
        details={"method": "by hand", "r2": 0.5},
        vectors=normal(3, 5),
        bias=normal(3, seed=1),
        center=normal(5, seed=2),
        activation=activation,
        decoder=normal(3, 5, seed=3),
        offset=normal(5, seed=4),
        **other,
    )


KINDS = [
    ChannelDictionary(name="layer", layer="layer4.1", units=64),
    DirectionDictionary(name="bank", layer="layer4.1", vectors=normal(3, 5), labels=("a", "b", "c")),
    EncoderDictionary(name="bare", layer="layer4.1", vectors=normal(3, 5), activation="relu"),
    sae("relu"),
    sae("identity"),
    sae("topk", k=2),
    sae("jumprelu", threshold=torch.tensor([0.0, 0.5, 0.25])),
]


@pytest.mark.parametrize("dictionary", KINDS, ids=lambda dictionary: dictionary.name + dictionary.kind)
def test_what_is_saved_is_read(tmp_path: Path, dictionary: Dictionary):
    path = dictionary.save(tmp_path / "it.safetensors")
    read = load_dictionary(path)
    assert type(read) is type(dictionary)
    for key, value in vars(dictionary).items():
        other = getattr(read, key)
        assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value, key
    assert [file.name for file in tmp_path.iterdir()] == ["it.safetensors"]
    assert load_dictionary(path, "layer4.1", name="mine").name == "mine"
    with pytest.raises(InvalidFeatureError, match=r"for layer 'layer4.1', not for 'block4'"):
        load_dictionary(path, "block4")


def test_tied_weights_and_parts_of_a_tensor_are_saved(tmp_path: Path):
    both = normal(6, 5)
    tied = EncoderDictionary(name="tied", layer="late", vectors=both[:3], activation="relu", decoder=both[:3])
    read = load_dictionary(tied.save(tmp_path / "it.safetensors"))
    assert torch.equal(read.vectors, both[:3])
    assert torch.equal(read.decoder, both[:3])


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    path = tmp_path / "it.safetensors"
    path.mkdir()
    with pytest.raises(OSError, match="it.safetensors"):
        KINDS[1].save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["it.safetensors"]
    with pytest.raises(InvalidFeatureError, match=r"it\.npz"):
        KINDS[1].save(tmp_path / "it.npz")


def test_saved_directions_are_features_by_file(tmp_path: Path):
    KINDS[1].save(tmp_path / "bank.safetensors")
    assert torch.equal(next(iter(load_file(tmp_path / "bank.safetensors").values())), KINDS[1].vectors)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_npy(tmp_path: Path, dtype: str):
    matrix = (4 * normal(3, 5).numpy()).astype(dtype)
    np.save(tmp_path / "bank.npy", np.asfortranarray(matrix))
    dictionary = load_dictionary(tmp_path / "bank.npy", "late")
    assert (dictionary.kind, dictionary.name, dictionary.layer) == ("directions", "bank", "late")
    assert dictionary.feature(2) == Direction(layer="late", vector=tuple(matrix[2].astype("float32").tolist()))


def test_safetensors_of_one_matrix(tmp_path: Path):
    save_file({"anything": normal(3, 5).half()}, tmp_path / "bank.safetensors")
    dictionary = load_dictionary(str(tmp_path / "bank.safetensors"), "late")
    assert torch.equal(dictionary.vectors, normal(3, 5).half().float())


@pytest.mark.parametrize("turned", [False, True])
def test_bare_encoder_tensors(tmp_path: Path, turned: bool):
    vectors, bias, center = normal(7, 4), normal(7, seed=1), normal(4, seed=2)
    tensors = {"W_enc": vectors.T.contiguous() if turned else vectors, "b_enc": bias, "b_dec": center}
    path = tmp_path / "sae.safetensors"
    save_file(tensors, path)
    dictionary = load_dictionary(path, "late", activation="topk", k=2)
    x = normal(30, 4, seed=3)
    pre = (x - center) @ vectors.T + bias
    kept = pre >= pre.sort(dim=1).values[:, -2:-1]
    torch.testing.assert_close(dictionary.encode(x), pre.relu() * kept)
    with pytest.raises(InvalidFeatureError, match="does not say its activation"):
        load_dictionary(path, "late")
    with pytest.raises(InvalidFeatureError, match="give layer="):
        load_dictionary(path, activation="relu")


def test_thresholds_make_a_jumprelu(tmp_path: Path):
    path = tmp_path / "sae.safetensors"
    save_file({"W_enc": normal(3, 4), "b_enc": normal(3), "threshold": torch.tensor([-1.0, 0.0, 0.5])}, path)
    dictionary = load_dictionary(path, "late")
    assert (dictionary.activation, dictionary.threshold.tolist()) == ("jumprelu", [0.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"W_enc": normal(4, 4), "b_enc": normal(4)}, "4 × 4"),
        ({"W_enc": normal(3, 4), "b_enc": normal(5)}, r"\[3, 4\] does not fit.*\[5\]"),
        ({"W_enc": normal(3, 4), "b_enc": normal(3), "b_dec": normal(3)}, "does not fit"),
        ({"W_enc": normal(3, 4), "b_enc": normal(3), "W_gate": normal(3)}, "W_gate"),
        ({"a": normal(3, 4), "b": normal(3)}, "2 tensors"),
        ({"a": normal(3, 4, 5)}, r"\[3, 4, 5\], expected floats \[features, units\]"),
    ],
)
def test_tensors_that_are_no_dictionary(tmp_path: Path, tensors: dict, text: str):
    path = tmp_path / "it.safetensors"
    save_file(tensors, path)
    options = {"activation": "relu"} if "W_enc" in tensors else {}
    with pytest.raises(InvalidFeatureError, match=text):
        load_dictionary(path, "late", **options)


def test_directions_have_no_activation(tmp_path: Path):
    np.save(tmp_path / "bank.npy", normal(3, 5).numpy())
    with pytest.raises(InvalidFeatureError, match="no activation"):
        load_dictionary(tmp_path / "bank.npy", "late", activation="relu")


def test_broken_files(tmp_path: Path):
    for name in ("it.npy", "it.safetensors", "it.txt"):
        (tmp_path / name).write_bytes(b"\x93NUMPY nothing")
        with pytest.raises(InvalidFeatureError, match=name):
            load_dictionary(tmp_path / name, "late")


def test_a_header_that_lies(tmp_path: Path):
    path = tmp_path / "it.safetensors"
    said = {"kind": "encoder", "name": "x", "layer": "late", "labels": None, "details": {}, "activation": "relu"}
    cases = [
        ({"accentor": "dictionary-2"}, "dictionary-2"),
        ({"accentor": "dictionary-1"}, "no whole dictionary"),
        ({"accentor": "dictionary-1", "dictionary": "{"}, "no whole dictionary"),
        ({"accentor": "dictionary-1", "dictionary": json.dumps(said)}, "'k'"),
        ({"accentor": "dictionary-1", "dictionary": json.dumps(said | {"k": 9, "activation": "topk"})}, "k is 9"),
        ({"accentor": "dictionary-1", "dictionary": json.dumps(said | {"kind": "graph"})}, "graph"),
    ]
    for metadata, text in cases:
        save_file({"W_enc": normal(3, 4)}, path, metadata=metadata)
        with pytest.raises(InvalidFeatureError, match=text):
            load_dictionary(path)
