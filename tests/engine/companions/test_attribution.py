"""Attribution vectors against closed forms and automatic differentiation written out."""

import pytest
import torch
from tests.engine.companions.toys import SIDE, Branches, Linear, Tokens, images, plain

from accentor.engine.companions import attribution_vectors
from accentor.engine.companions.attribution import objective_of
from accentor.engine.features import Objective
from accentor.errors import (
    InvalidFeatureError,
    InvalidRequestError,
    NotDifferentiableError,
    UnitOutOfRangeError,
    UnknownLayerError,
)
from accentor.spec import Channel, parse_feature


def test_a_linear_network():
    """The head gives w · mean(second): the attribution of channel c at `second` is w_c · mean(second_c)."""
    net = Linear()
    x = images()
    found = attribution_vectors(plain(net), x, "logit:1", ["second", "first"])
    with torch.no_grad():
        second = net.second(net.first(x)).mean(dim=(2, 3))
        logits = net(x)
    torch.testing.assert_close(found["second"], second * net.head.weight[1])
    for layer, units in (("first", 4), ("second", 5)):
        assert found[layer].shape == (3, units)
        assert not found[layer].requires_grad
        torch.testing.assert_close(found[layer].sum(dim=1), logits[:, 1])


def test_a_feature_of_several_layers():
    net = Linear()
    x = images()
    found = attribution_vectors(plain(net), x, "channel:second:2 - 3*channel:first:1", ["second", "first"])
    with torch.no_grad():
        first = net.first(x)
        second = net.second(first).mean(dim=(2, 3))
    torch.testing.assert_close(found["second"], second * torch.tensor([0.0, 0, 1, 0, 0]))
    direct = -3 * first[:, 1].mean(dim=(1, 2))
    torch.testing.assert_close(found["first"].sum(dim=1), second[:, 2] + direct)
    only = attribution_vectors(plain(net), x, "channel:second:2", ["first"])["first"]
    torch.testing.assert_close(found["first"][:, 1] - only[:, 1], direct)
    torch.testing.assert_close(found["first"][:, 2:], only[:, 2:])


def test_gradient_flows_to_what_is_captured():
    """Behind an in-place activation too: against the same network written out, without any hook."""
    net = Branches()
    x = images()
    found = attribution_vectors(plain(net), x, "logit:0", ["stem", "act", "left"])
    stem = net.stem(x).detach().requires_grad_()
    act = stem.relu()
    left = net.left(act)
    logit = net.head(torch.cat([left, net.right(act)], dim=1).mean(dim=(2, 3)))[:, 0]
    by_hand = dict(zip(("stem", "act", "left"), torch.autograd.grad(logit.sum(), [stem, act, left]), strict=True))
    for layer, value in (("stem", stem), ("act", act), ("left", left)):
        torch.testing.assert_close(found[layer], (value * by_hand[layer]).sum(dim=(2, 3)))
        assert found[layer].abs().sum() > 0


def test_tokens_count_the_class_token():
    net = Tokens()
    x = images()
    model = plain(net, regularization_layer="patches")
    found = attribution_vectors(model, x, "logit:2", ["norm", "embed", "patches"])
    with torch.no_grad():
        class_token = model.activations(x, frozenset({"norm"}))["norm"][:, 0]
    torch.testing.assert_close(found["norm"], class_token * net.head.weight[2])
    assert found["embed"].shape == (3, 8)
    assert found["patches"].abs().sum() > 0


def test_images_do_not_mix():
    model = plain(Branches())
    x = images(4)
    together = attribution_vectors(model, x, "logit:0", ["stem"])["stem"]
    alone = torch.cat([attribution_vectors(model, one[None], "logit:0", ["stem"])["stem"] for one in x])
    torch.testing.assert_close(together, alone)


def test_an_objective_of_several_features():
    model = plain(Branches())
    x = images(2)
    texts = ("logit:0", "logit:1 - channel:left:2")
    objective = Objective([model.card.resolve(parse_feature(text)) for text in texts], model.card, model.device)
    found = attribution_vectors(model, x, objective, ["left"])["left"]
    for row, text in enumerate(texts):
        alone = attribution_vectors(model, x[row : row + 1], text, ["left"])["left"]
        torch.testing.assert_close(found[row], alone[0])


def test_one_feature_for_several_crops():
    model = plain(Branches())
    x = images(4)
    crops = Objective([Channel(layer="left", unit=1)], model.card, model.device)
    found = attribution_vectors(model, x, crops, ["act"])["act"]
    torch.testing.assert_close(found, attribution_vectors(model, x, "channel:left:1", ["act"])["act"])


def test_without_gradients_around_and_model_untouched():
    net = Branches().train()
    model = plain(net)
    with torch.no_grad():
        inside = attribution_vectors(model, images(), "logit:0", ["stem"])["stem"]
    torch.testing.assert_close(inside, attribution_vectors(model, images(), "logit:0", ["stem"])["stem"])
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("feature", "layers", "error", "part"),
    [
        ("logit:0", ["stems"], UnknownLayerError, "'stems'; the nearest names are stem"),
        ("logit:0", [], InvalidRequestError, "at least one"),
        ("logit:2", ["stem"], UnitOutOfRangeError, "logits 0 to 1; 2"),
        ("nonsense", ["stem"], InvalidFeatureError, "nonsense"),
        (207, ["stem"], InvalidFeatureError, "207 is no feature"),
        ("channel:left:0", ["right"], InvalidFeatureError, "does not depend on right"),
        ("channel:left:0", ["act", "head"], InvalidFeatureError, "does not depend on head"),
    ],
)
def test_refusals(feature, layers, error, part):
    with pytest.raises(error, match=part):
        attribution_vectors(plain(Branches()), images(), feature, layers)


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (2, 3, SIDE, SIDE + 1), (2, 3, 8, 8), (0, 3, SIDE, SIDE)])
def test_bad_batches(shape):
    with pytest.raises(InvalidRequestError, match=r"expected \[B, C, 16, 16\]"):
        attribution_vectors(plain(Branches()), torch.rand(*shape), "logit:0", ["stem"])


class Cut(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.conv(x.detach()).round().detach().mean(dim=(2, 3))


def test_no_gradient():
    model = plain(Cut(), regularization_layer="conv")
    with pytest.raises(NotDifferentiableError, match="no gradient"):
        attribution_vectors(model, images(), "logit:0", ["conv"])


def test_objective_of_checks_the_feature():
    with pytest.raises(UnknownLayerError):
        objective_of(plain(Linear()), "channel:third:0", 2)
