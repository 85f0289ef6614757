"""Figures: which axes, and what is drawn on them."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tests.engine.results import made_result, smooth

from accentor.engine import figure_grid
from accentor.errors import InvalidRequestError
from accentor.spec import Channel, Logit


def drawn(axes):
    return np.asarray(axes.images[0].get_array())


def test_figure_shows_the_pictures_as_they_are():
    result = made_result()
    axes = result.figure().axes
    assert [one.get_title() for one in axes[:4]] == ["seed", "accentuated", "overlay", "opacity"]
    pictures = (result.seed_image, result.image, result.what, result.opacity_image)
    for one, picture in zip(axes[:4], pictures, strict=True):
        np.testing.assert_array_equal(drawn(one), np.asarray(picture))
    assert axes[3].images[0].get_clim() == (0, 255)
    assert axes[3].images[0].get_cmap().name == "gray"
    assert len(axes) == 6


def test_figure_draws_value_and_distance():
    result = made_result(stopped_at=3)
    value, distance = result.figure().axes[4:]
    assert value.lines[0].get_xydata().tolist() == [[0, 1.5], [2, 2.25], [4, 4]]
    assert distance.lines[0].get_xydata().tolist() == [[0, 0], [2, 0.5], [4, 0.75]]
    assert list(value.lines[1].get_xdata()) == [3, 3]
    assert (value.get_xlabel(), value.get_ylabel(), distance.get_ylabel()) == ("step", "value", "distance to the seed")


def test_trajectory_on_given_axes():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert made_result().plot_trajectory(axes) is axes
    assert len(axes.lines) == 1
    assert made_result().plot_trajectory().lines[0].get_xydata()[-1].tolist() == [4, 4]


def test_labels_are_text_and_not_formulas():
    figure = made_result(feature=Logit(unit=r"cost $\frac{1$ of ä")).figure()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert r"cost $\frac{1$ of ä" in figure.get_suptitle()
    figure_grid([made_result(feature=Logit(unit=r"$\frac{1$"))]).savefig(io.BytesIO(), format="png")


def test_a_notebook_shows_a_figure_without_pyplot():
    with Image.open(io.BytesIO(made_result().figure()._repr_png_())) as picture:
        assert picture.width > picture.height > 100
    code = (
        "import sys; from accentor.engine import figure_grid; from tests.engine.results import made_result;"
        "made_result().figure()._repr_png_(); figure_grid([made_result()]); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_grid_of_features_and_images():
    one, two = smooth(5), smooth(6)
    ash, unit = Logit(unit="ash"), Channel(layer="late", unit=3)
    results = [
        made_result(feature=ash, source=one, pixels=smooth(7)),
        made_result(feature=unit, source=two, pixels=smooth(8)),
        made_result(feature=ash, source=two, pixels=smooth(9)),
    ]
    axes = np.array(figure_grid(results, view="accentuated").axes).reshape(3, 2)
    for column, result in enumerate((results[0], results[1])):
        np.testing.assert_array_equal(drawn(axes[0, column]), np.asarray(result.seed_image))
    for place, result in (((1, 0), results[0]), ((1, 1), results[2]), ((2, 1), results[1])):
        np.testing.assert_array_equal(drawn(axes[place]), np.asarray(result.image))
        assert axes[place].get_title() == "1.5 → 4"
    assert not axes[2, 0].images
    assert [row[0].texts[0].get_text() for row in axes] == ["seed", "logit:ash", "channel:late:3"]


def test_results_of_one_feature_and_image_stand_side_by_side():
    results = [made_result(), made_result(pixels=smooth(9), seed=4), made_result(feature=Logit(unit=1))]
    axes = np.array(figure_grid(results, view="difference").axes).reshape(3, 2)
    np.testing.assert_array_equal(drawn(axes[1, 1]), np.asarray(results[1].difference(4.0)))
    np.testing.assert_array_equal(drawn(axes[2, 0]), np.asarray(results[2].difference(4.0)))
    np.testing.assert_array_equal(drawn(axes[0, 1]), np.asarray(results[1].seed_image))
    assert not axes[2, 1].images


def test_grid_of_strengths():
    result = made_result(swept=True)
    axes = np.array(figure_grid([result, result], columns="strengths").axes).reshape(2, 3)
    for column, picture in enumerate(result.sweep_images):
        np.testing.assert_array_equal(drawn(axes[1, column]), np.asarray(picture))
    assert [one.get_title() for one in axes[0]] == ["-0.5: 0.5", "0: 1.5", "1: 4"]


def test_wrong_grids():
    with pytest.raises(InvalidRequestError, match="no results"):
        figure_grid([])
    with pytest.raises(InvalidRequestError, match=r"strengths \[\]: expected \[-0.5, 0.0, 1.0\]"):
        figure_grid([made_result(swept=True), made_result()], columns="strengths")
    with pytest.raises(InvalidRequestError, match="expected some"):
        figure_grid([made_result()], columns="strengths")
    with pytest.raises(InvalidRequestError, match="'seeds': expected images or strengths"):
        figure_grid([made_result()], columns="seeds")
