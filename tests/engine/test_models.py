"""Loading models: weights from files, cards, digests, devices, and everything that can be wrong with a file."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from accentor.engine import Model, load_model
from accentor.engine.features import Objective
from accentor.engine.layers import OUTPUT, trace
from accentor.engine.models import default_regularization_layer
from accentor.errors import InvalidRequestError, InvalidWeightsError, UnknownModelError
from accentor.spec import Channel

NAME = "squeezenet1_1"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return models.get_model(NAME, weights=None).eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def loaded(weights):
    return load_model(f"torchvision:{NAME}", weights=weights, device="cpu")


def test_torchvision_from_a_file(network, loaded):
    card = loaded.card
    assert (card.name, card.source) == (f"torchvision:{NAME}", f"torchvision:{NAME}")
    assert (card.input_size, card.outputs, card.regularization_layer) == (224, 1000, "features.3")
    assert card.labels[207] == "golden retriever"
    assert card.layer("features.3").shape == (128, 55, 55)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    normal = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (normal.mean, normal.std))
    with torch.no_grad(), loaded.frozen():
        logits = loaded.activations(x, frozenset({OUTPUT}))[OUTPUT]
        torch.testing.assert_close(logits, network((x - mean) / std))


def test_half_precision_is_cast(network, loaded, tmp_path):
    save_file({key: value.half() for key, value in network.state_dict().items()}, tmp_path / "half.safetensors")
    half = load_model(f"torchvision:{NAME}", weights=str(tmp_path / "half.safetensors"), device="cpu", name="mine")
    assert half.card.name == "mine"
    assert half.card.digest != loaded.card.digest
    for ours, theirs in zip(half.module.parameters(), network.parameters(), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs.half().float())


def refused(weights, name=NAME):
    with pytest.raises(InvalidWeightsError) as caught:
        load_model(f"torchvision:{name}", weights=weights, device="cpu")
    return caught.value.detail


def test_truncated_and_other_files(weights, tmp_path):
    path = tmp_path / "bad.safetensors"
    data = weights.read_bytes()
    for damaged in (b"", b"\x80\x02}q\x00.", data[:7], data[:1000], data[:-1]):
        path.write_bytes(damaged)
        assert "bad.safetensors cannot be read as safetensors" in refused(path)
    assert "cannot be read" in refused(tmp_path / "none.safetensors")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert "cannot be read" in refused(folder)


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.bin", "NO_SUCH"])
def test_pickles_are_refused(tmp_path, name):
    torch.save({"a": torch.ones(1)}, tmp_path / name)
    detail = refused(tmp_path / name)
    assert "pickled files are never loaded" in detail
    assert "IMAGENET1K_V1" in detail


def test_weights_that_do_not_fit(network, weights, tmp_path):
    assert "tensors of the architecture" in refused(weights, "resnet18")
    path = tmp_path / "odd.safetensors"

    def saved(**changes):
        state = {key: value.clone() for key, value in network.state_dict().items()} | changes
        save_file({key: value for key, value in state.items() if value is not None}, path)
        return refused(path)

    assert "lacks 1 tensors of the architecture, first 'features.0.bias'" in saved(**{"features.0.bias": None})
    assert "1 tensors of another architecture, first 'extra'" in saved(extra=torch.ones(1))
    assert "features.0.bias has shape [63], expected [64]" in saved(**{"features.0.bias": torch.ones(63)})
    for value in (torch.nan, torch.inf):
        broken = torch.ones(64)
        broken[3] = value
        assert "features.0.bias holds values that are not finite" in saved(**{"features.0.bias": broken})


def test_unknown_models():
    def reason(source):
        with pytest.raises(UnknownModelError) as caught:
            load_model(source, device="cpu")
        return caught.value.detail

    assert "resnet50" in reason("torchvision:resnet5O")
    for source in ("resnet50", "torchvision:", "keras:resnet50", ""):
        assert "reference, torchvision:NAME" in reason(source)


def test_the_reference_model_has_its_own_weights():
    with pytest.raises(InvalidWeightsError, match="DEFAULT"):
        load_model("reference", weights="DEFAULT")


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("resnet18", "layer1", (64, 56, 56)),
        ("resnet50", "layer1", (256, 56, 56)),
        ("squeezenet1_0", "features.3", (128, 54, 54)),
        ("vgg11", "features.9", (256, 56, 56)),
        ("alexnet", "features.1", (64, 55, 55)),
        ("convnext_tiny", "features.0", (96, 56, 56)),
        ("vit_b_16", "encoder.layers.encoder_layer_4.ln_1", (197, 768)),
    ],
)
def test_default_regularization_layer(name, layer, shape):
    """Traced on the meta device, without a number computed."""
    with torch.device("meta"):
        network = models.get_model(name, weights=None)
        layers, _, outputs = trace(network, torch.zeros(1, 3, 224, 224))
    chosen = default_regularization_layer(network, layers, 224)
    assert chosen == layer
    assert next(one.shape for one in layers if one.name == layer) == shape
    assert outputs == 1000


def test_a_network_of_ones_own(tiny_net):
    model = load_model(tiny_net, device="cpu")
    assert model.module is tiny_net
    assert (model.card.name, model.card.source, model.card.input_size) == ("TinyNet", "TinyNet", 224)


def test_labels_of_the_wrong_number_are_not_used(tiny_net):
    assert Model(tiny_net, input_size=32, labels=["a"] * 4).card.labels == ("a",) * 4
    assert Model(tiny_net, input_size=32, labels=["a"] * 3).card.labels is None


def test_not_finite_weights(tiny_net):
    with torch.no_grad():
        tiny_net.late.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(InvalidWeightsError, match=r"late\.weight"):
        Model(tiny_net, input_size=32)


def test_digest(tiny_net):
    def digest(net=tiny_net, **options):
        return Model(net, **{"input_size": 32} | options).card.digest

    same = digest()
    assert digest(copy.deepcopy(tiny_net)) == same
    assert digest(name="other", labels=list("abcd"), regularization_layer="late") == same
    others = [digest(input_size=40), digest(mean=(0.0,) * 3), digest(std=(1.0,) * 3), digest(source="x")]
    changed = copy.deepcopy(tiny_net)
    with torch.no_grad():
        changed.head.bias[0] += 1e-6
    others.append(digest(changed))
    renamed = copy.deepcopy(tiny_net)
    renamed.act = nn.Tanh()
    others.append(digest(renamed))
    assert len({same, *others}) == 7


def test_to_another_device(tiny, tiny_net):
    before = {key: value.clone() for key, value in tiny_net.state_dict().items()}
    twin = tiny.to("meta")
    assert twin.card is tiny.card
    assert twin.device == torch.device("meta")
    found = twin.activations(torch.rand(2, 3, 32, 32, device="meta"), frozenset({"early", OUTPUT}))
    assert {name: (value.device.type, value.shape) for name, value in found.items()} == {
        "early": ("meta", (2, 6, 16, 16)),
        OUTPUT: ("meta", (2, 4)),
    }
    assert tiny.module is tiny_net
    assert all(torch.equal(value, before[key]) for key, value in tiny_net.state_dict().items())
    assert tiny.to("cpu") is tiny
    assert twin.to("meta") is twin


def test_the_callers_network_stays_where_it_is(tiny_net, monkeypatch):
    moved = []
    monkeypatch.setattr(Model, "to", lambda self, device: moved.append(str(device)) or self)
    load_model(tiny_net, device="meta")
    assert moved == ["meta"]
    assert all(parameter.device.type == "cpu" for parameter in tiny_net.parameters())


def test_published_weights_are_unpickled_as_tensors_only(tmp_path, monkeypatch):
    """Torchvision's own weights are pickles: one in its cache that would run code is refused."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    cached = tmp_path / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    network = models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), cached)
    loaded = load_model("torchvision:squeezenet1_1", device="cpu")
    assert torch.equal(loaded.module.features[0].weight, network.features[0].weight)
    torch.save({"features.0.weight": RunsCode(tmp_path / "ran")}, cached)
    with pytest.raises(InvalidWeightsError, match="give a .safetensors file"):
        load_model("torchvision:squeezenet1_1", device="cpu")
    assert not (tmp_path / "ran").exists()


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_class_token_and_channels_last_layers():
    """A class token is no position; layers whose channels come last are not offered as if they came first."""
    from torchvision.models import SwinTransformer, VisionTransformer

    torch.manual_seed(0)
    vit = Model(VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), input_size=32)
    layer = "encoder.layers.encoder_layer_1"
    assert vit.card.layer(layer).shape == (17, 16)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        tokens = vit.activations(images, frozenset({layer}))
        value = Objective([Channel(layer=layer, unit=3)], vit.card, torch.device("cpu"))(tokens)
    assert value.item() == pytest.approx(tokens[layer][0, 1:, 3].mean().item(), abs=1e-6)
    swin = SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=5)
    shapes = [info.shape for info in Model(swin, input_size=64).card.layers]
    assert all(len(shape) < 3 or shape[1] == shape[2] for shape in shapes)


def test_unknown_device_is_named():
    with pytest.raises(InvalidRequestError, match="abacus"):
        load_model("reference", device="abacus")
