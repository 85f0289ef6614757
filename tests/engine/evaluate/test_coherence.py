"""Circuit coherence: known circuits of a small network, and the mean over pairs."""

import pytest
import torch
from torchvision.models import VisionTransformer

from accentor.engine import Model
from accentor.engine.companions.attribution import attribution_vectors
from accentor.engine.evaluate import Similarity, circuit_layers, coherence, coherence_of_natural, mean_coherence
from accentor.engine.evaluate.statistics import cosine_matrix
from accentor.engine.evaluate.values import clean_views
from accentor.errors import InvalidFeatureError, InvalidRequestError


class Colors(torch.nn.Module):
    """Each colour is a channel of its own, and the logit is their sum: a picture's circuit is its colours."""

    def __init__(self):
        super().__init__()
        self.pick = torch.nn.Conv2d(3, 3, 1, bias=False)
        self.pick.weight.data = torch.eye(3)[:, :, None, None]
        self.pool = torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(self.pick(x)).flatten(1).sum(dim=1, keepdim=True)


@pytest.fixture
def colors() -> Model:
    return Model(Colors(), input_size=8, mean=(0.0,) * 3, std=(1.0,) * 3, regularization_layer="pick")


def painted(*rows):
    return torch.tensor(rows)[:, :, None, None].expand(len(rows), 3, 8, 8)


def test_known_circuits(colors):
    natural = painted([0.8, 0.1, 0.0], [0.4, 0.05, 0.0])
    found = coherence(colors, "logit:0", painted([0.4, 0.05, 0.0]), natural, ["pick", "pool"])
    assert list(found) == ["pick", "pool"]
    for one in found.values():
        assert (one.cosine, one.pearson, one.spearman) == pytest.approx((1.0, 1.0, 1.0))
    other = coherence(colors, "logit:0", painted([0.0, 0.0, 0.6]), natural, ["pick"])["pick"]
    a, b = torch.tensor([0.8, 0.1, 0.0]), torch.tensor([0.0, 0.0, 0.6])
    assert other.cosine == pytest.approx(0.0, abs=1e-6)
    assert other.pearson == pytest.approx(torch.corrcoef(torch.stack([a, b]))[0, 1].item(), abs=1e-5)
    assert other.spearman == pytest.approx(-0.8660254, abs=1e-6)


def test_mean_over_all_pairs(tiny):
    generator = torch.Generator().manual_seed(0)
    images, natural = torch.rand(2, 3, 32, 32, generator=generator), torch.rand(3, 3, 32, 32, generator=generator)
    left, right = (attribution_vectors(tiny, clean_views(tiny, x), "logit:1", ["late"]) for x in (images, natural))
    pairs = [torch.nn.functional.cosine_similarity(a, b, dim=0).item() for a in left["late"] for b in right["late"]]
    found = coherence(tiny, "logit:1", images, natural, ["late"])["late"]
    assert found.cosine == pytest.approx(sum(pairs) / 6, abs=1e-5)


def test_natural_images_are_not_compared_with_themselves(tiny):
    natural = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    vectors = attribution_vectors(tiny, clean_views(tiny, natural), "logit:1", ["late"])["late"]
    table = cosine_matrix(vectors, vectors)
    expected = (table[0, 1] + table[0, 2] + table[1, 2]).item() / 3
    assert coherence_of_natural(tiny, "logit:1", natural, ["late"])["late"].cosine == pytest.approx(expected, abs=1e-6)
    assert coherence(tiny, "logit:1", natural, natural, ["late"])["late"].cosine > expected
    with pytest.raises(InvalidRequestError, match="at least 2"):
        coherence_of_natural(tiny, "logit:1", natural[:1])


def test_circuit_layers_of_the_reference():
    from accentor.engine import load_model

    model = load_model("reference", device="cpu")
    whole = ("conv1", "block1", "pool1", "block2", "pool2", "block3", "block4", "classifier")
    assert circuit_layers(model, "logit:0") == whole
    assert circuit_layers(model, "channel:block3:0") == whole[:5]


def test_circuit_layers_go_deeper_where_the_top_is_coarse(squeezenet):
    found = circuit_layers(squeezenet, "logit:0")
    assert found[0] == "features.0"
    assert "features.12" in found
    assert all(name.count(".") == 1 for name in found)


def test_circuit_layers_of_a_transformer_are_its_blocks():
    """Beside them are modules that hand on what they get, and a whole encoder in one."""
    net = VisionTransformer(32, 8, num_layers=5, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=4)
    model = Model(net, input_size=32)
    assert circuit_layers(model, "logit:0") == tuple(f"encoder.layers.encoder_layer_{index}" for index in range(5))


class Tokens(torch.nn.Module):
    """The positions of a map, in a row."""

    def forward(self, x):
        return x.flatten(2).mT


class Repeating(torch.nn.Module):
    """Hands on what it has in many ways: without a change, in another order, and pooled when there is one position."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            *(torch.nn.Conv2d(width, 4, 3, stride=2, padding=1) for width in (3, 4, 4, 4)), torch.nn.Sequential()
        )
        self.tokens = Tokens()
        self.head = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.AdaptiveMaxPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Identity(),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(4, 4),
            torch.nn.Identity(),
        )

    def forward(self, x):
        x = self.body(x)
        return self.head(self.tokens(x).mT.view(x.shape))


def test_circuit_layers_are_steps_of_their_own():
    """The same values count once, by whatever layers they are given; also where all layers are taken."""
    steps = ("body.0", "body.1", "body.2", "body.3", "head.0", "head.5")
    model = Model(Repeating(), input_size=32, logits=True)
    assert circuit_layers(model, "channel:head.6:1") == steps
    assert circuit_layers(model, "channel:body.3:1") == steps[:3]
    assert circuit_layers(model, "channel:tokens:1") == steps[:4]


def test_mean_coherence():
    layers = {"a": Similarity(1.0, 0.5, -0.5), "b": Similarity(0.0, 0.1, 0.5)}
    assert mean_coherence(layers) == Similarity(0.5, 0.3, 0.0)
    with pytest.raises(InvalidRequestError, match="no layers"):
        mean_coherence({})


def test_refusals(tiny):
    natural = torch.rand(2, 3, 32, 32)
    with pytest.raises(InvalidFeatureError, match="does not depend on late"):
        coherence(tiny, "channel:early:0", natural, natural, ["late"])
    with pytest.raises(InvalidRequestError, match="no images"):
        coherence(tiny, "logit:0", natural[:0], natural, ["late"])
