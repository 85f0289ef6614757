"""Features as data and as text."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from accentor.errors import InvalidFeatureError
from accentor.spec import Channel, Direction, Feature, Logit, Neuron, Sum, Term, parse_feature
from accentor.spec.features import FORMS, MAX_TERMS, MAX_VECTOR

A, B = Logit(unit=207), Channel(layer="layer3", unit=12)

FORMS_AND_FEATURES = {
    "logit:207": Logit(unit=207),
    "logit:golden retriever": Logit(unit="golden retriever"),
    "logit:T-shirt - white": Logit(unit="T-shirt - white"),
    "logit:2*3 board": Logit(unit="2*3 board"),
    "logit:crème brûlée 🐕": Logit(unit="crème brûlée 🐕"),
    "channel:layer3.1.conv2:12": Channel(layer="layer3.1.conv2", unit=12),
    "neuron:layer3.1.conv2:12": Neuron(layer="layer3.1.conv2", unit=12),
    "neuron:layer3.1.conv2:12@7,5": Neuron(layer="layer3.1.conv2", unit=12, position=(7, 5)),
    "direction:layer4:folder/a file.safetensors#3": Direction(layer="layer4", source="folder/a file.safetensors#3"),
    "direction:layer4:C:\\bank#2.npy#3": Direction(layer="layer4", source="C:\\bank#2.npy#3"),
    "-logit:207": Sum(terms=(Term(weight=-1, feature=Logit(unit=207)),)),
    "1.0*logit:207": Sum(terms=(Term(weight=1, feature=Logit(unit=207)),)),
    "logit:207 - 0.5*logit:208": Sum(
        terms=(Term(weight=1, feature=Logit(unit=207)), Term(weight=-0.5, feature=Logit(unit=208)))
    ),
    "-logit:a - b + 1e-05*channel:x:1 - neuron:y:2@0,0": Sum(
        terms=(
            Term(weight=-1, feature=Logit(unit="a - b")),
            Term(weight=1e-5, feature=Channel(layer="x", unit=1)),
            Term(weight=-1, feature=Neuron(layer="y", unit=2, position=(0, 0))),
        )
    ),
}


@pytest.mark.parametrize(("text", "feature"), FORMS_AND_FEATURES.items())
def test_string_form(text, feature):
    assert parse_feature(text) == feature
    assert str(feature) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  logit:207 ", "logit:207"),
        ("- logit:207", "-logit:207"),
        ("logit:1   +  2 * logit:2", "logit:1 + 2.0*logit:2"),
        ("-.5*logit:1", "-0.5*logit:1"),
        ("-1*logit:1", "-logit:1"),
        ("3.*logit:1 - 1E+2*logit:2", "3.0*logit:1 - 100.0*logit:2"),
        ("logit:007", "logit:7"),
    ],
)
def test_loose_spelling(text, plain):
    assert str(parse_feature(text)) == plain


layers = st.text(
    st.characters(exclude_categories=("Z", "C"), exclude_characters=":@#"), min_size=1, max_size=20
).filter(lambda text: not any(map(str.isspace, text)))
units = st.integers(0, 2**31 - 1)
labels = (
    st.one_of(
        st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters=":"), min_size=1, max_size=40),
        st.from_regex(r"[a-z]+( [-+*] ?|-| )[a-z0-9.*+-]+( - logit)?", fullmatch=True),
    )
    .map(str.strip)
    .filter(lambda text: text and text.isprintable() and not text.isdigit())
)
sources = st.builds("{}.npy#{}".format, st.from_regex(r"[\w./: *+-]*\w", fullmatch=True), st.integers(0, 10**6)).map(
    str.strip
)
atoms = st.one_of(
    st.builds(Logit, unit=units | labels),
    st.builds(Channel, layer=layers, unit=units),
    st.builds(Neuron, layer=layers, unit=units, position=st.none() | st.tuples(units, units)),
    st.builds(Direction, layer=layers, source=sources),
)
weights = st.one_of(st.sampled_from([1.0, -1.0, 0.5, -2.0, -0.0]), st.floats(allow_nan=False, allow_infinity=False))
sums = st.lists(st.builds(Term, weight=weights, feature=atoms), min_size=1, max_size=5).filter(
    lambda terms: any(term.weight for term in terms)
)
features = atoms | sums.map(lambda terms: Sum(terms=tuple(terms)))


@settings(max_examples=300, deadline=None)
@given(features)
def test_round_trip_as_text(feature):
    assert parse_feature(str(feature)) == feature


@settings(max_examples=100, deadline=None)
@given(features)
def test_round_trip_as_json(feature):
    adapter = TypeAdapter(Feature)
    assert adapter.validate_json(adapter.dump_json(feature)) == feature
    assert adapter.validate_python(str(feature)) == feature


def test_direction_by_value_has_json_but_no_text():
    feature = Direction(layer="layer4", vector=(0.5, -1.0, 0.0))
    assert TypeAdapter(Feature).validate_json(feature.model_dump_json()) == feature
    assert str(feature) == "direction:layer4:<3 values>"
    with pytest.raises(InvalidFeatureError):
        parse_feature(str(feature))


def weights_of(feature):
    return [(term.weight, str(term.feature)) for term in feature.terms_of()]


def test_algebra():
    a, b = str(A), str(B)
    assert weights_of(A) == [(1, a)]
    assert weights_of(2 * A - B) == [(2, a), (-1, b)]
    assert weights_of(A * 2 - B) == [(2, a), (-1, b)]
    assert weights_of(-(2 * A + B)) == [(-2, a), (-1, b)]
    assert weights_of(A - (B - 3 * A)) == [(1, a), (-1, b), (3, a)]
    negative = -A
    assert weights_of(-negative) == [(1, a)]
    assert str(A - B) == "logit:207 - channel:layer3:12"
    assert parse_feature("2*logit:207 - channel:layer3:12") == 2 * A - B


@pytest.mark.parametrize("factor", [math.nan, math.inf, 0.0])
def test_senseless_factors(factor):
    with pytest.raises(ValueError, match="finite number|all weights of the sum are zero"):
        A * factor


BAD = [
    "",
    "   ",
    "-",
    "207",
    "logit",
    "logit:",
    "logits:207",
    "Logit:207",
    "+logit:207",
    "--logit:207",
    "2*-logit:207",
    "inf*logit:207",
    "nan*logit:207",
    "1e999*logit:207",
    "0*logit:207",
    "logit:²",
    "logit:a:b",
    "logit:a\nb",
    "logit:207 -logit:208",
    "logit:207-logit:208",
    "logit:99999999999",
    "logit:" + "9" * 5000,
    "logit:" + "x" * 201,
    "channel:layer3",
    "channel:layer3:",
    "channel:layer3:x",
    "channel:layer3:-1",
    "channel:layer3:1.5",
    "channel::1",
    "channel:la yer:1",
    "channel:layer3:4294967296",
    "channel:layer3:12@1,2",
    "neuron:layer3:12@",
    "neuron:layer3:12@1",
    "neuron:layer3:12@1,2,3",
    "neuron:layer3:12@-1,2",
    "direction:layer4",
    "direction:layer4:",
    "direction:layer4:file.npy",
    "direction:layer4:file.npy#",
    "direction:layer4:file.npy#-1",
    "direction:layer4:#3",
]


@pytest.mark.parametrize("text", BAD)
def test_bad_text(text):
    with pytest.raises(InvalidFeatureError) as caught:
        parse_feature(text)
    assert "is no feature" in caught.value.detail
    with pytest.raises(ValidationError):
        TypeAdapter(Feature).validate_python(text)


@pytest.mark.parametrize("text", ["", "207", "unit:3", "channel:layer3", "neuron:layer3:12@1"])
def test_error_names_the_forms(text):
    with pytest.raises(InvalidFeatureError) as caught:
        parse_feature(text)
    assert FORMS in caught.value.detail
    assert repr(text) in caught.value.detail


def test_too_many_terms():
    most = " + ".join(["logit:1"] * MAX_TERMS)
    assert len(parse_feature(most).terms) == MAX_TERMS
    with pytest.raises(InvalidFeatureError, match="terms"):
        parse_feature(most + " + logit:1")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"vector": (1.0,), "source": "a.npy#0"},
        {"vector": ()},
        {"vector": (0.0, -0.0)},
        {"vector": (1.0, math.nan)},
        {"vector": (math.inf,)},
        {"vector": (1.0,) * (MAX_VECTOR + 1)},
        {"source": "a - logit:1#2"},
        {"source": " a.npy#2"},
    ],
)
def test_bad_direction(fields):
    with pytest.raises(ValidationError):
        Direction(layer="layer4", **fields)


@pytest.mark.parametrize("label", ["", " ash", "ash ", "a:b", "207", "²", "a\tb", "x" * 201])
def test_bad_label(label):
    with pytest.raises(ValidationError):
        Logit(unit=label)


def test_features_are_immutable_and_hashable():
    with pytest.raises(ValidationError):
        A.unit = 3
    assert len({A, Logit(unit=207), B}) == 2


def test_unknown_kind_and_field():
    adapter = TypeAdapter(Feature)
    for value in ({"kind": "unit", "unit": 1}, {"kind": "logit", "unit": 1, "layer": "x"}, {"unit": 1}, 207, None):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
