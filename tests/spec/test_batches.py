"""Batches in short form: ranges, dictionaries, datasets, patterns for custom_id, and lines in blocks."""

import json

import pytest
from pydantic import ValidationError

from accentor.errors import (
    DuplicateIdError,
    InvalidRequestError,
    UnitOutOfRangeError,
    UnknownDatasetError,
    UnknownDictionaryError,
)
from accentor.spec import (
    ENGINE_VERSION,
    BatchLine,
    BatchSpec,
    Channel,
    JobSpec,
    KeyMaker,
    LineJobs,
    LinesBatch,
    Logit,
    Recipe,
    canonical_json,
    sha256_hex,
)

IMAGES = tuple(f"{i:064x}" for i in range(3))


class Shelf:
    """A catalog with one dictionary and one dataset."""

    def features(self, dictionary, model):
        if dictionary != "sae":
            raise UnknownDictionaryError(f"there is no dictionary {dictionary!r}: there are sae")
        return [Channel(layer="stem", unit=unit) for unit in (5, 4, 3, 2)]

    def images(self, dataset):
        if dataset != "dogs":
            raise UnknownDatasetError(f"there is no dataset {dataset!r}")
        return IMAGES[:2]


def batch(**fields):
    return BatchSpec.model_validate({"model": "small", "images": IMAGES[:1]} | fields)


def units(jobs):
    return [one.feature.unit for one in jobs]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({}, list(range(12))),
        ({"range": "3:6"}, [3, 4, 5]),
        ({"range": ":2"}, [0, 1]),
        ({"range": "10:"}, [10, 11]),
        ({"range": "1:12", "stride": 4}, [1, 5, 9]),
        ({"stride": 100}, [0]),
    ],
)
def test_a_range_of_a_layer(card, source, expected):
    assert units(batch(features={"layer": "blocks.1", **source}).expand(card)) == expected


def test_ranges_out_of_bounds(card):
    with pytest.raises(UnitOutOfRangeError, match=r"blocks.1 of small has units 0 to 11; the range 0:13 was asked for"):
        batch(features={"layer": "blocks.1", "range": "0:13"}).expand(card)
    with pytest.raises(InvalidRequestError, match="the range 5:5 of blocks.1 of small is empty"):
        batch(features={"layer": "blocks.1", "range": "5:5"}).expand(card)
    for wrong in ("5", "a:b", "-1:3", "1:2:3", "1 : 2", "1:99999999999"):
        with pytest.raises(ValidationError, match="range"):
            batch(features={"layer": "blocks.1", "range": wrong})


def test_a_dictionary_and_a_dataset_by_name(card):
    spec = batch(features={"dictionary": "sae", "range": "0:3", "stride": 2}, images={"dataset": "dogs"})
    jobs = spec.expand(card, Shelf())
    assert [(one.feature.unit, one.image) for one in jobs] == [(u, i) for u in (5, 3) for i in IMAGES[:2]]
    assert BatchSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(UnitOutOfRangeError, match="the dictionary sae has units 0 to 3; the range 0:512"):
        batch(features={"dictionary": "sae", "range": "0:512"}).expand(card, Shelf())


def test_what_the_catalog_does_not_have(card):
    with pytest.raises(UnknownDictionaryError, match="'clip'"):
        batch(features={"dictionary": "clip"}).expand(card, Shelf())
    with pytest.raises(UnknownDictionaryError, match="this service has none"):
        batch(features={"dictionary": "sae"}).expand(card)
    with pytest.raises(UnknownDatasetError, match="this service has none"):
        batch(features=["logit:0"], images={"dataset": "dogs"}).expand(card)


def test_top_k_needs_a_scan(card):
    with pytest.raises(InvalidRequestError, match="by the 8 images .* needs the images of a dataset"):
        batch(features={"layer": "stem"}, pairing={"top_k": 8}).expand(card)
    for wrong in ({"top_k": 0}, {"top_k": 1_001}, {"top": 1}):
        with pytest.raises(ValidationError):
            batch(features={"layer": "stem"}, pairing=wrong)


def test_the_faults_of_a_source_are_those_of_its_own_form():
    with pytest.raises(ValidationError) as caught:
        batch(features={"dictionary": "sae", "rnge": "0:1"})
    assert [error["loc"][-1] for error in caught.value.errors()] == ["rnge"]


# --- custom_id ---------------------------------------------------------------------------------------------------


def test_a_pattern_names_the_jobs_of_a_product(card):
    jobs = batch(
        features=["logit:0", "-channel:stem:2"],
        images=IMAGES,
        seeds=2,
        custom_id="{feature}|{image:.62}|{seed}|{index}",
    ).expand(card)
    assert jobs[7].custom_id == f"-channel:stem:2|{IMAGES[0][:62]}|1|7"
    assert jobs[0].custom_id == f"logit:0|{IMAGES[0][:62]}|0|0"
    assert len({one.custom_id for one in jobs}) == 12


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{layer}", r"the placeholder \{layer\}: there are \{feature\}, \{image\}, \{seed\}, \{index\}"),
        ("{}", "placeholder"),
        ("{0}", "placeholder"),
        ("{feature.terms_of}", "placeholder"),
        ("{image[0]}", "placeholder"),
        ("{image!r}", "'!'"),
        ("{image:>900000}", "a length, may follow"),
        ("{image", "cannot be read"),
    ],
)
def test_patterns_that_cannot_be_filled(pattern, said):
    with pytest.raises(ValidationError, match=said):
        batch(features=["logit:0"], custom_id=pattern)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"custom_id": "{image}"}, "differ by feature;"),
        ({"custom_id": "{feature}", "images": IMAGES}, "differ by image;"),
        ({"custom_id": "{feature}-{image:.8}", "images": IMAGES}, "differ by image;"),
        ({"custom_id": "{feature}", "seeds": 2}, "differ by seed;"),
        ({"custom_id": "same"}, "differ by feature;"),
    ],
)
def test_patterns_under_which_jobs_are_called_the_same(card, fields, said):
    with pytest.raises(DuplicateIdError, match=said):
        batch(features=["logit:0", "logit:1"], **fields).expand(card)


def test_a_pattern_that_gives_too_long_names(card):
    with pytest.raises(InvalidRequestError, match="up to 2[0-9][0-9] characters, at most 200"):
        batch(features=["logit:0"], custom_id="{feature}" + "{image}" * 3).expand(card)


def test_an_index_tells_every_job_apart(card):
    jobs = batch(features=["logit:0", "logit:0"], images=IMAGES, custom_id="mine-{index}").expand(card)
    assert [one.custom_id for one in jobs] == [f"mine-{i}" for i in range(6)]


def test_a_zip_needs_only_distinct_pairs(card):
    jobs = batch(
        features=["logit:0", "logit:0"], images=IMAGES[:2], pairing="zip", custom_id="{feature}-{image}"
    ).expand(card)
    assert len({one.custom_id for one in jobs}) == 2
    with pytest.raises(DuplicateIdError, match="differ by feature"):
        batch(features=["logit:0", "logit:0"], images=IMAGES[:2], pairing="zip", custom_id="{feature}").expand(card)


def test_a_pattern_goes_with_a_product():
    with pytest.raises(ValidationError, match="goes with features and images"):
        BatchSpec(model="small", jobs=[{"feature": "logit:0", "image": IMAGES[0]}], custom_id="{index}")


# --- lines -------------------------------------------------------------------------------------------------------


def lines_of(total, block):
    lines = [
        json.dumps({"feature": f"logit:{i % 5}", "image": IMAGES[i % 3], "custom_id": f"n{i}"}).encode()
        for i in range(total)
    ]
    lines[3] = json.dumps({"feature": "logit:0", "image": IMAGES[0], "seed": 0, "recipe": {"steps": 3}}).encode()
    return [lines[start : start + block] for start in range(0, total, block)]


def test_lines_are_decoded_from_their_blocks():
    blocks, read = lines_of(11, 4), []

    def read_block(number):
        read.append(number)
        return blocks[number]

    spec = LinesBatch(model="small", total=11, block_jobs=4, seed=7, recipe="fast", metadata={"k": "v"})
    jobs = LineJobs(spec, read_block)
    assert len(jobs) == 11
    assert jobs[9] == JobSpec(
        model="small", feature="logit:4", image=IMAGES[0], seed=7, recipe="fast", custom_id="n9", metadata={"k": "v"}
    )
    assert read == [2]
    assert (jobs[3].seed, jobs[3].recipe) == (0, Recipe(steps=3))
    assert [one.custom_id for one in jobs[4:6]] == ["n4", "n5"]
    assert read == [2, 0, 1]
    assert [json.loads(line)["feature"] for line in jobs.lines()] == [str(one.feature) for one in jobs]
    with pytest.raises(IndexError, match="jobs 0 to 10"):
        jobs[11]


def test_a_line_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="colour"):
        BatchLine.model_validate({"feature": "logit:0", "image": IMAGES[0], "colour": "red"})


# --- content keys ------------------------------------------------------------------------------------------------


def test_keys_made_together_are_those_made_alone(card):
    made = KeyMaker(card)
    specs = [
        JobSpec(model="small", feature=feature, image=IMAGES[seed % 3], seed=seed, recipe=recipe)
        for feature in ("logit:ash", "2*channel:stem:3 - logit:1", "neuron:stem:1")
        for recipe in ("fast", {"opacity_feature": "logit:ash"}, {"regularization_layer": ["stem", "head"]})
        for seed in range(3)
    ]
    keys = [made.key(spec) for spec in specs]
    assert keys == [spec.key(card) for spec in specs]
    assert len(set(keys)) == len(specs)


def test_a_key_is_the_digest_of_the_canonical_json(card):
    spec = JobSpec(model="small", feature="logit:ash", image=IMAGES[1], seed=3, recipe={"opacity_feature": "logit:ash"})
    identity = {
        "engine": ENGINE_VERSION,
        "model": card.digest,
        "feature": Logit(unit=0).model_dump(mode="json"),
        "image": IMAGES[1],
        "seed": 3,
        "recipe": Recipe(size=256, regularization_layer=("stem",), opacity_feature=Logit(unit=0)).model_dump(
            mode="json"
        ),
    }
    assert spec.key(card) == sha256_hex(canonical_json(identity))


def test_equal_features_that_are_written_differently_keep_their_own_keys(card):
    """0.0 == -0.0, and they are not the same JSON: a key must not depend on what was asked before."""
    plus, minus = (
        JobSpec(
            model="small", feature={"kind": "direction", "layer": "head", "vector": [1, zero, 0, 0, 0]}, image=IMAGES[0]
        )
        for zero in (0.0, -0.0)
    )
    assert plus.feature == minus.feature
    made = KeyMaker(card)
    assert [made.key(plus), made.key(minus)] == [plus.key(card), minus.key(card)]


def test_the_work_of_a_batch(card):
    assert (
        batch(features=["logit:0", "logit:1"], seeds=3, recipe={"steps": 10, "crops": 4}).expand(card).steps_and_crops
        == 240
    )
    jobs = [
        {"feature": "logit:0", "image": IMAGES[0], "recipe": {"steps": 1, "crops": 2}},
        {"feature": "logit:0", "image": IMAGES[0]},
    ]
    spec = BatchSpec.model_validate({"model": "small", "jobs": jobs, "recipe": {"steps": 5, "crops": 5}})
    assert spec.expand(card).steps_and_crops == 27
