"""Dictionaries in the object store: what is read from a file, what is refused, and versions."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accentor.errors import (
    DigestMismatchError,
    InvalidFeatureError,
    TooLargeError,
    UnitOutOfRangeError,
    UnknownDictionaryError,
    UnknownLayerError,
)
from accentor.spec import DictionarySpec, Entry, LayerInfo, ModelCard, sha256_hex
from accentor.spec.dictionaries import MAX_FEATURES
from accentor.storage.dictionaries import DictionaryStore
from accentor.storage.file import FileStore
from accentor.storage.keys import dictionary_key

CARD = ModelCard(
    name="toy",
    source="reference",
    digest="d" * 64,
    input_size=32,
    regularization_layer="conv",
    layers=(LayerInfo(name="conv", type="Conv2d", shape=(3, 8, 8)), LayerInfo(name="fc", type="Linear", shape=(4,))),
)
ROWS = np.array([[1, 0, 0], [0, 3, 4], [0, 0, 0], [2, 0, 0], [np.nan, 0, 1], [0, 1, 0]], "f4")


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def safetensors(tensors: dict[str, Any], header: dict[str, str] | None = None) -> bytes:
    entries: dict[str, Any] = {"__metadata__": header or {}}
    body = b""
    for name, array in tensors.items():
        dtype = {"f4": "F32", "f2": "F16", "u2": "BF16", "i4": "I32", "f8": "F64"}[array.dtype.str[1:]]
        data = np.ascontiguousarray(array).tobytes()
        entries[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


def spec(data: bytes, **fields: Any) -> DictionarySpec:
    return DictionarySpec(**{"name": "d", "model": "toy", "layer": "conv", "file": sha256_hex(data)} | fields)


@pytest.fixture
def store(tmp_path: Path) -> DictionaryStore:
    return DictionaryStore(FileStore(tmp_path))


def refusal(store: DictionaryStore, data: bytes, error: type[Exception] = InvalidFeatureError, **fields: Any) -> str:
    with pytest.raises(error) as caught:
        store.create(spec(data, **fields), CARD, data)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        npy(ROWS),
        npy(np.asfortranarray(ROWS)),
        npy(ROWS.astype("f8")),
        npy(ROWS.astype("f2")),
        safetensors({"rows": ROWS}),
        safetensors({"rows": (ROWS.view("<u4") >> 16).astype("<u2")}),
    ],
    ids=["npy", "columns", "double", "half", "safetensors", "bfloat16"],
)
def test_every_number_format_gives_the_same_table(store: DictionaryStore, data: bytes) -> None:
    card, is_new = store.create(spec(data), CARD, data)
    assert is_new
    assert (card.kind, card.features, card.units, card.layer) == ("directions", 6, 3, "conv")
    assert (card.zero, card.not_finite, card.duplicates) == (1, 1, 1)
    assert (card.dead_features, card.duplicate_features) == ((2, 4), ((3, 0),))
    assert store.table(card).norms == (1.0, 5.0, 0.0, 2.0, None, 1.0)
    states = [store.table(card).feature(card, index).state for index in range(6)]
    assert states == ["ok", "ok", "zero", "duplicate", "not-finite", "ok"]
    assert store.data(card) == data


def test_an_encoder_is_read_in_either_orientation(store: DictionaryStore) -> None:
    good = ROWS[[0, 1, 5, 3]]
    for matrix in (good, good.T):
        data = safetensors({"W_enc": matrix, "b_enc": np.zeros(4, "f4"), "b_dec": np.zeros(3, "f4")})
        card, _ = store.create(spec(data, activation="topk", k=2), CARD, data)
        assert (card.kind, card.features, card.units) == ("encoder", 4, 3)
        assert (card.activation, card.k, card.options) == ("topk", 2, {"activation": "topk", "k": 2})
        assert card.duplicate_features == ((3, 0),)
    broken = safetensors({"W_enc": good, "b_enc": np.array([0, np.inf, 0, 0], "f4")})
    card, _ = store.create(spec(broken, activation="relu"), CARD, broken)
    assert card.dead_features == (1,)
    assert "does not say its activation" in refusal(store, broken)
    assert "k is 5, expected 1 to 4" in refusal(store, broken, activation="topk", k=5)
    assert "jumprelu needs a threshold" in refusal(store, broken, activation="jumprelu")


def test_both_numbers_are_named(store: DictionaryStore) -> None:
    assert "5 units, conv of toy has 3 units" in refusal(store, npy(np.ones((2, 5), "f4")))
    assert "0 features of 3 units, expected 1 or more" in refusal(store, npy(np.ones((0, 3), "f4")))
    large = npy(np.zeros((1_000_000, 3), "f2"))
    assert f"1000000 features, at most {MAX_FEATURES}" in refusal(store, large, TooLargeError)
    assert "2 are all zero, 1 hold NaN" in refusal(store, npy(np.array([[0, 0, 0], [0, 0, 0], [np.nan, 0, 0]], "f4")))
    assert "2 labels, expected 6" in refusal(store, npy(ROWS), labels=("a", "b"))
    assert "1 values of 'density', expected 6" in refusal(store, npy(ROWS), statistics={"density": (0.5,)})
    assert "nearest" in refusal(store, npy(ROWS), UnknownLayerError, layer="conw")
    assert "shape [3], expected a matrix" in refusal(store, npy(np.ones(3, "f4")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, world",
        npy(ROWS)[:-4],
        npy(np.ones((2, 3), "i4")),
        safetensors({"rows": ROWS})[:-4],
        safetensors({"rows": np.ones((2, 3), "i4")}),
        safetensors({"a": ROWS, "b": ROWS}),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2**60) + b"{}",
    ],
)
def test_what_is_no_dictionary_is_refused(store: DictionaryStore, data: bytes) -> None:
    assert "'d'" in refusal(store, data)
    assert store.newest() == []


def test_of_a_stump_its_bytes_are_told(store: DictionaryStore) -> None:
    assert refusal(store, b"hello").endswith("breaks off: 5 bytes")
    assert refusal(store, b"").endswith("breaks off: 0 bytes")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("[", "no whole dictionary"),
        ("[]", "no whole dictionary"),
        ("[" * 100_000, "no whole dictionary"),
        ({"kind": "cake"}, "kind 'cake' is unknown"),
        ({"layer": "fc"}, "for layer 'fc', not for 'conv'"),
        ({"units": "x"}, "no whole dictionary"),
        ({"kind": "encoder", "activation": "tanh"}, "activation 'tanh'"),
        ({"kind": "encoder", "activation": "topk", "k": "1"}, "k '1'"),
        ({"kind": "encoder", "activation": "topk", "k": 9}, "k is 9, expected 1 to 6"),
        ({"kind": "directions"}, "vectors is not there"),
    ],
    ids=str,
)
def test_a_header_of_ours_that_is_wrong(store: DictionaryStore, said: Any, message: str) -> None:
    whole = {"kind": "encoder", "name": "d", "layer": "conv", "labels": None, "details": {}, "units": 3}
    text = said if isinstance(said, str) else json.dumps(whole | said)
    data = safetensors({"W_enc": ROWS}, {"accentor": "dictionary-1", "dictionary": text})
    assert message in refusal(store, data)


def test_objects_are_never_unpickled(store: DictionaryStore) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    assert "expected floats" in refusal(store, buffer.getvalue())


def test_versions_never_change_and_the_newest_is_the_name(store: DictionaryStore) -> None:
    first, _ = store.create(spec(npy(ROWS)), CARD, npy(ROWS))
    again, is_new = store.create(spec(npy(ROWS)), CARD, npy(ROWS))
    assert (again, is_new) == (first, False)
    second, _ = store.create(spec(npy(ROWS * 2)), CARD, npy(ROWS * 2))
    third, _ = store.create(spec(npy(ROWS), labels=tuple("abcdef")), CARD, npy(ROWS))
    assert len({first.version, second.version, third.version}) == 3
    assert store.card("d") == third
    assert store.card(first.reference) == first
    assert [card.version for card in store.history("d")] == [third.version, second.version, first.version]
    store.delete(third)
    assert store.card("d") == second
    with pytest.raises(UnknownDictionaryError, match=third.version):
        store.card(third.reference)
    for wrong in ("e", "d@1", "../d", ""):
        with pytest.raises(UnknownDictionaryError):
            store.card(wrong)


def test_features_are_named_with_their_version(store: DictionaryStore) -> None:
    card, _ = store.create(DictionarySpec(name="c", model="toy", layer="conv", channels=True), CARD)
    assert (card.kind, card.features, card.file) == ("channels", 3, None)
    features = store.features("c", CARD)
    assert list(features) == [Entry(dictionary=card.reference, unit=unit) for unit in range(3)]
    with pytest.raises(UnitOutOfRangeError, match="0 to 2; 3"):
        card.check_unit(3)
    other = CARD.model_copy(update={"name": "other", "digest": "e" * 64})
    with pytest.raises(InvalidFeatureError, match="for the model toy, not for other"):
        store.features("c", other)
    assert len(store.features("c", CARD.model_copy(update={"name": "alias"}))) == 3


def test_a_changed_file_is_noticed(store: DictionaryStore, tmp_path: Path) -> None:
    card, _ = store.create(spec(npy(ROWS)), CARD, npy(ROWS))
    FileStore(tmp_path).put(dictionary_key("d", card.version, "features.npy"), npy(ROWS * 3))
    with pytest.raises(DigestMismatchError, match=str(card.file)):
        store.data(card)
