"""Transfer to another network, by hand on one whose logits are known."""

import math

import pytest
import torch
from tests.engine.evaluate.test_values import Brightness, flat

from accentor.engine import Model
from accentor.engine.evaluate import log_probabilities, transfer
from accentor.errors import InvalidRequestError


class Loud(Brightness):
    """Logits of 10 × the mean of each colour, the second negated."""

    def forward(self, x):
        return super().forward(x) * torch.tensor([10.0, -10.0, 0.0])


@pytest.fixture
def judge() -> Model:
    return Model(Loud(), input_size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), regularization_layer="colors")


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def test_yes_or_no_each(judge):
    found = transfer(judge, flat(0.1, 0.2, 0.5), flat(0.4, 0.1, 0.6), [0, 0, 1], multilabel=True)
    expected = [
        math.log(sigmoid(4) / sigmoid(1)),
        math.log(sigmoid(1) / sigmoid(2)),
        math.log(sigmoid(-6) / sigmoid(-5)),
    ]
    assert found.rises == pytest.approx(expected, abs=1e-5)
    assert found.share == pytest.approx(1 / 3)
    assert found.rise == pytest.approx(sum(expected) / 3, abs=1e-5)
    assert found.logit_rise == pytest.approx((3 - 1 - 1) / 3, abs=1e-5)


def test_one_choice_among_all(judge):
    def log_softmax(level, k):
        logits = [10 * level, -10 * level, 0.0]
        return logits[k] - math.log(sum(math.exp(z) for z in logits))

    found = log_probabilities(judge, flat(0.1, 0.4), [0, 1], multilabel=False)
    assert found.tolist() == pytest.approx([log_softmax(0.1, 0), log_softmax(0.4, 1)], abs=1e-5)


def test_an_unchanged_picture_has_not_risen(judge):
    found = transfer(judge, flat(0.1), flat(0.1), [0], multilabel=True)
    assert (found.share, found.rise, found.logit_rise) == (0.0, 0.0, 0.0)


def test_refusals(judge):
    with pytest.raises(InvalidRequestError, match="2 images and 1 classes"):
        log_probabilities(judge, flat(0.1, 0.2), [0], multilabel=True)
    for wrong in (3, -1):
        with pytest.raises(InvalidRequestError, match="has 0 to 2"):
            log_probabilities(judge, flat(0.1), [wrong], multilabel=True)
    headless = Model(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), input_size=8)
    with pytest.raises(InvalidRequestError, match="no logits"):
        log_probabilities(headless, flat(0.1), [0], multilabel=True)
