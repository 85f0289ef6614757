"""Loading models: weights from files, cards, digests, devices, and everything that can be wrong with a file."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from accentor.engine import Model, load_model
from accentor.engine.features import Objective
from accentor.engine.layers import OUTPUT
from accentor.engine.models import default_regularization_layer
from accentor.engine.models.weights import digest as digest_of
from accentor.engine.tracing import trace
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
    for source in ("resnet50", "torchvision:", "timm:", "keras:resnet50", ""):
        assert "reference, torchvision:NAME, timm:NAME" in reason(source)


def test_the_reference_model_has_its_own_weights():
    with pytest.raises(InvalidWeightsError, match="DEFAULT"):
        load_model("reference", weights="DEFAULT")


@pytest.mark.parametrize(
    ("name", "layer", "shape", "size"),
    [
        ("resnet18", "layer1", (64, 56, 56), 224),
        ("resnet50", "layer1", (256, 56, 56), 224),
        ("squeezenet1_0", "features.3", (128, 54, 54), 224),
        ("squeezenet1_1", "features.3", (128, 55, 55), 224),
        ("vgg11", "features.9", (256, 56, 56), 224),
        ("alexnet", "features.1", (64, 55, 55), 224),
        ("densenet121", "features.denseblock1", (256, 56, 56), 224),
        ("efficientnet_b0", "features.2", (24, 56, 56), 224),
        ("mobilenet_v3_large", "features.2", (24, 56, 56), 224),
        ("mobilenet_v3_small", "features.1", (16, 56, 56), 224),
        ("regnet_y_400mf", "trunk_output.block1", (48, 56, 56), 224),
        ("mnasnet0_5", "layers.8", (16, 56, 56), 224),
        ("convnext_tiny", "features.1", (96, 56, 56), 224),
        ("swin_t", "features.1", (96, 56, 56), 224),
        ("googlenet", "conv3", (192, 56, 56), 224),
        ("inception_v3", "Conv2d_4a_3x3", (192, 71, 71), 299),
        ("vit_b_16", "encoder.layers.encoder_layer_2", (197, 768), 224),
    ],
)
def test_default_regularization_layer(name, layer, shape, size):
    """Traced on the meta device, without a number computed."""
    auxiliary = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = models.get_model(name, weights=None, **auxiliary).to("meta")
    with torch.device("meta"):
        traced = trace(network, torch.zeros(2, 3, size, size))
    chosen = default_regularization_layer(network, traced.layers, size)
    assert chosen == layer
    assert next(one.shape for one in traced.layers if one.name == layer) == shape
    assert (traced.width, traced.headless) == (1000, False)


def test_a_network_of_ones_own(tiny_net):
    model = load_model(tiny_net, device="cpu")
    assert model.module is tiny_net
    assert (model.card.name, model.card.source, model.card.input_size) == ("TinyNet", "TinyNet", 224)


def test_what_a_notebook_shows_of_a_model_is_short(tiny):
    assert repr(tiny) == "<model 'tiny': 32 px, 5 layers, 4 logits, on cpu>"
    assert repr(tiny.card) == "<model card 'tiny': 32 px, 5 layers, 4 logits>"


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


def test_digest_is_over_what_it_says(tiny_net):
    """Not over the inputs of activations: the digests of networks are those from before these were listed."""
    modules = [("early", "Conv2d"), ("act", "ReLU"), ("late", "Conv2d"), ("head", "Linear")]
    settings = ["mine", 32, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, *modules]
    card = Model(tiny_net, input_size=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), source="mine").card
    assert card.digest == digest_of(tiny_net, settings)


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
    """A class token is no position; maps whose channels come last are given with the channels first."""
    from torchvision.models import SwinTransformer, VisionTransformer

    torch.manual_seed(0)
    vit = Model(VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), input_size=32)
    layer = "encoder.layers.encoder_layer_1"
    info = vit.card.layer(layer)
    assert (info.shape, info.layout, info.grid_shape, info.class_tokens) == ((17, 16), "NC", (4, 4), 1)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        tokens = vit.activations(images, frozenset({layer}))
        value = Objective([Channel(layer=layer, unit=3)], vit.card, torch.device("cpu"))(tokens)
    assert value.item() == pytest.approx(tokens[layer][0, 1:, 3].mean().item(), abs=1e-6)
    swin = SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=5)
    model = Model(swin, input_size=64)
    info = model.card.layer("features.3")
    assert (info.shape, info.layout, info.channels_last) == ((24, 8, 8), "CHW", True)
    stem = model.card.layer("features.0.0")
    assert (stem.shape, stem.channels_last, stem.grid_shape, stem.stride) == ((12, 16, 16), False, (16, 16), (4.0, 4.0))


def test_unknown_device_is_named():
    with pytest.raises(InvalidRequestError, match="abacus"):
        load_model("reference", device="abacus")


def test_networks_that_are_built_here_are_evaluated():
    """What drops out, and what batches are normalised by, is not of `activations` outside of an accentuation either."""
    model = load_model("torchvision:mobilenet_v3_small", weights="untrained", device="cpu", input_size=64)
    image, before = torch.rand(1, 3, 64, 64), copy.deepcopy(model.module.state_dict())
    first, second = (model.activations(image, frozenset({"classifier"}))["classifier"] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[key]) for key, value in model.module.state_dict().items())


def test_untrained_networks_are_the_same_every_time():
    state = torch.random.get_rng_state()
    one = load_model(f"torchvision:{NAME}", weights="untrained", device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state), "the global random state is the caller's"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        again = load_model(f"torchvision:{NAME}", weights="untrained", device="cpu")
    assert one.card.digest == again.card.digest


def test_another_input_size_and_other_classes():
    model = load_model(
        "torchvision:mobilenet_v3_small", weights="untrained", device="cpu", input_size=64, num_classes=7
    )
    assert (model.card.input_size, model.card.outputs, model.card.labels) == (64, 7, None)
    assert model.card.layer("features.1").shape == (16, 16, 16)
    assert model.card.layer("features.1").stride == (4.0, 4.0)
    with pytest.raises(InvalidRequestError, match="no_such_option"):
        load_model(f"torchvision:{NAME}", weights="untrained", device="cpu", no_such_option=1)
    with pytest.raises(InvalidRequestError, match="input size is 0"):
        load_model(f"torchvision:{NAME}", weights="untrained", device="cpu", input_size=0)
    with pytest.raises(InvalidRequestError, match=r"SqueezeNet does not run on images \[3, 8, 8\]"):
        load_model(f"torchvision:{NAME}", weights="untrained", device="cpu", input_size=8)
    with pytest.raises(InvalidRequestError, match="reference takes no options; input_size"):
        load_model("reference", device="cpu", input_size=64)


def test_position_embeddings_are_interpolated_for_another_input_size(monkeypatch, tmp_path):
    from torchvision.models import VisionTransformer

    def small(architecture, weights, image_size=32):
        return VisionTransformer(image_size, 8, 1, 2, 16, 32, num_classes=1000)

    monkeypatch.setattr(models, "get_model", small)
    source = small("", None)
    torch.nn.init.normal_(source.encoder.pos_embedding, generator=torch.Generator().manual_seed(0))
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    model = load_model("torchvision:vit_b_16", weights=tmp_path / "vit.safetensors", device="cpu", input_size=64)
    info = model.card.layer("encoder.layers.encoder_layer_0")
    assert (info.shape, info.grid_shape) == ((65, 16), (8, 8))
    ours, theirs = (net.encoder.pos_embedding.detach() for net in (model.module, source))
    assert torch.equal(ours[:, 0], theirs[:, 0])
    corners = ours[0, 1:].view(8, 8, 16)[::7, ::7]
    torch.testing.assert_close(corners, theirs[0, 1:].view(4, 4, 16)[::3, ::3])


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_not_needed(name, tmp_path):
    """A file with the heads that only training uses, and one without them, give the same network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        full = models.get_model(name, weights=None, init_weights=False)
    heads = ("aux", "AuxLogits")
    state = full.state_dict()
    assert any(key.startswith(heads) for key in state)
    save_file(state, tmp_path / "full.safetensors")
    save_file({key: one for key, one in state.items() if not key.startswith(heads)}, tmp_path / "bare.safetensors")
    loaded = [load_model(f"torchvision:{name}", weights=tmp_path / f"{one}.safetensors", device="cpu", input_size=96)
              for one in ("full", "bare")]  # fmt: skip
    assert loaded[0].card.digest == loaded[1].card.digest
    full.eval()
    full.transform_input = True
    first = next(layer.name for layer in loaded[0].card.layers if layer.type == "Conv2d").partition(".")[0]
    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    wanted = x * 2 - 1  # their weights are TensorFlow's
    with torch.no_grad(), loaded[0].frozen():
        ours = loaded[0].activations(x, frozenset({first}))[first]
        torch.testing.assert_close(ours, getattr(full.eval(), first)(wanted), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_many_channels(channels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 5, 3, stride=4, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 64, 2))
    mean, std = [0.1 * (i + 1) for i in range(channels)], [0.2 * (i + 1) for i in range(channels)]
    model = Model(net, input_size=32, mean=mean, std=std)
    assert model.card.channels == channels
    x = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    normal = (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.activations(x, frozenset({OUTPUT}))[OUTPUT], net(normal))


def test_normalisation_that_does_not_fit(tiny_net):
    with pytest.raises(InvalidRequestError, match="mean has 1 entries, std 3"):
        Model(tiny_net, input_size=32, mean=(0.5,))
    with pytest.raises(InvalidRequestError, match="std is"):
        Model(tiny_net, input_size=32, std=(0.5, 0.0, 0.5))
    with pytest.raises(InvalidRequestError, match=r"TinyNet does not run on images \[1, 32, 32\].*mean and std"):
        Model(tiny_net, input_size=32, mean=(0.5,), std=(0.5,))


def test_a_backbone_without_its_head_gives_no_logits():
    net = models.resnet18(num_classes=4)
    assert Model(net, input_size=64).card.outputs == 4
    net.fc = nn.Identity()
    card = Model(net, input_size=64).card
    assert card.outputs is None
    assert card.layer("fc").shape == (512,)
    net.num_classes = 4
    assert Model(net, input_size=64).card.outputs is None
    assert Model(net, input_size=64, logits=True).card.outputs == 512
    assert Model(models.resnet18(num_classes=4), input_size=64, logits=False).card.outputs is None
    bare = nn.Sequential(nn.Conv2d(3, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert Model(bare, input_size=8).card.outputs == 4
    bare.num_classes = 0
    assert Model(bare, input_size=8).card.outputs is None


def test_a_network_without_layers():
    with pytest.raises(InvalidRequestError, match="has no layer"):
        Model(nn.Sequential(nn.Unflatten(1, (1, 3))), input_size=8)
