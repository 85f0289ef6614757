"""Jobs, their content keys, and batches decoded job by job."""

import math
import time

import pytest
from pydantic import ValidationError

from accentor.errors import InvalidFeatureError, InvalidRequestError, UnknownLayerError
from accentor.spec import PRESETS, BatchSpec, Channel, JobSpec, Logit, Recipe, canonical_json, parse_feature
from accentor.spec.jobs import MAX_SEED

IMAGES = tuple(f"{i:064x}" for i in range(3))
JOB = {"model": "small", "feature": "logit:1", "image": IMAGES[0]}


def job(**changes):
    return JobSpec.model_validate(JOB | changes)


def batch(**fields):
    return BatchSpec.model_validate({"model": "small"} | fields)


# --- identity ----------------------------------------------------------------------------------------------------


def test_key_is_pinned(card):
    """A change here orphans every stored result: raise ENGINE_VERSION on purpose or mend the code."""
    recipe = {
        "parameterization": "pixel",
        "start": "seed",
        "decay": 0.5,
        "steps": 61,
        "learning_rate": 0.1,
        "schedule": "cosine",
        "crops": 8,
        "augmentation": "jitter",
        "crop_size": [0.1, 0.9],
        "noise_std": 0.01,
        "noise_range": 0.0,
        "noise_at": "input",
        "regularization": 1,
        "regularizer": "cosine",
        "ball": 0.25,
        "stop_at": None,
        "strengths": [1, 0.5, -1],
        "redirected_relu": True,
        "precision": "float32",
        "snapshots": 3,
        "opacity_percentile": 90.0,
        "opacity_blur": 1e-05,
        "opacity_every": 2,
        "opacity_feature": "logit:ash",
    }
    assert set(Recipe.model_fields) == {*recipe, "size", "regularization_layer", "border", "noise_color"}
    assert job(feature="2*channel:stem:3 - logit:ash", seed=7, recipe=recipe).key(card) == (
        "a7e41b91f303d0b683b2010ffed71c5df8e0b69fc00ae3c200ae0d1b62986f4a"
    )


@pytest.mark.parametrize(
    "same",
    [
        {"feature": "logit:golden retriever"},
        {"feature": "logit:GOLDEN RETRIEVER"},
        {"feature": {"kind": "logit", "unit": 1}},
        {"recipe": "natural"},
        {"recipe": {}},
        {"recipe": {"steps": Recipe().steps}},
        {"recipe": {"size": 256}},
        {"recipe": {"regularization_layer": "stem"}},
        {"recipe": {"noise_std": 0, "crop_size": list(Recipe().crop_size)}},
        {"seed": 0},
        {"custom_id": "mine"},
        {"metadata": {"who": "me"}},
        {"model": "other-name"},
    ],
)
def test_same_key(card, same):
    assert job(**same).key(card) == job().key(card)


def test_key_differs_for_every_field(card):
    others = [
        {"feature": "logit:0"},
        {"feature": "-logit:1"},
        {"feature": "channel:head:1"},
        {"feature": "neuron:stem:1"},
        {"feature": "channel:stem:1"},
        {"feature": "logit:1 + logit:0"},
        {"image": IMAGES[1]},
        {"seed": 1},
        *(
            {"recipe": {name: value, **({"regularization": 0} if name == "start" else {})}}
            for name, value in {
                "parameterization": "pixel",
                "start": "noise",
                "decay": 0.5,
                "steps": 61,
                "learning_rate": 0.06,
                "schedule": "linear",
                "crops": 17,
                "augmentation": "centered",
                "crop_size": (0.05, 0.98),
                "noise_std": 0.03,
                "noise_range": 0.02,
                "noise_at": "input",
                "noise_color": 0.1,
                "border": 0.25,
                "size": 255,
                "regularization": 0.55,
                "regularizer": "l1",
                "regularization_layer": "head",
                "ball": 0.1,
                "stop_at": 3.0,
                "strengths": (0.5,),
                "redirected_relu": True,
                "precision": "float32",
                "snapshots": 7,
                "opacity_percentile": 81.0,
                "opacity_blur": 1.0,
                "opacity_every": 2,
                "opacity_feature": "logit:0",
            }.items()
        ),
    ]
    assert len({name for other in others for name in other.get("recipe", {})}) == len(Recipe.model_fields)
    keys = [job().key(card), *(job(**other).key(card) for other in others)]
    keys.append(job().key(card.model_copy(update={"digest": "cd" * 32})))
    assert len(set(keys)) == len(others) + 2


def test_key_differs_for_another_engine(card, monkeypatch):
    before = job().key(card)
    monkeypatch.setattr("accentor.spec.jobs.ENGINE_VERSION", 99)
    assert job().key(card) != before


def test_key_survives_json(card):
    one = job(feature="0.1*channel:stem:3 - 1e-05*logit:ash", recipe={"noise_std": 0.1}, metadata={"é": "☃"})
    again = JobSpec.model_validate_json(one.model_dump_json())
    assert again == one
    assert again.key(card) == one.key(card)


def test_key_of_what_the_model_does_not_have(card):
    with pytest.raises(InvalidFeatureError, match="nearest labels"):
        job(feature="logit:oak").key(card)


def test_canonical_json():
    assert canonical_json({"b": [1, 2.5, None], "a": "é☃", "B": {"y": True, "x": ()}}) == (
        '{"B":{"x":[],"y":true},"a":"é☃","b":[1,2.5,null]}'.encode()
    )
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    for value in (math.nan, math.inf, {"x": [-math.inf]}):
        with pytest.raises(ValueError, match="JSON compliant"):
            canonical_json(value)


# --- one job -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"image": "dog.jpg"}, "image"),
        ({"image": IMAGES[0].upper().replace("0", "A")}, "image"),
        ({"image": IMAGES[0] + "\n"}, "image"),
        ({"seed": -1}, "seed"),
        ({"seed": MAX_SEED + 1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"feature": "207"}, "feature"),
        ({"recipe": "best"}, "recipe"),
        ({"recipe": {"steps": 0}}, "recipe"),
        ({"model": ""}, "model"),
        ({"model": "a b"}, "model"),
        ({"custom_id": ""}, "custom_id"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_job(wrong, where):
    with pytest.raises(ValidationError) as caught:
        job(**wrong)
    assert {error["loc"][0] for error in caught.value.errors()} == {where}


def test_largest_seed_is_the_largest_that_differs():
    """PyTorch's CPU generator takes the lower 32 bits of a seed."""
    assert job(seed=MAX_SEED).seed == 2**32 - 1


# --- batches -----------------------------------------------------------------------------------------------------


def test_product(card):
    jobs = batch(
        features=["logit:0", "-channel:stem:2"], images=IMAGES, seeds=2, recipe="fast", metadata={"a": "b"}
    ).expand(card)
    expected = [
        (feature, image, seed) for feature in ("logit:0", "-channel:stem:2") for image in IMAGES for seed in (0, 1)
    ]
    assert len(jobs) == 12
    assert [(str(one.feature), one.image, one.seed) for one in jobs] == expected
    assert jobs[7] == job(feature="-channel:stem:2", image=IMAGES[0], seed=1, recipe="fast", metadata={"a": "b"})
    assert [one.seed for one in jobs[3:6]] == [1, 0, 1]
    assert jobs[2:4] == [jobs[2], jobs[3]]


def test_zip(card):
    features = ["logit:0", "logit:1", "logit:2"]
    jobs = batch(features=features, images=IMAGES, pairing="zip", seeds=3).expand(card)
    expected = [(f, i, s) for f, i in zip(features, IMAGES, strict=True) for s in range(3)]
    assert len(jobs) == 9
    assert [(str(one.feature), one.image, one.seed) for one in jobs] == expected


def test_zip_of_unequal_lists(card):
    with pytest.raises(InvalidRequestError, match="2 features, 3 images"):
        batch(features=["logit:0", "logit:1"], images=IMAGES, pairing="zip").expand(card)


def test_all_channels_of_a_layer(card):
    jobs = batch(features={"layer": "blocks.1"}, images=IMAGES[:2]).expand(card)
    assert len(jobs) == 24
    assert jobs[0].feature == jobs[1].feature == Channel(layer="blocks.1", unit=0)
    assert jobs[23].feature == Channel(layer="blocks.1", unit=11)
    assert (jobs[22].image, jobs[23].image) == IMAGES[:2]
    assert len(batch(features={"layer": "stem"}, images=IMAGES[:1]).expand(card)) == 6


def test_unknown_layer(card):
    with pytest.raises(UnknownLayerError, match="stem"):
        batch(features={"layer": "sten"}, images=IMAGES).expand(card)


def test_explicit_jobs(card):
    jobs = batch(
        jobs=[
            {"feature": "logit:0", "image": IMAGES[0], "custom_id": "x"},
            {"feature": "logit:ash", "image": IMAGES[1], "seed": 9, "recipe": {"steps": 3}},
        ],
        recipe="fast",
        metadata={"k": "v"},
    ).expand(card)
    assert len(jobs) == 2
    assert jobs[0] == job(feature="logit:0", recipe="fast", custom_id="x", metadata={"k": "v"})
    assert jobs[1].recipe == Recipe(steps=3)
    assert jobs[1].seed == 9
    assert jobs.images == set(IMAGES[:2])
    assert list(jobs.features) == [Logit(unit=0), Logit(unit="ash")]
    assert jobs.recipes == {PRESETS["fast"], Recipe(steps=3)}


def test_what_a_batch_needs(card):
    jobs = batch(features=["logit:0", "logit:1"], images=IMAGES, seeds=2).expand(card)
    assert list(jobs.features) == [parse_feature("logit:0"), parse_feature("logit:1")]
    assert jobs.images == set(IMAGES)
    assert jobs.recipes == {Recipe()}
    assert list(batch(features={"layer": "stem"}, images=IMAGES).expand(card).features) == []


@pytest.mark.parametrize("index", [-1, 6, 10**12])
def test_no_such_job(card, index):
    jobs = batch(features=["logit:0", "logit:1"], images=IMAGES).expand(card)
    with pytest.raises(IndexError, match="jobs 0 to 5"):
        jobs[index]


def test_a_million_jobs_are_not_listed(card):
    jobs = batch(features=[f"channel:stem:{i}" for i in range(1000)], images=[f"{i:064x}" for i in range(1000)])
    started = time.process_time()
    jobs = jobs.expand(card)
    assert len(jobs) == 10**6
    assert jobs[654_321].feature == Channel(layer="stem", unit=654)
    assert jobs[654_321].image == f"{321:064x}"
    assert time.process_time() - started < 0.5


def test_batch_survives_json():
    one = batch(features=["logit:0 - 0.5*logit:ash"], images=IMAGES, seeds=2, pairing="zip", recipe={"steps": 3})
    assert BatchSpec.model_validate_json(one.model_dump_json()) == one
    layer = batch(features={"layer": "stem"}, images=IMAGES)
    assert BatchSpec.model_validate_json(layer.model_dump_json()) == layer


EXPLICIT = [{"feature": "logit:0", "image": IMAGES[0], "custom_id": name} for name in ("a", "b", "a", None, None)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give features and images, or jobs"),
        ({"features": ["logit:0"]}, "give features and images, or jobs"),
        ({"images": IMAGES}, "give features and images, or jobs"),
        ({"features": ["logit:0"], "images": IMAGES, "jobs": EXPLICIT[:1]}, "not both"),
        ({"images": IMAGES, "jobs": EXPLICIT[:1]}, "not both"),
        ({"seeds": 2, "jobs": EXPLICIT[:1]}, "pairing and seeds go with features"),
        ({"pairing": "zip", "jobs": EXPLICIT[:1]}, "pairing and seeds go with features"),
        ({"jobs": EXPLICIT}, r"more than once: \['a'\]"),
        ({"jobs": []}, "at least 1"),
        ({"features": [], "images": IMAGES}, "at least 1"),
        ({"features": ["logit:0"], "images": []}, "at least 1"),
        ({"features": ["logit:0"], "images": IMAGES, "seeds": 0}, "greater than or equal to 1"),
        ({"features": ["logit:0"], "images": IMAGES, "seeds": 65}, "less than or equal to 64"),
        ({"features": ["logit:0"], "images": IMAGES, "pairing": "all"}, "'product' or 'zip'"),
        ({"features": ["logit:0"], "images": IMAGES, "lane": "fast"}, "'interactive' or 'bulk'"),
        ({"features": ["lojit:0"], "images": IMAGES}, "is no feature"),
        ({"features": ["logit:0"], "images": ["x"]}, "pattern"),
        ({"features": ["logit:0"], "images": IMAGES, "recipe": "best"}, "no preset"),
    ],
)
def test_bad_batch(fields, message):
    with pytest.raises(ValidationError, match=message):
        batch(**fields)


def test_the_same_custom_id_many_times_is_refused_at_once():
    jobs = [EXPLICIT[0]] * 20_000
    started = time.process_time()
    with pytest.raises(ValidationError, match="more than once"):
        batch(jobs=jobs)
    assert time.process_time() - started < 5
