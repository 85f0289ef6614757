"""Features as data and as text."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from accentor.errors import InvalidFeatureError
from accentor.spec import (
    Blur,
    Channel,
    Cosine,
    CosinePower,
    Direction,
    Encoder,
    Entry,
    Feature,
    Likeness,
    Logit,
    Neuron,
    Product,
    Spatial,
    Sum,
    TargetMap,
    Term,
    Window,
    parse_feature,
)
from accentor.spec.features import ATOMS, FORMS, KINDS, MAX_FACTORS, MAX_MAP_VALUES, MAX_TERMS, MAX_VECTOR
from accentor.spec.features.fields import ENDS_IN_A_FACTOR

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
    "channel:layer3:12@2:5,1:4": Channel(layer="layer3", unit=12, at=Window(rows=(2, 5), columns=(1, 4))),
    "neuron:layer3:12@cls": Neuron(layer="layer3", unit=12, position="cls"),
    "direction:layer4:a.npy#3@7,5": Direction(layer="layer4", source="a.npy#3", at=(7, 5)),
    "direction:layer4:a@1,2.npy#3@cls": Direction(layer="layer4", source="a@1,2.npy#3", at="cls"),
    "direction:layer4:a.safetensors:W#3": Direction(layer="layer4", source="a.safetensors:W#3"),
    "cosine:layer4:a.npy#3": Cosine(layer="layer4", source="a.npy#3"),
    "cosine:layer4:a.npy#3@0:2,1:4": Cosine(layer="layer4", source="a.npy#3", at=Window(rows=(0, 2), columns=(1, 4))),
    "cosine_power:layer4:a.npy#3^2": CosinePower(layer="layer4", source="a.npy#3", power=2),
    "cosine_power:layer4:a^2.npy#3^0.5@1,2": CosinePower(layer="layer4", source="a^2.npy#3", power=0.5, at=(1, 2)),
    "spatial:layer4:a map.npy": Spatial(layer="layer4", source="a map.npy"),
    "spatial:layer4:maps.npy#3@2,1": Spatial(layer="layer4", source="maps.npy#3", offset=(2, 1)),
    "spatial:layer4:a.safetensors:m^1.5": Spatial(layer="layer4", source="a.safetensors:m", power=1.5),
    "spatial:layer4:a.npy^2/masked@0,3": Spatial(layer="layer4", source="a.npy", power=2, norm="masked", offset=(0, 3)),
    "encoder:layer4:sae#3": Encoder(layer="layer4", source="sae#3"),
    "encoder:layer4:sae.safetensors#3:post@cls": Encoder(
        layer="layer4", source="sae.safetensors#3", code="post", at="cls"
    ),
    "dictionary:my sae#3": Entry(dictionary="my sae", unit=3),
    "dictionary:C:\\sae#2.safetensors#3": Entry(dictionary="C:\\sae#2.safetensors", unit=3),
    "likeness:layer2": Likeness(layer="layer2"),
    "likeness:layer2/dot^2@1,2": Likeness(layer="layer2", measure="dot", power=2, at=(1, 2)),
    "likeness:layer2/pearson^1.5@cls": Likeness(layer="layer2", measure="pearson", power=1.5, at="cls"),
    "likeness:layer2/l1@0:1,0:2": Likeness(layer="layer2", measure="l1", at=Window(rows=(0, 1), columns=(0, 2))),
    "channel:layer4:3 * likeness:layer2^3": Product(
        factors=(Channel(layer="layer4", unit=3), Likeness(layer="layer2", power=3))
    ),
    "blur:input": Blur(),
    "logit:1 * logit:2": Product(factors=(Logit(unit=1), Logit(unit=2))),
    "logit:2 * 3 board * blur:input * logit:2": Product(factors=(Logit(unit="2 * 3 board"), Blur(), Logit(unit=2))),
    "1.0*logit:1 * logit:2": Sum(terms=(Term(weight=1, feature=Product(factors=(Logit(unit=1), Logit(unit=2)))),)),
    "-logit:1 * channel:x:1@0:1,0:2 + 0.5*logit:3": Sum(
        terms=(
            Term(
                weight=-1,
                feature=Product(
                    factors=(Logit(unit=1), Channel(layer="x", unit=1, at=Window(rows=(0, 1), columns=(0, 2))))
                ),
            ),
            Term(weight=0.5, feature=Logit(unit=3)),
        )
    ),
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
        ("logit:1  *  logit:2", "logit:1 * logit:2"),
        ("2 * logit:1 * logit:2", "2.0*logit:1 * logit:2"),
        ("cosine_power:x:a.npy#1^2.0", "cosine_power:x:a.npy#1^2"),
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
sides = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(lambda pair: (pair[0], pair[0] + pair[1]))
windows = st.builds(Window, rows=sides, columns=sides)
positions = st.tuples(units, units)
places = st.none() | positions | windows | st.just("cls")
powers = st.floats(0.0, 16.0, exclude_min=True) | st.integers(1, 16)
maps = st.builds(
    "{}{}{}".format,
    st.from_regex(r"[\w./ @^#*+-]*\w", fullmatch=True).map(str.strip),
    st.sampled_from([".npy", ".safetensors:a map", ".safetensors"]),
    st.sampled_from(["", "#0", "#17"]),
)
spatials = st.builds(Spatial, layer=layers, source=maps, offset=st.none() | positions) | st.builds(
    Spatial,
    layer=layers,
    source=maps,
    offset=st.none() | positions,
    power=powers,
    norm=st.sampled_from(["all", "masked"]),
)
names = st.from_regex(r"[\w./: @^#*+-]*\w", fullmatch=True).map(str.strip)
likenesses = st.builds(
    Likeness,
    layer=st.from_regex(r"[A-Za-z0-9_.]+", fullmatch=True),
    measure=st.sampled_from(["cosine", "pearson", "dot"]),
    power=st.none() | powers,
    at=places,
) | st.builds(Likeness, layer=st.just("x"), measure=st.sampled_from(["l1", "l2"]), at=places)
atoms = st.one_of(
    st.builds(Logit, unit=units | labels),
    st.builds(Channel, layer=layers, unit=units, at=st.none() | windows),
    st.builds(Neuron, layer=layers, unit=units, position=st.none() | positions | st.just("cls")),
    st.builds(Direction, layer=layers, source=sources, at=places),
    st.builds(Cosine, layer=layers, source=sources, at=places),
    st.builds(CosinePower, layer=layers, source=sources, at=places, power=powers),
    spatials,
    st.builds(Encoder, layer=layers, source=sources, at=places, code=st.sampled_from(["pre", "post"])),
    st.builds(Entry, dictionary=names, unit=units),
    likenesses,
    st.just(Blur()),
)
products = (
    st.lists(atoms, min_size=2, max_size=MAX_FACTORS)
    .filter(lambda factors: not any(ENDS_IN_A_FACTOR.search(str(factor)) for factor in factors[:-1]))
    .map(lambda factors: Product(factors=tuple(factors)))
)
weights = st.one_of(st.sampled_from([1.0, -1.0, 0.5, -2.0, -0.0]), st.floats(allow_nan=False, allow_infinity=False))
sums = st.lists(st.builds(Term, weight=weights, feature=atoms | products), min_size=1, max_size=5).filter(
    lambda terms: any(term.weight for term in terms)
)
features = atoms | products | sums.map(lambda terms: Sum(terms=tuple(terms)))


@settings(max_examples=300, deadline=None)
@given(features)
@example(parse_feature("logit:1 * logit:a - 0"))
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


def test_every_kind_has_a_string_form():
    assert set(KINDS) == set(ATOMS)
    written = {text.partition(":")[0] for text in FORMS_AND_FEATURES}
    assert set(KINDS) <= written
    for kind in KINDS:
        assert f"{kind}:" in FORMS


def test_what_is_not_given_is_not_in_the_json():
    """So that features that were there before places keep their identity."""
    channel, direction = Channel(layer="x", unit=1), Direction(layer="x", vector=(1.0,))
    assert channel.model_dump(mode="json") == {"kind": "channel", "layer": "x", "unit": 1}
    assert direction.model_dump(mode="json") == {"kind": "direction", "layer": "x", "vector": [1.0], "source": None}
    assert Neuron(layer="x", unit=1).model_dump(mode="json")["position"] is None
    placed = Channel(layer="x", unit=1, at="0:2,1:3").model_dump(mode="json")
    assert placed["at"] == {"rows": [0, 2], "columns": [1, 3]}


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


def test_products_are_multiplied_out():
    c = Logit(unit=3)
    a, b = str(A), str(B)
    assert Product(factors=(A, B)) == A * B
    assert weights_of(2 * A * B) == [(2, f"{a} * {b}")]
    assert weights_of(A * (2 * B)) == [(2, f"{a} * {b}")]
    assert (A * B) * c == A * (B * c) == Product(factors=(A, B, c))
    assert weights_of((A + B) * (A - 3 * c)) == [
        (1, f"{a} * {a}"),
        (-3, f"{a} * logit:3"),
        (1, f"{b} * {a}"),
        (-3, f"{b} * logit:3"),
    ]
    assert parse_feature("-0.5*logit:207 * channel:layer3:12") == -0.5 * A * B
    power = A
    for _ in range(MAX_FACTORS - 1):
        power = power * A
    assert len(power.factors) == MAX_FACTORS
    with pytest.raises(ValueError, match="8 items"):
        power * A


@pytest.mark.parametrize("factor", [Logit(unit="a - 2"), Spatial(layer="x", source="m.safetensors:n + .5e-3")])
def test_a_factor_that_reads_as_a_sum(factor):
    """`logit:a - 2 * logit:1` is a difference: as a product it would have no text."""
    with pytest.raises(ValidationError, match="reads as a sum"):
        factor * A
    assert parse_feature(str(A * factor)) == A * factor


def test_quotients_and_totals():
    assert A / 4 == 0.25 * A
    assert weights_of((A - B) / 2) == [(0.5, str(A)), (-0.5, str(B))]
    assert sum([A, B, A]) == A + B + A
    with pytest.raises(ZeroDivisionError):
        A / 0


@pytest.mark.parametrize("wrong", [lambda: A + 1, lambda: 1 + A, lambda: A * "2", lambda: A / B, lambda: A - None])
def test_senseless_algebra(wrong):
    with pytest.raises(TypeError):
        wrong()


def test_references():
    named = parse_feature("logit:1 * direction:x:a.npy#3 - dictionary:sae#2 + spatial:x:m.npy + encoder:x:s#1")
    assert named.references == ("a.npy#3", "sae#2", "m.npy", "s#1")
    by_value = 2 * A * B - Direction(layer="x", vector=(1.0,)) + Blur() + Spatial(layer="x", target=[[[1.0]]])
    assert by_value.references == ()


@pytest.mark.parametrize("factor", [math.nan, math.inf, 0.0])
def test_senseless_factors(factor):
    with pytest.raises(ValueError, match="finite number|all weights of the sum are zero"):
        A * factor


def test_a_sum_that_cancels_out_is_no_feature():
    for wrong in (
        lambda: A - A,
        lambda: parse_feature("logit:1 * logit:2 - 0.5*logit:1 * logit:2 - 0.5*logit:1 * logit:2"),
    ):
        with pytest.raises(ValueError, match="cancel out"):
            wrong()
    maps = [Spatial(layer="x", target=[[[value]]]) for value in (1.0, 2.0)]
    assert len((maps[0] - maps[1]).terms) == 2
    assert len((A + B - A).terms) == 3


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
    "channel:layer3:12@cls",
    "channel:layer3:12@2:2,0:1",
    "channel:layer3:12@3:2,0:1",
    "channel:layer3:12@0:2",
    "neuron:layer3:12@0:2,1:3",
    "direction:layer4:a.npy#3@",
    "direction:layer4:a.npy#3@1:2",
    "cosine:layer4:a.npy",
    "cosine_power:layer4:a.npy#3",
    "cosine_power:layer4:a.npy#3^0",
    "cosine_power:layer4:a.npy#3^17",
    "cosine_power:layer4:a.npy#3^1.2.3",
    "cosine_power:layer4:a.npy#3@1,2^2",
    "spatial:layer4:a.pt",
    "spatial:layer4:a.npy/masked",
    "spatial:layer4:a.npy@1:2,3:4",
    "encoder:layer4:sae",
    "encoder:layer4:sae#3:pre",
    "dictionary:sae",
    "dictionary:#3",
    "dictionary:sae#-1",
    "blur:layer4",
    "likeness:",
    "likeness:layer4:3",
    "likeness:layer4/l3",
    "likeness:layer4/l2^2",
    "likeness:layer4^0",
    "likeness:layer4#3",
    "logit:1 * 2*logit:2",
    " * ".join(["logit:1"] * (MAX_FACTORS + 1)),
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
        {"source": "a * logit:1#2"},
        {"source": " a.npy#2"},
    ],
)
def test_bad_direction(fields):
    with pytest.raises(ValidationError):
        Direction(layer="layer4", **fields)


VECTOR = {"layer": "x", "vector": (1.0, 2.0)}
BAD_ENCODERS = [
    ({"layer": "x"}, "exactly one of vector and source"),
    (VECTOR | {"source": "sae#1"}, "exactly one of vector and source"),
    (VECTOR | {"center": (1.0, 2.0, 3.0)}, "the vector has 2 values, the center 3"),
    (VECTOR | {"threshold": 0.1}, "threshold belongs to jumprelu, the activation is None"),
    (VECTOR | {"threshold": 0.1, "activation": "relu"}, "threshold belongs to jumprelu, the activation is relu"),
    (VECTOR | {"activation": "jumprelu"}, "jumprelu needs a threshold"),
    (VECTOR | {"activation": "jumprelu", "threshold": -0.1}, "greater than or equal to 0"),
    (VECTOR | {"k": 3, "activation": "relu"}, "k belongs to topk, the activation is relu"),
    (VECTOR | {"k": 0, "activation": "topk"}, "greater than or equal to 1"),
    (VECTOR | {"activation": "topk", "code": "post"}, "depends on all units"),
    (VECTOR | {"activation": "identity", "code": "post"}, "post needs an activation"),
    (VECTOR | {"code": "post"}, "post needs an activation"),
    (VECTOR | {"bias": math.nan}, "finite"),
    (VECTOR | {"center": (1.0, math.inf)}, "finite"),
    (VECTOR | {"activation": "gelu"}, "identity"),
    ({"layer": "x", "source": "sae#1", "center": (1.0,)}, "either a source or the unit's center"),
    ({"layer": "x", "source": "sae#1", "activation": "relu"}, "either a source or the unit's activation"),
    ({"layer": "x", "source": "sae#1", "bias": 1.0}, "either a source or the unit's bias"),
]


@pytest.mark.parametrize(("fields", "part"), BAD_ENCODERS)
def test_contradictory_encoders(fields, part):
    with pytest.raises(ValidationError, match=part):
        Encoder(**fields)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "exactly one of target and source"),
        ({"target": [[[1.0]]], "source": "a.npy"}, "exactly one of target and source"),
        ({"target": [[[1.0]]], "norm": "masked"}, "give a power"),
        ({"target": [[[1.0]]], "power": 0.0}, "greater than 0"),
        ({"target": [[[0.0, 0.0]]]}, "all zero"),
        ({"target": [[[1.0, math.nan]]]}, "finite"),
        ({"target": [[1.0, 2.0]]}, r"no \[C, H, W\]"),
        ({"target": [[[1.0, 2.0], [1.0]]]}, "different lengths"),
        ({"target": {"shape": [1, 1, 2], "data": "AACAPw=="}}, r"4 bytes, its shape \[1, 1, 2\] takes 8"),
        ({"target": {"shape": [1, 1, 1], "data": "AACAPx=="}}, "as base64 writes them"),
        ({"target": {"shape": [1, 1, 1], "data": "AAC AP"}}, "not base64"),
        ({"target": {"shape": [1, 1, MAX_MAP_VALUES + 1], "data": ""}}, f"at most {MAX_MAP_VALUES}"),
    ],
)
def test_bad_maps(fields, part):
    with pytest.raises(ValidationError, match=part):
        Spatial(layer="x", **fields)


def test_a_map_by_value():
    values = [[[0.5, -1.0, 2.0]], [[0.0, 1e-3, 7.0]]]
    one = TargetMap.model_validate(values)
    assert one.shape == (2, 1, 3)
    assert list(one.values()) == [0.5, -1.0, 2.0, 0.0, pytest.approx(1e-3), 7.0]
    assert one.data == "AAAAPwAAgL8AAABAAAAAAG8SgzoAAOBA"
    feature = Spatial(layer="x", target=values, offset="1,0")
    assert TypeAdapter(Feature).validate_json(feature.model_dump_json()) == feature
    assert str(feature) == "spatial:x:<2×1×3 values>@1,0"


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
