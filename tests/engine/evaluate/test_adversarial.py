"""Adversarial steps: at their value, at their distance, and the best linear one there is."""

import pytest
import torch
from tests.engine.evaluate.test_values import Brightness
from torch import nn

from accentor.engine import Model
from accentor.engine.evaluate import adversarial_at_distance, adversarial_at_value, feature_values
from accentor.errors import InvalidRequestError
from accentor.spec import parse_feature

LOGITS = [parse_feature(text) for text in ("logit:0", "logit:1", "-logit:2")]


def seeds(count=3, side=16, seed=0):
    return 0.3 + 0.4 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_at_value(tiny):
    before = feature_values(tiny, LOGITS, seeds())
    goals = before + torch.tensor([0.02, 0.05, 0.01])
    found = adversarial_at_value(tiny, LOGITS, seeds(), goals)
    torch.testing.assert_close(feature_values(tiny, LOGITS, found), goals, atol=2e-5, rtol=0)
    assert found.min() >= 0
    assert found.max() <= 1
    assert ((found - seeds()).square().mean() < 0.05**2).item(), "it takes little"


def test_a_seed_above_its_value_stays(tiny):
    before = feature_values(tiny, LOGITS, seeds())
    found = adversarial_at_value(tiny, LOGITS, seeds(), before + torch.tensor([0.05, -1.0, 0.05]))
    assert torch.equal(found[1], seeds()[1])
    assert not torch.equal(found[0], seeds()[0])


def test_what_cannot_be_reached_is_given_up(tiny):
    before = feature_values(tiny, LOGITS, seeds())
    found = adversarial_at_value(tiny, LOGITS, seeds(), torch.full((3,), 1e6), max_steps=3)
    assert (feature_values(tiny, LOGITS, found) > before).all()


def test_at_distance(tiny):
    reach = torch.tensor([0.5, 0.25, 0.1])
    found = adversarial_at_distance(tiny, LOGITS, seeds(), reach)
    distance = (found - seeds()).flatten(1).norm(dim=1)
    assert (distance <= reach * (1 + 1e-5)).all()
    assert (distance >= 0.98 * reach).all(), "a rising feature uses all it is given"
    assert (feature_values(tiny, LOGITS, found) > feature_values(tiny, LOGITS, seeds())).all()
    alone = adversarial_at_distance(tiny, LOGITS[1:2], seeds()[1:2], reach[1:2])
    torch.testing.assert_close(found[1:2], alone, atol=1e-5, rtol=0)


def test_the_callers_gradient_mode_does_not_matter(tiny):
    asked = ([parse_feature("logit:1")] * 3, seeds(), torch.ones(3))
    with torch.no_grad():
        found = adversarial_at_distance(tiny, *asked)
    assert torch.equal(found, adversarial_at_distance(tiny, *asked))


def test_on_a_rough_network_it_goes_all_the_way():
    """Whose gradient turns from step to step, and whose pictures reach the ends of the range."""
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2))]
    network = nn.Sequential(nn.Conv2d(3, 16, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    model, reach = Model(network, input_size=64), torch.tensor([6.0, 12.0, 24.0])
    start = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = adversarial_at_distance(model, LOGITS, start, reach)
    torch.testing.assert_close((found - start).flatten(1).norm(dim=1), reach, rtol=0.01, atol=0)


def test_of_a_linear_feature_it_is_the_best_there_is():
    """Logit 0 is the mean of red over what is seen: the best change of norm d raises it by d ‖∇f‖."""
    model = Model(Brightness(), input_size=8, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="colors")
    start = torch.full((1, 3, 8, 8), 0.5)
    found = adversarial_at_distance(model, LOGITS[:1], start, torch.tensor([0.8]))
    change = (found - start)[0]
    torch.testing.assert_close(change[1:], torch.zeros(2, 8, 8))
    torch.testing.assert_close(change[0], torch.full((8, 8), 0.1), atol=1e-5, rtol=0)


def test_refusals(tiny):
    for make in (adversarial_at_value, adversarial_at_distance):
        with pytest.raises(InvalidRequestError, match="3 features, seeds of shape"):
            make(tiny, LOGITS, seeds(2), torch.ones(3))
        with pytest.raises(InvalidRequestError, match="expected equally many"):
            make(tiny, LOGITS, seeds(), torch.ones(2))
