"""Attribution maps: closed forms on linear networks, pictures by hand, and where the reference's objects are."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.engine.companions.toys import Branches, Linear, Tokens, images, plain
from torch import nn
from torch.nn.functional import interpolate

from accentor.engine import Model, load_model
from accentor.engine.companions import MapRange, attribution_maps, attribution_ranges, default_layer
from accentor.engine.companions.maps import NEGATIVE_COLOR, POSITIVE_COLOR
from accentor.engine.reference.scenes import LABELS, render_scene
from accentor.errors import InvalidFeatureError, InvalidRequestError, UnknownLayerError

SIZE = 16


def test_a_linear_network():
    """f = w · mean(second): a channel's share at a place is w_c · second_c / 256."""
    net = Linear()
    x = images(1)[0]
    found = attribution_maps(plain(net), x, "logit:0", "second", size=SIZE)
    with torch.no_grad():
        shares = net.head.weight[0][:, None, None] * net.second(net.first(x[None]))[0] / 256
    assert found.parts.shape == (2, 16, 16)
    torch.testing.assert_close(found.positive, shares.clamp_min(0).sum(dim=0))
    torch.testing.assert_close(found.negative, (-shares).clamp_min(0).sum(dim=0))
    torch.testing.assert_close(found.signed, shares.sum(dim=0))
    assert found.signed.sum().item() == pytest.approx(found.value, rel=1e-4)
    assert found.value == pytest.approx(net(x[None])[0, 0].item(), rel=1e-4)


def test_behind_a_relu_the_parts_are_those_of_the_gradient():
    net = Branches()
    x = images(1)[0]
    found = attribution_maps(plain(net), x, "logit:1", "act", size=SIZE)
    act = net.act(net.stem(x[None])).detach().requires_grad_()
    logit = net.head(torch.cat([net.left(act), net.right(act)], dim=1).mean(dim=(2, 3)))[0, 1]
    (gradient,) = torch.autograd.grad(logit, act)
    torch.testing.assert_close(found.positive, (act * gradient.relu()).sum(dim=1)[0].detach())
    torch.testing.assert_close(found.negative, (act * (-gradient).relu()).sum(dim=1)[0].detach())


def test_upsampled_to_the_image_aspect_kept():
    net = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4))
    model = plain(net, regularization_layer="0")
    picture = torch.rand(3, 20, 40, generator=torch.Generator().manual_seed(0))
    found = attribution_maps(model, picture, "channel:0:1", size=40)
    assert torch.equal(found.source, picture)
    assert found.parts.shape == (2, 4, 4)
    expected = interpolate(found.parts[None], (20, 40), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.stack([found.positive, found.negative]), expected)


def test_tokens_on_their_grid():
    """The class token's share is in no position; the others lie row by row."""
    net = Tokens()
    model = plain(net, regularization_layer="patches")
    x = images(1)[0]
    found = attribution_maps(model, x, "logit:1", "embed", size=SIZE)
    with torch.enable_grad():
        seen = model.activations(x[None].requires_grad_(), frozenset({"embed", ""}))
        (gradient,) = torch.autograd.grad(seen[""][0, 1], seen["embed"])
    shares = (seen["embed"] * gradient)[0, 1:].sum(dim=1).detach().view(4, 4)
    torch.testing.assert_close(found.parts[0] - found.parts[1], shares)


@pytest.mark.parametrize(
    ("feature", "layer"),
    [
        ("logit:0", "second"),
        ("channel:second:3", "second"),
        ("channel:first:3", "first"),
        ("neuron:second:3@4,4", "first"),
        ("channel:first:1 - logit:0", "second"),
    ],
)
def test_default_layer(feature, layer):
    assert default_layer(plain(Linear()), feature) == layer
    assert attribution_maps(plain(Linear()), images(1)[0], feature, size=SIZE).layer == layer


def test_default_layer_of_tokens_is_before_the_class_token_alone_is_read():
    assert default_layer(plain(Tokens(), regularization_layer="patches"), "logit:0") == "embed"


class Same(nn.Module):
    """The layer behind the first gives the very tensor it receives."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.same = nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.same(self.conv(x)))


def test_default_layer_is_no_deeper_than_the_feature():
    assert default_layer(plain(Same(), regularization_layer="conv"), "channel:conv:1") == "conv"


def test_no_layer_to_map():
    model = plain(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4), nn.Linear(4, 2)), regularization_layer="1")
    with pytest.raises(InvalidFeatureError, match="nothing to map"):
        default_layer(model, "logit:0")
    with pytest.raises(InvalidRequestError, match=r"1 has shape \[4\]: expected a layer with rows and columns"):
        attribution_maps(model, images(1)[0], "logit:0", "1")


def test_lists_batches_and_kinds_of_images(tmp_path):
    model = plain(Branches())
    pictures = [Image.fromarray((one.permute(1, 2, 0) * 255).byte().numpy()) for one in images(3)]
    path = tmp_path / "one.png"
    pictures[1].save(path)
    exact = [torch.from_numpy(np.array(one)).permute(2, 0, 1).float() / 255 for one in pictures]
    mixed = [exact[0], path, pictures[2]]
    found = attribution_maps(model, mixed, "logit:0", "act", batch=2, size=SIZE)
    assert isinstance(found, list)
    for one, picture in zip(found, exact, strict=True):
        alone = attribution_maps(model, picture, "logit:0", "act", size=SIZE)
        torch.testing.assert_close(one.parts, alone.parts)
        assert one.value == pytest.approx(alone.value, rel=1e-5)
        assert torch.equal(one.source, picture)


def test_canvas_of_an_accentuation_by_default():
    model = plain(Branches())
    assert attribution_maps(model, torch.rand(3, 30, 60), "logit:0").source.shape == (3, 18, 37)


def test_refusals():
    model = plain(Branches())
    one = images(1)[0]
    with pytest.raises(UnknownLayerError, match="steem"):
        attribution_maps(model, one, "logit:0", "steem")
    with pytest.raises(InvalidFeatureError, match="does not depend on right"):
        attribution_maps(model, one, "channel:left:0", "right")
    with pytest.raises(InvalidRequestError, match="no image"):
        attribution_maps(model, [], "logit:0")
    with pytest.raises(InvalidRequestError, match="batch is 0"):
        attribution_maps(model, one, "logit:0", batch=0)
    with pytest.raises(InvalidRequestError, match="no image"):
        attribution_ranges(model, iter(()), "logit:0")


def test_ranges_are_those_of_all_maps():
    model = plain(Branches())
    pictures = list(images(5))
    maps = attribution_maps(model, pictures, "logit:1", "act", size=SIZE)
    found = attribution_ranges(model, iter(pictures), "logit:1", "act", (10, 90), size=SIZE, batch=2)
    for part, bounds in enumerate((found.positive, found.negative)):
        values = torch.stack([one.parts[part] for one in maps]).numpy()
        assert bounds == pytest.approx(np.percentile(values, (10, 90), method="inverted_cdf"), rel=1.1e-3)
    assert found.images == 5
    own = maps[0].own_range((10, 90))
    assert own.images == 1
    assert own.positive != found.positive


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.fixture
def halves():
    """An image whose left half raises the feature by 1 at every place, and whose right half lowers it by 2."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False))
    net[0].weight.data = torch.tensor([1.0, -2.0, 0.0]).view(1, 3, 1, 1)
    picture = torch.zeros(3, SIZE, SIZE)
    picture[0, :, :8] = 1.0
    picture[1, :, 8:] = 1.0
    return attribution_maps(plain(net, regularization_layer="0"), picture, "channel:0:0", size=SIZE)


def pixel(picture, column):
    return np.array(picture)[4, column] / 255


def test_values_of_the_halves(halves):
    assert halves.parts[:, 0, 0].tolist() == pytest.approx([1 / 256, 0])
    assert halves.parts[:, 0, 15].tolist() == pytest.approx([0, 2 / 256])


def test_overlay_by_hand(halves):
    scale = MapRange(positive=(0.0, 2 / 256), negative=(0.0, 2 / 256), percentiles=(1, 99), images=1)
    left, right = np.array(POSITIVE_COLOR), np.array(NEGATIVE_COLOR)
    on_white = halves.overlay(scale, base="white", opacity=1.0)
    assert pixel(on_white, 2) == pytest.approx(0.5 + 0.5 * left, abs=0.003)
    assert pixel(on_white, 13) == pytest.approx(right, abs=0.003)
    on_color = halves.overlay(scale, base="color", opacity=0.5)
    assert pixel(on_color, 2) == pytest.approx(0.75 * np.array([1, 0, 0]) + 0.25 * left, abs=0.003)
    on_grey = halves.overlay(scale, opacity=0.5)
    assert pixel(on_grey, 13) == pytest.approx(0.5 * 0.587 + 0.5 * right, abs=0.003)
    positive = halves.overlay(scale, part="positive", base="color")
    assert pixel(positive, 13) == pytest.approx([0, 1, 0], abs=0.003)
    negative = halves.overlay(scale, part="negative", base="color")
    assert pixel(negative, 2) == pytest.approx([1, 0, 0], abs=0.003)


@pytest.mark.parametrize(("channels", "color", "grey"), [
    (1, [0.2, 0.2, 0.2], 0.2),
    (2, [0.2, 0.2, 0.2], 0.2),
    (4, [0.2, 0.4, 0.6], 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6),
])  # fmt: skip
def test_overlays_of_any_number_of_channels(channels, color, grey):
    """The image is shown as other pictures are: of two channels the first, of more the first three."""
    net = nn.Conv2d(channels, 1, 1, bias=False)
    net.weight.data.fill_(1.0)
    settings = {"mean": [0.0] * channels, "std": [1.0] * channels, "regularization_layer": "0"}
    model = Model(nn.Sequential(net), input_size=SIZE, **settings)
    image = torch.tensor([0.2, 0.4, 0.6, 0.8])[:channels, None, None].expand(channels, SIZE, SIZE)
    found = attribution_maps(model, image, "channel:0:0", "0", size=SIZE)
    scale = MapRange(positive=(0.0, 1e-9), negative=(0.0, 1.0), percentiles=(1, 99), images=1)
    red = np.array(POSITIVE_COLOR)
    for base, below in (("white", 1.0), ("color", np.array(color)), ("grey", grey)):
        assert pixel(found.overlay(scale, base=base, opacity=0.5), 3) == pytest.approx(
            0.5 * below + 0.5 * red, abs=0.004
        )


def test_both_parts_at_one_place_mix():
    """Channels that cancel: alphas 0.5 and 0.25 cover 1 − 0.5 · 0.75, two thirds of it the first colour."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    net[0].weight.data = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]).view(2, 3, 1, 1)
    net[1].weight.data = torch.tensor([[2.0, -1.0]]).view(1, 2, 1, 1)
    model = plain(net, regularization_layer="0")
    found = attribution_maps(model, torch.ones(3, SIZE, SIZE), "channel:1:0", "0", size=SIZE)
    scale = MapRange(positive=(0.0, 4 / 256), negative=(0.0, 4 / 256), percentiles=(1, 99), images=1)
    mixed = 2 / 3 * np.array(POSITIVE_COLOR) + 1 / 3 * np.array(NEGATIVE_COLOR)
    expected = 0.375 + 0.625 * mixed
    assert pixel(found.overlay(scale, base="white", opacity=1.0), 3) == pytest.approx(expected, abs=0.003)


def test_a_shared_scale_keeps_faint_maps_faint(halves):
    """Nothing is stretched per image unless its own range is asked for."""
    wide = MapRange(positive=(0.0, 1.0), negative=(0.0, 1.0), percentiles=(1, 99), images=9)
    assert pixel(halves.overlay(wide, base="white"), 13) == pytest.approx([1, 1, 1], abs=0.01)
    own = halves.overlay(halves.own_range(), base="white", opacity=1.0)
    assert pixel(own, 13) == pytest.approx(NEGATIVE_COLOR, abs=0.01)


# --- the reference model -----------------------------------------------------------------------------------------


def auroc(score: torch.Tensor, mask: torch.Tensor) -> float:
    """Part of all (inside, outside) pairs of pixels that the score ranks right."""
    ranks = score.flatten().argsort().argsort().double() + 1
    inside = mask.flatten()
    n = inside.sum()
    return ((ranks[inside].sum() - n * (n + 1) / 2) / (n * (~inside).sum())).item()


def test_positive_maps_lie_on_the_object():
    """Scenes that training never saw: on average 0.96 of all pairs of pixels, where chance is 0.5."""
    model = load_model("reference", device="cpu")
    found = {}
    for seed in range(24):
        scene = render_scene(seed, 112)
        for label in scene.labels:
            mask = torch.from_numpy(np.any([one.mask for one in scene.objects if label in one.labels], axis=0))
            picture = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
            one = attribution_maps(model, picture, f"logit:{label}", "block3", size=112)
            found.setdefault(label, []).append(auroc(one.positive, mask))
    means = {label: np.mean(several) for label, several in found.items()}
    assert set(means) == set(LABELS)
    assert np.mean(list(means.values())) > 0.93
    assert min(means.values()) > 0.85
