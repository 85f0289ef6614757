"""Circuits: scores by hand, the right channels chosen, exactly the others ablated, and overlaps of known sets."""

import math

import pytest
import torch
from tests.engine.companions.toys import Branches, Last, Linear, Tokens, images, plain
from torch import nn

from accentor.engine import accentuate, load_model
from accentor.engine.companions import (
    Circuit,
    Faithfulness,
    attribution_vectors,
    circuit,
    circuit_from_scores,
    faithfulness,
    masked,
    overlap,
)
from accentor.engine.reference import sample_paths
from accentor.errors import InvalidFeatureError, InvalidRequestError, NotFiniteError, UnknownLayerError
from accentor.spec import Recipe

SIZE = 16


def on(mask):
    return mask.nonzero().flatten().tolist()


def of_masks(**kept):
    """A circuit of layers of six channels, scored one where kept."""
    scores = {layer: torch.tensor([float(unit in units) for unit in range(6)]) for layer, units in kept.items()}
    return Circuit({layer: score > 0 for layer, score in scores.items()}, scores, {})


# --- scores and choice -------------------------------------------------------------------------------------------


def test_scores_are_mean_sizes_of_attribution_vectors():
    model = plain(Branches())
    x = images(5)
    found = circuit(model, list(x), "logit:0", ["act", "left"], batch=2, size=SIZE)
    vectors = attribution_vectors(model, x, "logit:0", ["act", "left"])
    seen = model.activations(x, frozenset({"act", "left"}))
    for layer in ("act", "left"):
        torch.testing.assert_close(found.scores[layer], vectors[layer].abs().mean(dim=0))
        torch.testing.assert_close(found.means[layer], seen[layer].mean(dim=(0, 2, 3)).detach())


def test_signs_do_not_cancel_over_images():
    """A bright image and its dark opposite have opposite attributions, and mean activations of zero."""
    model = plain(Linear(), mean=(0.5,) * 3)
    bright = 0.5 + 0.5 * images(1)
    opposite = [bright[0], 1 - bright[0]]
    found = circuit(model, opposite, "logit:0", ["second"], size=SIZE)
    vectors = attribution_vectors(model, bright, "logit:0", ["second"])["second"]
    torch.testing.assert_close(found.scores["second"], vectors[0].abs())
    torch.testing.assert_close(found.means["second"], torch.zeros(5), atol=1e-5, rtol=0)


def test_means_of_tokens_and_vectors():
    model = plain(Tokens(), regularization_layer="patches")
    x = images(3)
    found = circuit(model, list(x), "logit:0", ["embed", "head"], size=SIZE)
    seen = model.activations(x, frozenset({"embed", "head"}))
    torch.testing.assert_close(found.means["embed"], seen["embed"].mean(dim=(0, 1)).detach())
    torch.testing.assert_close(found.means["head"], seen["head"].mean(dim=0).detach())


SCORES = {"a": torch.tensor([0.1, -5.0, 3.0, 0.0, 2.0]), "b": torch.tensor([0.5, 0.4, 9.0, 0.3, 0.2])}


@pytest.mark.parametrize(
    ("options", "a", "b"),
    [
        ({}, [1], [2]),
        ({"keep": 0.4}, [1, 2], [0, 2]),
        ({"keep": 3}, [1, 2, 4], [0, 1, 2]),
        ({"keep": 1}, [1], [2]),
        ({"keep": 1.0}, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ({"keep": 0.01}, [1], [2]),
        ({"threshold": 0.4}, [1, 2, 4], [2]),
        ({"threshold": 0.0}, [0, 1, 2, 4], [0, 1, 2, 3, 4]),
        ({"keep": 0.4, "across_layers": True}, [1, 2, 4], [2]),
        ({"keep": 2, "across_layers": True}, [1], [2]),
        ({"threshold": 0.3, "across_layers": True}, [1, 2], [2]),
    ],
)
def test_choice(options, a, b):
    found = circuit_from_scores(SCORES, **options)
    assert {layer: on(mask) for layer, mask in found.masks.items()} == {"a": a, "b": b}
    assert found.count == {"a": len(a), "b": len(b)}
    assert found.scores["a"].tolist() == pytest.approx([0.1, 5.0, 3.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("scores", "options", "error", "part"),
    [
        (SCORES, {"keep": 0}, InvalidRequestError, "0 channels are to be kept of 5: expected 1 to 5"),
        (SCORES, {"keep": 6}, InvalidRequestError, "6 channels"),
        (SCORES, {"keep": 0.0}, InvalidRequestError, "share of 0"),
        (SCORES, {"keep": 1.2}, InvalidRequestError, "share of 1.2"),
        (SCORES, {"keep": True}, InvalidRequestError, "keep is True"),
        (SCORES, {"threshold": 1.5}, InvalidRequestError, "threshold is 1.5"),
        ({}, {}, InvalidRequestError, "no scores"),
        ({"a": torch.ones(2, 2)}, {}, InvalidRequestError, r"a have shape \[2, 2\]"),
        ({"a": torch.tensor([1.0, torch.nan])}, {}, NotFiniteError, "scores of a"),
    ],
)
def test_bad_choices(scores, options, error, part):
    with pytest.raises(error, match=part):
        circuit_from_scores(scores, **options)


def test_bad_circuits():
    model = plain(Branches())
    with pytest.raises(UnknownLayerError, match="actt"):
        circuit(model, images(1)[0], "logit:0", ["actt"])
    with pytest.raises(InvalidFeatureError, match="does not depend on right"):
        circuit(model, images(1)[0], "channel:left:0", ["act", "right"])
    with pytest.raises(InvalidRequestError, match="at least one"):
        circuit(model, images(1)[0], "channel:left:0", [])


# --- applied -----------------------------------------------------------------------------------------------------


def run(model, x, *names):
    return model.activations(x, frozenset(names or ("",)))


def test_exactly_the_other_channels_are_zero():
    net = Branches()
    model = plain(net)
    x = images()
    mask = torch.tensor([True, False, True, False])
    before = run(model, x, "act", "left", "right", "")
    with masked(model, {"act": mask}) as same:
        assert same is model
        after = run(model, x, "act", "left", "right", "")
    assert torch.equal(after["act"], before["act"] * mask.view(4, 1, 1))
    assert torch.equal(after["left"], net.left(after["act"]))
    assert not torch.equal(after[""], before[""])
    assert torch.equal(run(model, x)[""], before[""])


def test_mean_ablation():
    net = Branches()
    model = plain(net)
    x = images()
    found = circuit(model, list(x), "logit:0", ["act"], 2, size=SIZE)
    before = run(model, x, "act")["act"].detach()
    with masked(model, found, ablate="mean"):
        after = run(model, x, "act")["act"].detach()
    for unit in range(4):
        if found.masks["act"][unit]:
            assert torch.equal(after[:, unit], before[:, unit])
        else:
            torch.testing.assert_close(after[:, unit], before[:, unit].mean().expand(3, 16, 16))


def test_tokens_and_vectors():
    net = Tokens()
    model = plain(net, regularization_layer="patches")
    x = images()
    before = run(model, x, "embed")["embed"]
    keep = torch.arange(8) < 3
    with masked(model, {"embed": keep, "head": torch.tensor([False, True, False])}):
        after = run(model, x, "embed", "")
    assert torch.equal(after["embed"], before * keep)
    assert not after[""][:, [0, 2]].any()
    assert after[""][:, 1].all()


def test_maps_with_channels_last():
    net = Last()
    model = plain(net, regularization_layer="patches")
    x = images()
    keep = torch.tensor([True, False, True, True, False, False])
    raw = net.norm(net.mix(net.patches(x).permute(0, 2, 3, 1)))
    with masked(model, {"norm": keep}):
        found = net(x)
    torch.testing.assert_close(found, net.head((raw * keep).mean(dim=(1, 2))))
    vectors = attribution_vectors(model, x, "logit:0", ["norm"])["norm"]
    torch.testing.assert_close(vectors, raw.mean(dim=(1, 2)).detach() * net.head.weight[0].detach())
    means = circuit(model, list(x), "logit:0", ["norm"], size=SIZE).means["norm"]
    torch.testing.assert_close(means, raw.mean(dim=(0, 1, 2)).detach())


def test_what_an_activation_receives():
    net = Branches()
    model = plain(net)
    x = images()
    keep = torch.tensor([True, False, False, True])
    before = run(model, x, "act.input")["act.input"].detach()
    with masked(model, {"act.input": keep}):
        after = run(model, x, "act.input", "act")
    torch.testing.assert_close(after["act"].detach(), (before * keep.view(4, 1, 1)).relu())


def test_gradients_go_through_what_is_kept_only():
    model = plain(Branches())
    with masked(model, {"act": torch.tensor([True, False, False, True])}):
        found = attribution_vectors(model, images(), "logit:0", ["stem"])["stem"]
    assert not found[:, 1:3].any()
    assert found[:, [0, 3]].any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_used", [False, True])
def test_accentuation_within_a_circuit(precision, is_used):
    """What is ablated has no part in the result, whether or not the model was used before: what is cut off stays."""
    model = plain(Branches())
    recipe = Recipe(steps=3, crops=2, size=SIZE, snapshots=1, noise_std=0.0, precision=precision)
    one = images(1)[0]
    if is_used:
        accentuate(model, one, "channel:left:1", recipe)
    with masked(model, {"left": torch.tensor([True, False, False])}):
        kept = accentuate(model, one, "channel:left:0", recipe)
        cut = accentuate(model, one, "channel:left:1", recipe)
    assert kept.after > kept.before
    assert cut.after == cut.before == 0.0
    torch.testing.assert_close(cut.pixels, cut.source, atol=1e-4, rtol=0)
    free = accentuate(model, one, "channel:left:1", recipe)
    assert free.after != 0.0, "nothing of the mask is left"
    assert (free.pixels - free.source).abs().max() > 1e-3, "nor in the network of the steps"


def test_the_model_is_as_it_was_after_an_error():
    net = Branches()
    theirs = net.act.register_forward_hook(lambda *_: None)
    model = plain(net)
    before = {name: list(module._forward_hooks) for name, module in net.named_modules()}
    with pytest.raises(KeyboardInterrupt), masked(model, {"act": torch.ones(4, dtype=torch.bool)}):
        raise KeyboardInterrupt
    assert {name: list(module._forward_hooks) for name, module in net.named_modules()} == before
    theirs.remove()


@pytest.mark.parametrize(
    ("masks", "options", "error", "part"),
    [
        ({"acts": torch.ones(4, dtype=torch.bool)}, {}, UnknownLayerError, "acts"),
        ({"act": torch.ones(5, dtype=torch.bool)}, {}, InvalidRequestError, r"\[5\] .*expected \[4\]"),
        ({"act": torch.ones(4)}, {}, InvalidRequestError, "torch.float32: expected .* torch.bool"),
        ({"act": torch.ones(4, dtype=torch.bool)}, {"ablate": "mean"}, InvalidRequestError, "not known"),
        ({"act": torch.ones(4, dtype=torch.bool)}, {"ablate": "noise"}, InvalidRequestError, "'noise'"),
    ],
)
def test_bad_masks(masks, options, error, part):
    net = Branches()
    model = plain(net)
    with pytest.raises(error, match=part), masked(model, masks, **options):
        pass
    assert not any(module._forward_hooks for module in net.modules())


def test_a_layer_that_runs_more_than_once_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.act(self.conv(self.act(x))).mean(dim=(2, 3))

    model = plain(Twice(), regularization_layer="conv")
    with (
        pytest.raises(InvalidRequestError, match="act runs more than once"),
        masked(model, {"act": torch.ones(4, dtype=torch.bool)}),
    ):
        model.activations(images(), frozenset({""}))


def test_faithfulness_of_a_linear_network():
    """The logit is w · mean(second), so that a circuit keeps the sum of its channels' shares, and none keeps 0."""
    net = Linear()
    model = plain(net)
    x = images(5)
    found = circuit(model, list(x), "logit:1", ["second"], 2, size=SIZE)
    measured = faithfulness(model, list(x), "logit:1", found, size=SIZE, batch=2)
    shares = attribution_vectors(model, x, "logit:1", ["second"])["second"]
    within = shares[:, found.masks["second"]].sum(dim=1)
    torch.testing.assert_close(measured.full, shares.sum(dim=1))
    torch.testing.assert_close(measured.within, within)
    assert not measured.without.any()
    assert measured.share == pytest.approx((within.mean() / shares.sum(dim=1).mean()).item(), rel=1e-4)


def test_share_is_of_what_the_layers_add():
    found = Faithfulness(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0]))
    assert found.share == pytest.approx(2 / 3)


def test_correlation_over_the_images():
    found = Faithfulness(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([3.0, 5.0, 9.0]), torch.zeros(3))
    assert found.correlation == pytest.approx(1.0)
    assert math.isnan(Faithfulness(torch.ones(1), torch.ones(1), torch.zeros(1)).correlation)


def test_faithfulness_with_means():
    model = plain(Linear())
    x = list(images(4))
    found = circuit(model, x, "logit:1", ["second"], 1, size=SIZE)
    measured = faithfulness(model, x, "logit:1", found, ablate="mean", size=SIZE)
    assert measured.without.std() < 1e-5
    assert measured.without.mean().item() == pytest.approx(measured.full.mean().item(), rel=1e-4)
    everything = circuit(model, x, "logit:1", ["second"], 5, size=SIZE)
    assert torch.equal(faithfulness(model, x, "logit:1", everything, size=SIZE).within, measured.full)


# --- overlap -----------------------------------------------------------------------------------------------------


def test_identical_and_disjoint():
    one = of_masks(a=[0, 1], b=[2])
    same = overlap(one, of_masks(a=[0, 1], b=[2]))
    assert set(same.layers.values()) == set(same.weighted.values()) == {1.0}
    assert same.overall == same.weighted_overall == 1.0
    apart = overlap(one, of_masks(a=[2, 3], b=[0, 1]))
    assert set(apart.layers.values()) == set(apart.weighted.values()) == {0.0}
    assert apart.overall == apart.weighted_overall == 0.0


def test_partial_overlap():
    found = overlap(of_masks(a=[0, 1, 2], b=[5]), of_masks(a=[1, 2, 3], b=[5]))
    assert found.layers == {"a": 0.5, "b": 1.0}
    assert found.overall == pytest.approx(3 / 5)


def test_weighted_by_hand():
    """In shares: .1 .2 .7 and .5 .5 .0; min .1 .2 0, max .5 .5 .7."""
    mask = torch.ones(3, dtype=torch.bool)
    one = Circuit({"a": mask}, {"a": torch.tensor([1.0, 2.0, 7.0])}, {})
    other = Circuit({"a": mask}, {"a": torch.tensor([5.0, 5.0, 0.0])}, {})
    found = overlap(one, other)
    assert found.weighted["a"] == pytest.approx(0.3 / 1.7)
    assert found.weighted_overall == pytest.approx(0.3 / 1.7)
    scaled = Circuit({"a": mask}, {"a": 100 * one.scores["a"]}, {})
    assert overlap(one, scaled).weighted["a"] == pytest.approx(1.0)


def test_empty_circuits():
    nothing, something = of_masks(a=[]), of_masks(a=[1])
    assert overlap(nothing, nothing).layers == overlap(nothing, nothing).weighted == {"a": 1.0}
    assert overlap(nothing, something).layers == overlap(something, nothing).weighted == {"a": 0.0}


def test_other_layers_are_not_compared():
    with pytest.raises(InvalidRequestError, match=r"\{'a': 6\} and \{'b': 6\}"):
        overlap(of_masks(a=[1]), of_masks(b=[1]))


# --- the reference model -----------------------------------------------------------------------------------------


def test_the_reference_model():
    """A fifth of the channels orders the images as the network does, a random fifth does not."""
    model = load_model("reference", device="cpu")
    pictures = sample_paths()
    layers = ["block2", "block3", "block4"]
    stripes = circuit(model, pictures, "logit:stripes", layers)
    generator = torch.Generator().manual_seed(0)
    shuffled = {layer: mask[torch.randperm(len(mask), generator=generator)] for layer, mask in stripes.masks.items()}
    for ablate in ("zero", "mean"):
        kept = faithfulness(model, pictures, "logit:stripes", stripes, ablate=ablate)
        chance = faithfulness(model, pictures, "logit:stripes", Circuit(shuffled, {}, stripes.means), ablate=ablate)
        assert kept.correlation > 0.8
        assert chance.correlation < 0.6
        assert kept.share > chance.share
    elsewhere = circuit(model, pictures[:13], "logit:stripes", layers)
    waves = circuit(model, pictures, "logit:waves", layers)
    red = circuit(model, pictures, "logit:red", layers)
    again, near, far = (overlap(stripes, other) for other in (elsewhere, waves, red))
    assert again.overall > near.overall > far.overall
    assert again.weighted_overall > near.weighted_overall > far.weighted_overall
