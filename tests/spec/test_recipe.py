"""Recipes: presets, bounds, and errors that name what is wrong."""

import math

import pytest

from accentor.errors import InvalidRecipeError
from accentor.spec import PRESETS, Recipe, resolve_recipe
from accentor.spec.recipe import MAX_STEPS


def test_presets():
    assert set(PRESETS) == {"natural", "fast", "paper"}
    assert PRESETS["natural"] == Recipe()
    for name, recipe in PRESETS.items():
        assert resolve_recipe(name) is recipe
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_the_papers_settings():
    paper = PRESETS["paper"]
    assert (paper.parameterization, paper.steps, paper.learning_rate) == ("phase", 100, 0.05)
    assert (paper.crops, paper.crop_size, paper.regularization) == (16, (0.05, 0.99), 1.0)
    assert (paper.noise_std, paper.noise_range) == (0.02, 0.01)


def test_settings_that_differ_from_natural():
    assert resolve_recipe({"steps": 7, "crop_size": [0.2, 0.2]}) == Recipe(steps=7, crop_size=(0.2, 0.2))
    assert resolve_recipe({}) == PRESETS["natural"]
    recipe = Recipe(steps=3)
    assert resolve_recipe(recipe) is recipe


@pytest.mark.parametrize("value", ["paperr", "", "Natural"])
def test_unknown_preset(value):
    with pytest.raises(InvalidRecipeError, match="natural, fast, paper"):
        resolve_recipe(value)


@pytest.mark.parametrize("value", [None, 3, ["natural"]])
def test_wrong_type(value):
    with pytest.raises(InvalidRecipeError, match=type(value).__name__):
        resolve_recipe(value)


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "steps": [1, MAX_STEPS],
        "learning_rate": [1e-9, 10.0],
        "crops": [1, 256],
        "noise_std": [0.0, 1.0],
        "noise_range": [0.0, 1.0],
        "noise_color": [0.0, 1.0],
        "border": [0.0, 1.5],
        "size": [16, 2048, None],
        "decay": [0.0, 4.0],
        "regularization": [0.0, 1000.0],
        "snapshots": [0, 64],
        "opacity_percentile": [0.1, 100.0],
        "opacity_blur": [0.0, 64.0],
        "crop_size": [(1e-9, 1.0), (0.5, 0.5)],
        "regularization_layer": [None, "x" * 256],
    }.items(),
)
def test_the_bounds_themselves_are_taken(field, values):
    for value in values:
        assert getattr(resolve_recipe({field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "steps": [0, -1, 10**9, MAX_STEPS + 1, 1.5, math.nan, "many", None],
        "learning_rate": [0, -0.1, 10.1, math.nan, math.inf],
        "crops": [0, 257],
        "noise_std": [-0.01, 1.01, math.nan, math.inf],
        "noise_range": [-0.01, 1.01, math.nan],
        "noise_color": [-0.01, 1.01, math.nan],
        "border": [-0.01, 1.51, math.nan],
        "size": [0, 15, 2049, math.nan],
        "decay": [-0.1, 4.1, math.nan],
        "regularization": [-0.1, 1000.1, math.nan, math.inf],
        "snapshots": [-1, 65],
        "opacity_percentile": [0.0, 100.1, math.nan],
        "opacity_blur": [-1.0, 64.1, math.nan],
        "crop_size": [(0.9, 0.1), (0.0, 0.5), (0.5, 1.1), (0.1,), (math.nan, 0.5), (0.5, math.nan), 0.5],
        "parameterization": ["fft", ""],
        "regularization_layer": ["x" * 257],
        "stepps": [1],
    }.items(),
)
def test_out_of_bounds(field, values):
    for value in values:
        with pytest.raises(InvalidRecipeError) as caught:
            resolve_recipe({field: value})
        assert field in caught.value.detail, value


def test_every_fault_is_named():
    with pytest.raises(InvalidRecipeError) as caught:
        resolve_recipe({"steps": 0, "crops": 0, "colour": "red"})
    for part in ("steps = 0", "crops = 0", "colour = 'red'"):
        assert part in caught.value.detail
