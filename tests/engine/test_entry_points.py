"""Models of one's own, offered by an installed package."""

import textwrap

import pytest
import torch

from accentor.engine import load_model
from accentor.engine.models import available_models
from accentor.errors import InvalidWeightsError, UnknownModelError

MODULE = """
    import torch
    from torch import nn
    from accentor.engine import Model
    from accentor.errors import InvalidWeightsError

    def network(weights=None, input_size=None, width=2):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, width, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if weights is not None:
            nn.init.constant_(net[0].weight, float(weights))
        return net

    def model(weights):
        net = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Flatten(), nn.Linear(8, 3))
        return Model(net, input_size=4, mean=[0.5], std=[0.25], labels=["a", "b", "c"], source="mine")

    def fails(weights):
        raise KeyError("weights_dir")

    def refuses(weights):
        raise InvalidWeightsError("no such weights")

    def nothing(weights):
        return 3
"""
ENTRIES = """
    [accentor.models]
    net = {name}:network
    grey = {name}:model
    fails = {name}:fails
    refuses = {name}:refuses
    nothing = {name}:nothing
    absent = {name}:absent
    missing = no_such_module_at_all:model
"""


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """A package on the path that offers models."""
    name = "accentor_offered_models"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE))
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(ENTRIES).format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_module_and_its_weights(offered):
    model = load_model("net", device="cpu")
    assert (model.card.name, model.card.source, model.card.input_size) == ("net", "net", 224)
    assert model.card.digest == load_model("net", device="cpu", name="other").card.digest
    assert load_model("net", weights="0.5", device="cpu").module[0].weight.unique().tolist() == [0.5]
    assert load_model("net", device="cpu", width=5).card.layer("0").shape == (5, 28, 28)


def test_a_model(offered):
    model = load_model("grey", device="cpu")
    assert (model.card.name, model.card.source) == ("grey", "grey")
    assert (model.card.channels, model.card.labels) == (1, ("a", "b", "c"))
    assert load_model("grey", device="cpu", name="mine").card.name == "mine"
    assert load_model("grey", device="meta").device == torch.device("meta")


def test_they_are_listed(offered):
    assert set(available_models()) >= {"reference", "net", "grey", "torchvision:resnet50"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("fails", ["KeyError", "weights_dir"]),
        ("nothing", ["gave a int", "nn.Module or a Model"]),
        ("absent", ["AttributeError"]),
        ("missing", ["ModuleNotFoundError", "no_such_module_at_all"]),
    ],
)
def test_broken_ones_are_named(offered, name, parts):
    with pytest.raises(UnknownModelError) as caught:
        load_model(name, device="cpu")
    assert f"entry point '{name}'" in caught.value.detail
    assert all(part in caught.value.detail for part in parts)


def test_errors_of_ours_pass_through(offered):
    with pytest.raises(InvalidWeightsError, match="no such weights"):
        load_model("refuses", device="cpu")
