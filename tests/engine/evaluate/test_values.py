"""Values of features on natural images, their quantiles, and the strongest."""

import pytest
import torch
from PIL import Image

from accentor.engine import Model
from accentor.engine.accentuation import to_picture
from accentor.engine.evaluate import activation_quantile, feature_values, most_exciting, values_over
from accentor.engine.evaluate.values import BATCH
from accentor.errors import InvalidImageError, InvalidRequestError, UnitOutOfRangeError
from accentor.spec import parse_feature


class Brightness(torch.nn.Module):
    """Logit k is the mean of channel k."""

    def __init__(self, channels=3):
        super().__init__()
        self.colors = torch.nn.Conv2d(channels, channels, 1, bias=False)
        self.colors.weight.data = torch.eye(channels)[:, :, None, None]

    def forward(self, x):
        return self.colors(x).mean(dim=(2, 3))


@pytest.fixture
def brightness() -> Model:
    return Model(Brightness(), input_size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), regularization_layer="colors")


def flat(*levels, side=8):
    return torch.tensor(levels)[:, None, None, None].expand(len(levels), 3, side, side)


def test_values_by_hand(brightness):
    levels = [i / 100 for i in range(BATCH + 5)]
    features = [parse_feature("logit:0" if i % 3 else "-logit:1") for i in range(len(levels))]
    expected = torch.tensor([level if i % 3 else -level for i, level in enumerate(levels)])
    torch.testing.assert_close(feature_values(brightness, features, flat(*levels)), expected)


def test_quantiles(brightness):
    pool = flat(*torch.linspace(0, 1, 101)[torch.randperm(101, generator=torch.Generator().manual_seed(0))].tolist())
    assert activation_quantile(brightness, "logit:0", pool, 0.9) == pytest.approx(0.9, abs=1e-6)
    assert activation_quantile(brightness, "logit:0", pool, 0.905) == pytest.approx(0.905, abs=1e-6)
    assert activation_quantile(brightness, "logit:0", pool) == pytest.approx(0.999, abs=1e-6)
    assert activation_quantile(brightness, "-logit:0", pool, 1.0) == 0.0
    assert activation_quantile(brightness, "logit:0", pool, 0.0) == 0.0


def test_images_of_any_kind_and_size(brightness, tmp_path):
    grey = Image.new("RGB", (40, 20), (51, 51, 51))
    grey.save(tmp_path / "grey.png")
    given = [tmp_path / "grey.png", to_picture(flat(0.8)[0]), torch.full((3, 30, 9), 0.4)]
    torch.testing.assert_close(values_over(brightness, "logit:2", given), torch.tensor([0.2, 0.8, 0.4]))
    assert activation_quantile(brightness, "logit:2", given, 0.5) == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_model_of_another_number_of_channels(channels, tmp_path):
    settings = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "regularization_layer": "colors"}
    model = Model(Brightness(channels), input_size=8, **settings)
    last = f"logit:{channels - 1}"
    given = [torch.full((channels, 30, 9), level) for level in (0.2, 0.8, 0.4)]
    torch.testing.assert_close(values_over(model, last, given), torch.tensor([0.2, 0.8, 0.4]))
    assert most_exciting(model, last, given, 2) == (1, 2)
    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(picture)
    if channels == 1:
        assert values_over(model, last, [picture]).item() == pytest.approx(0.299, abs=1e-4)
    else:
        with pytest.raises(InvalidImageError, match=f"images of {channels} channels"):
            values_over(model, last, [picture])


def test_a_generator_is_enough(brightness):
    assert activation_quantile(brightness, "logit:0", (torch.full((3, 9, 9), i / 10) for i in range(11)), 0.5) == (
        pytest.approx(0.5, abs=1e-6)
    )


def test_most_exciting(brightness):
    assert most_exciting(brightness, "logit:0", flat(0.3, 0.9, 0.1, 0.9, 0.5), 3) == (1, 3, 4)
    assert most_exciting(brightness, "-logit:0", flat(0.3, 0.9, 0.1), 9) == (2, 0, 1)


def test_refusals(brightness):
    with pytest.raises(InvalidRequestError, match="q is 99"):
        activation_quantile(brightness, "logit:0", flat(0.5), 99)
    for none in (flat(0.5)[:0], []):
        with pytest.raises(InvalidRequestError, match="no images"):
            activation_quantile(brightness, "logit:0", none)
    with pytest.raises(InvalidRequestError, match="1 features and 2 images"):
        feature_values(brightness, [parse_feature("logit:0")], flat(0.5, 0.5))
    with pytest.raises(UnitOutOfRangeError):
        activation_quantile(brightness, "logit:3", flat(0.5))
