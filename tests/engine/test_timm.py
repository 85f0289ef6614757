"""timm's networks: their preprocessing, weights, tokens and layouts; skipped where timm is not installed."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from accentor.engine import Model, Pair, accentuate_pairs, load_model
from accentor.engine.evaluate import circuit_layers
from accentor.engine.layers import OUTPUT
from accentor.engine.models import available_models, default_regularization_layer
from accentor.engine.models import timm_source as source
from accentor.engine.tracing import trace
from accentor.errors import InvalidFeatureError, InvalidRequestError, InvalidWeightsError, UnknownModelError
from accentor.spec import Channel, Logit, Neuron, Recipe

timm = pytest.importorskip("timm", reason="timm is not installed")
QUICK = Recipe(steps=2, crops=1, size=40, snapshots=1, precision="float32")


def untrained(network, **options):
    return load_model(f"timm:{network}", weights="untrained", device="cpu", **options)


def images(count=1, size=160, channels=3):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit():
    return untrained("test_vit")


def test_the_networks_own_preprocessing(vit):
    card = vit.card
    assert (card.name, card.source) == ("timm:test_vit", "timm:test_vit")
    assert (card.input_size, card.channels, card.outputs) == (160, 3, 1000)
    assert card.labels[207] == "golden retriever"
    network = vit.module
    config = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert mean.tolist() != torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1).tolist()
    with torch.no_grad(), vit.frozen():
        torch.testing.assert_close(
            vit.activations(images(), frozenset({OUTPUT}))[OUTPUT], network((images() - mean) / std)
        )


def test_tokens_and_class_token(vit):
    info = vit.card.layer("blocks.2")
    assert (info.shape, info.layout, info.grid_shape, info.class_tokens) == ((101, 64), "NC", (10, 10), 1)
    assert info.stride == (16.0, 16.0)
    before = vit.card.layer("patch_embed")
    assert (before.shape, before.channels_last, before.class_tokens) == ((64, 10, 10), True, 0)
    assert info.position_of(100, 20) == (6, 1)
    assert vit.card.resolve(Neuron(layer="blocks.2", unit=3, position=(9, 9)))
    assert "blocks.0.mlp.act.input" in {layer.name for layer in vit.card.layers}


def test_a_position_is_where_its_patch_is():
    """Before any attention a token sees its own patch alone."""
    model = untrained("test_vit")
    info = model.card.layer("norm_pre")
    assert info.layout == "NC"
    dark, bright = images(), images()
    row, column = info.position_of(75, 130)
    bright[:, :, 64:80, 128:144] += 0.5
    with torch.no_grad():
        found = [model.activations(one, frozenset({"norm_pre"}))["norm_pre"] for one in (dark, bright)]
    changed = (found[0] - found[1]).abs().sum(dim=-1)[0, info.class_tokens :].view(info.grid_shape)
    assert changed.nonzero().tolist() == [[row, column]]


@pytest.mark.parametrize(
    ("name", "options", "leading"),
    [
        ("test_vit", {}, 1),
        ("test_vit", {"reg_tokens": 4}, 5),
        ("test_vit", {"class_token": False, "global_pool": "avg"}, 0),
        ("test_vit_relpos", {}, 0),
    ],
)
def test_leading_tokens(name, options, leading):
    layer = untrained(name, **options).card.layer("blocks.1")
    assert layer.shape[0] == 100 + leading
    assert (layer.class_tokens, layer.grid_shape) == (leading, (10, 10))


def test_a_backbone_without_a_head():
    model = untrained("test_vit", num_classes=0)
    card = model.card
    with torch.no_grad(), model.frozen():
        assert model.activations(images(), frozenset({OUTPUT}))[OUTPUT].shape == (1, 64)
    assert (card.outputs, card.labels) == (None, None)
    with pytest.raises(InvalidFeatureError, match="no logits"):
        card.resolve(Logit(unit=3))
    ((_, ending),) = accentuate_pairs(model, [Pair(images()[0], Channel(layer="norm", unit=7))], QUICK)
    assert ending.after > ending.before


@pytest.mark.parametrize("name", ["test_byobnet", "test_maxvit", "test_nfnet"])
def test_a_head_that_ends_in_an_identity_gives_logits(name):
    """timm's usual head ends in one, as RegNet's, Swin's and VGG's do."""
    assert untrained(name).card.outputs == 1000
    assert untrained(name, num_classes=7).card.outputs == 7
    assert untrained(name, num_classes=0).card.outputs is None


def test_a_head_that_hands_on_its_values_counts_once():
    """Behind its norm there are a flattening, an identity and a dropout."""
    assert circuit_layers(untrained("test_convnext"), "logit:0")[-4:] == (
        "stages.3", "head.global_pool", "head.norm", "head.fc",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("channels", [1, 2])
def test_other_channels(name, channels):
    model = untrained(name, in_chans=channels)
    assert model.card.channels == channels
    three = untrained(name)
    assert model._mean.flatten().tolist() == pytest.approx([three._mean.mean().item()] * channels)
    assert model._std.flatten().tolist() == pytest.approx([three._std.mean().item()] * channels)


def test_the_normalisation_of_grey_images_is_the_mean_of_the_colours():
    model = untrained("resnet10t", in_chans=1, input_size=64)
    assert model._mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert model._std.item() == pytest.approx((0.229 + 0.224 + 0.225) / 3)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_another_input_size(name):
    model = untrained(name, input_size=96)
    assert model.card.input_size == 96
    layer = model.card.layer(model.card.regularization_layer)
    assert layer.stride == (96 / layer.grid_shape[0],) * 2
    with torch.no_grad(), model.frozen():
        assert model.activations(images(size=96), frozenset({OUTPUT}))[OUTPUT].shape == (1, 1000)


def test_windows_that_do_not_fit_the_input_size():
    with pytest.raises(InvalidRequestError, match="timm:test_vit cannot be built with"):
        untrained("test_vit", input_size=96, no_such_option=1)


TABLE = [
    ("resnet18", "layer1", 224),
    ("test_resnet", "layer1", 160),
    ("convnext_atto", "stages.0", 224),
    ("vit_tiny_patch16_224", "blocks.2", 224),
    ("vit_small_patch14_reg4_dinov2", "blocks.2", 518),
    ("vit_small_patch16_dinov3", "blocks.2", 256),
    ("swin_tiny_patch4_window7_224", "layers.0", 224),
    ("efficientnet_b0", "blocks.1", 224),
    ("mobilenetv3_small_100", "blocks.0", 224),
    ("densenet121", "features.denseblock1", 224),
    ("regnetx_002", "s1", 224),
    ("vgg11", "features.9", 224),
]


@pytest.mark.parametrize(("name", "layer", "size"), TABLE)
def test_default_regularization_layer(name, layer, size):
    """Without a number computed."""
    network = timm.create_model(name).to("meta")
    with torch.device("meta"):
        traced = trace(network, torch.zeros(2, 3, size, size))
    assert default_regularization_layer(network, traced.layers, size) == layer
    names = [info.name for info in traced.layers if info.name == layer]
    assert names == [layer]


def test_channels_last_layers():
    torch.manual_seed(0)
    network = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=12, depths=(1, 1), num_heads=(2, 2)
    )
    model = Model(network, input_size=32)
    info = model.card.layer("layers.1")
    assert (info.shape, info.layout, info.channels_last, info.grid_shape) == ((24, 4, 4), "CHW", True, (4, 4))
    network.eval()
    with torch.no_grad():
        found = model.activations(images(2, 32), frozenset({"layers.1", OUTPUT}))
        normal = (images(2, 32) - model._mean) / model._std
        torch.testing.assert_close(found["layers.1"], network.layers(network.patch_embed(normal)).permute(0, 3, 1, 2))
        torch.testing.assert_close(found[OUTPUT], network(normal))


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network with weights of its own, in a file."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model("test_vit")
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(network.state_dict(), path)
    return network, path


def test_weights_from_a_file(trained):
    network, path = trained
    model = load_model("timm:test_vit", weights=path, device="cpu")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in model.module.state_dict().items())
    assert model.card.digest != untrained("test_vit").card.digest
    assert untrained("test_vit").card.digest == untrained("test_vit", name="other").card.digest


def test_weights_are_adapted_to_the_input(trained):
    """Position embeddings to another size, the head taken off, a grey image the sum of its colours."""
    network, path = trained
    model = load_model("timm:test_vit", weights=path, device="cpu", input_size=96, num_classes=0, in_chans=1)
    grey = network.state_dict()["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.module.patch_embed.proj.weight.detach(), grey)
    assert model.module.pos_embed.shape[1] in (36, 37)
    assert torch.equal(model.module.blocks[3].mlp.fc1.weight, network.blocks[3].mlp.fc1.weight)


@pytest.mark.parametrize("weights", ["DEFAULT", "r160_in1k"])
def test_published_weights_are_safetensors_from_the_hub(trained, monkeypatch, weights):
    network, path = trained
    asked = []

    def download(repository, file, revision=None):
        asked.append((repository, file))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model = load_model("timm:test_vit", weights=weights, device="cpu")
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors")]
    assert torch.equal(model.module.head.weight, network.head.weight)


def test_weights_that_cannot_be_had(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no connection")

    def never(*_, **__):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(InvalidWeightsError, match=r"no connection.*give a \.safetensors file instead"):
        load_model("timm:test_vit", device="cpu")


def refused(weights, error=InvalidWeightsError, name="test_vit", **options):
    with pytest.raises(error) as caught:
        load_model(f"timm:{name}", weights=weights, device="cpu", **options)
    return caught.value.detail


def test_weights_that_do_not_fit(trained, tmp_path):
    network, path = trained
    detail = refused("net.pth")
    assert "pickled files are never loaded" in detail
    assert "r160_in1k" in detail
    assert "does not fit timm:test_resnet" in refused(path, name="test_resnet")
    assert "head.bias has shape [1000], expected [7]" in refused(path, num_classes=7)
    assert "cannot be read" in refused(tmp_path / "none.safetensors")
    broken = {key: value.clone() for key, value in network.state_dict().items()}
    broken["head.bias"][0] = torch.nan
    save_file(broken, tmp_path / "nan.safetensors")
    assert "head.bias holds values that are not finite" in refused(tmp_path / "nan.safetensors")


def test_unknown_names(monkeypatch):
    assert "test_vit" in refused("untrained", UnknownModelError, name="test_vitt")
    for name in ("hf-hub:timm/test_vit", "hf_hub:x", "a/b"):
        assert "timm has no model" in refused("untrained", UnknownModelError, name=name)
    assert "timm:test_vit" in available_models()
    monkeypatch.setattr(source, "timm_names", source.timm_names)
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    assert "pip install 'accentor[timm]'" in refused("untrained", UnknownModelError)
    assert source.timm_names() == []


# --- left as it was ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_the_network_is_untouched(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=3, drop_rate=0.5)
    network.train()
    first = next(network.parameters())
    first.requires_grad_(requires_grad=False)
    before = copy.deepcopy(network.state_dict())
    flags = [(parameter.requires_grad, id(parameter)) for parameter in network.parameters()]
    model = Model(network, input_size=64 if name != "test_vit" else 160)
    layer = model.card.regularization_layer
    for redirected in (False, True):
        recipe = QUICK.model_copy(update={"redirected_relu": redirected})
        pairs = [Pair(images(size=64)[0], Logit(unit=1)), Pair(images(size=64)[0], Channel(layer=layer, unit=0))]
        endings = [ending for _, ending in accentuate_pairs(model, pairs, recipe)]
        assert all(ending.pixels.isfinite().all() for ending in endings)
    model.cast(torch.bfloat16)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert flags == [(parameter.requires_grad, id(parameter)) for parameter in network.parameters()]
    assert all(part.training for part in network.modules())
    assert not any(hooks for part in network.modules() for key, hooks in vars(part).items() if key.endswith("_hooks"))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_batch_norms_are_folded_with_what_they_do_afterwards(name):
    model = untrained(name)
    for layer in model.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    folded = model.folded()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.module.modules())
    names = frozenset(layer.name for layer in model.card.layers) - folded.folded_layers
    with torch.no_grad():
        there, here = (one.activations(images(size=224), names) for one in (model, folded))
    for one in names:
        assert (here[one] - there[one]).abs().max() <= 1e-4 * there[one].abs().max(), one
