"""Features that compare an image with its seed in the same view."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from accentor.engine import accentuate
from accentor.engine.companions import attribution_vectors
from accentor.engine.evaluate.values import values_over
from accentor.engine.features import Objective
from accentor.engine.running import DEAD_NOTE
from accentor.errors import InvalidFeatureError, UnitOutOfRangeError, UnknownLayerError
from accentor.spec import LayerInfo, ModelCard, Recipe, parse_feature

CPU = torch.device("cpu")
N, T = 2, 3
SHAPES = {"conv": (4, 3, 5), "cls": (7, 4), "vector": (6,)}
QUICK = Recipe(
    steps=12, crops=4, size=40, snapshots=1, precision="float32", regularization=0.0, learning_rate=0.05,
    opacity_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def card():
    layers = tuple(LayerInfo(name=name, type="X", shape=shape) for name, shape in SHAPES.items())
    layers = (*layers[:1], layers[1].model_copy(update={"grid_shape": (2, 3), "class_tokens": 1}), *layers[2:])
    return ModelCard(
        name="fake", source="fake", digest="0" * 64, input_size=8, regularization_layer="conv", layers=layers
    )


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(N * T, *shape, generator=generator) for name, shape in SHAPES.items()}


def chosen(text, activations):
    """The activations that count, [views, places, channels]."""
    layer = text.partition(":")[2].partition("/")[0].partition("^")[0].partition("@")[0]
    here = activations[layer]
    if layer == "conv":
        here = here.permute(0, 2, 3, 1)
        at = text.partition("@")[2]
        if at == "1,4":
            return here[:, 1:2, 4]
        return here[:, 0:2, 1:3].flatten(1, 2) if at else here.flatten(1, 2)
    if layer == "cls":
        return here[:, :1] if text.endswith("@cls") else here[:, 1:]
    return here[:, None]


def by_hand(text, ours, seeds):
    a, b = chosen(text, ours).double(), chosen(text, seeds).double()
    if "/l2" in text:
        return -(a - b).norm(dim=2).mean(dim=1)
    if "/l1" in text:
        return -(a - b).abs().sum(dim=2).mean(dim=1)
    a, b = a.flatten(1), b.flatten(1)
    dot = (a * b).sum(dim=1)
    if "/pearson" in text:
        a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    alike = cosine_similarity(a, b)
    power = float(text.partition("^")[2].partition("@")[0]) if "^" in text else None
    gain = 1.0 if power is None else alike.clamp_min(0.1) ** power
    if "/dot" in text:
        return dot * gain
    return alike if power is None else gain


FORMS = [
    "likeness:conv",
    "likeness:conv^2",
    "likeness:cls",
    "likeness:cls@cls",
    "likeness:vector",
    "likeness:conv@0:2,1:3",
    "likeness:conv@1,4",
    "likeness:conv/pearson",
    "likeness:cls/pearson^1.5",
    "likeness:conv/dot",
    "likeness:conv/dot^2",
    "likeness:vector/dot^1@0,0",
    "likeness:conv/l2",
    "likeness:conv/l2@1,4",
    "likeness:cls/l1",
]


@pytest.mark.parametrize("text", FORMS[:-4] + FORMS[-3:])
def test_values_and_gradients(card, text):
    ours, seeds = drawn(0), drawn(1)
    leaves = {name: value.requires_grad_() for name, value in ours.items()}
    values = Objective([parse_feature(text)] * N, card, CPU)(leaves, seeds)
    expected = by_hand(text, leaves, seeds).view(N, T)
    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=1e-5)
    layer = next(iter(Objective([parse_feature(text)], card, CPU).layers))
    one, other = (torch.autograd.grad(each.sum(), leaves[layer])[0] for each in (values, expected))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert one.any() or "^" in text


def test_pairs_do_not_mix_and_kinds_go_together(card):
    ours, seeds = drawn(0), drawn(1)
    first = parse_feature("channel:conv:1 * likeness:conv^2 - 0.5*likeness:cls/l2")
    second = parse_feature("likeness:conv/dot + likeness:conv@1,4")
    objective = Objective([first, second], card, CPU)
    assert objective.seed_layers == {"conv", "cls"}
    values = objective(ours, seeds)
    channel = ours["conv"][:, 1].flatten(1).mean(dim=1).double()
    expected = channel * by_hand("likeness:conv^2", ours, seeds) - 0.5 * by_hand("likeness:cls/l2", ours, seeds)
    torch.testing.assert_close(values[0].double(), expected[:T], rtol=1e-5, atol=1e-5)
    expected = by_hand("likeness:conv/dot", ours, seeds) + by_hand("likeness:conv@1,4", ours, seeds)
    torch.testing.assert_close(values[1].double(), expected[T:], rtol=1e-5, atol=1e-5)


def test_half_precision_is_summed_in_float32(card):
    ours, seeds = ({name: one.bfloat16() for name, one in drawn(seed).items()} for seed in (0, 1))
    for text in FORMS:
        objective = Objective([parse_feature(text)] * N, card, CPU)
        wide = objective({k: v.float() for k, v in ours.items()}, {k: v.float() for k, v in seeds.items()})
        torch.testing.assert_close(objective(ours, seeds), wide, rtol=1e-5, atol=1e-5)


# --- through accentuate ------------------------------------------------------------------------------------------


def photo(seed=0):
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, (40, 40), mode="bicubic").clamp(0, 1)[0]


def changed(**settings):
    return Recipe.model_validate(QUICK.model_dump() | settings)


def test_at_the_seed_itself(tiny):
    """Its value is measured on the clean image: alike, at no distance."""
    features = ["likeness:early", "likeness:early/pearson", "likeness:late/l2", "likeness:late/l1"]
    results = accentuate(tiny, photo(), features, changed(steps=1, crop_size=(1, 1)))
    assert [result.before for result in results] == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("parameterization", ["pixel", "fourier"])
@pytest.mark.parametrize("measure", ["l2", "l1"])
def test_a_distance_does_not_pull_at_the_seed(tiny, parameterization, measure):
    """The image that θ starts at is the seed up to rounding, which a norm would make a pull of full strength."""
    recipe = changed(parameterization=parameterization, steps=3)
    alone = accentuate(tiny, photo(), f"likeness:early/{measure}", recipe)
    assert alone.notes == (DEAD_NOTE,)
    torch.testing.assert_close(alone.pixels, alone.source, atol=1e-5, rtol=0.0)


def test_suppressed_it_leaves_the_seed(tiny):
    away = accentuate(tiny, photo(), "channel:late:1 - 5*likeness:early", changed())
    plain = accentuate(tiny, photo(), "channel:late:1", changed())
    assert away.trajectory[-1].distance > 1.1 * plain.trajectory[-1].distance


def test_a_product_with_the_likeness_stays_nearer(tiny):
    """f · cos(h, h₀)^p, another way to hold on to the seed."""
    near = accentuate(tiny, photo(), "logit:1 * likeness:early^16", changed(stop_at=None))
    free = accentuate(tiny, photo(), "logit:1", changed())
    assert near.trajectory[-1].distance < 0.9 * free.trajectory[-1].distance


def test_a_caricature_from_noise_grows_like_the_seed_image(tiny):
    """Of two photographs, the noise becomes that which it is compared with."""
    recipe = changed(start="noise", steps=60, crop_size=(1.0, 1.0))
    made = [accentuate(tiny, photo(seed), "likeness:early^2", recipe) for seed in (0, 1)]
    alike = torch.tensor(
        [
            [torch.corrcoef(torch.stack([one.pixels.flatten(), photo(seed).flatten()]))[0, 1] for seed in (0, 1)]
            for one in made
        ]
    )
    assert (alike.diag() > alike.flip(1).diag() + 0.2).all()
    assert all(one.after > one.before + 0.1 for one in made)


def test_the_opacity_map_may_be_of_a_likeness(tiny):
    shown = accentuate(tiny, photo(), "logit:1", changed(opacity_feature="likeness:early/l2@0,0", crop_size=(1, 1)))
    assert shown.opacity[:16, :16].any()
    assert not shown.opacity[30:].any()


def test_micro_batches_do_not_matter(tiny):
    features = ["logit:1 * likeness:early^2", "likeness:late/dot^1", "logit:2 + likeness:early/pearson"]
    options = {"recipe": changed(steps=4, regularization=0.3), "seed": [0, 1, 2]}
    one, many = (accentuate(tiny, photo(), features, micro_batch=size, **options) for size in (1, 3))
    for alone, together in zip(one, many, strict=True):
        torch.testing.assert_close(alone.pixels, together.pixels, atol=1e-4, rtol=0)


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "kind", "parts"),
    [
        ("likeness:erly", UnknownLayerError, ["'erly'", "early"]),
        ("likeness:early@40,2", UnitOutOfRangeError, ["16 rows", "40,2"]),
        ("likeness:early@cls", InvalidFeatureError, ["no class token"]),
        ("likeness:early/l2^2", InvalidFeatureError, ["l2 is no similarity"]),
    ],
)
def test_bad_features(tiny, feature, kind, parts):
    with pytest.raises(kind) as caught:
        accentuate(tiny, photo(), feature, QUICK)
    assert all(part in caught.value.detail for part in parts)


def test_without_a_seed_there_is_nothing_to_compare_with(tiny):
    with pytest.raises(InvalidFeatureError, match="only an accentuation has one"):
        attribution_vectors(tiny, torch.rand(1, 3, 32, 32), "logit:1 + likeness:early", ["early"])
    with pytest.raises(InvalidFeatureError, match="only an accentuation has one"):
        values_over(tiny, "likeness:early", [photo()])
