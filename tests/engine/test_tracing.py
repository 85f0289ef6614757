"""Reading a network: which layers it has, where their channels are, which tokens are positions."""

import pytest
import torch
from torch import nn

from accentor.engine.tokens import leading_tokens, patch_grids, place_tokens
from accentor.engine.tracing import is_activation, trace

GRIDS = {196: (14, 14), 49: (7, 7), 32: (4, 8)}


def infos(module, channels=3, size=(32, 32)):
    torch.manual_seed(0)
    return {layer.name: layer for layer in trace(module, torch.zeros(2, channels, *size)).layers}


@pytest.mark.parametrize(
    ("tokens", "leading", "expected"),
    [
        (197, 1, ((14, 14), 1)),
        (196, 1, ((14, 14), 0)),
        (201, 5, ((14, 14), 5)),
        (198, 2, ((14, 14), 2)),
        (197, None, ((14, 14), 1)),
        (201, None, ((14, 14), 5)),
        (196, None, ((14, 14), 0)),
        (32, None, ((4, 8), 0)),
        (33, 1, ((4, 8), 1)),
        (65, 1, ((8, 8), 1)),
        (64, None, ((8, 8), 0)),
        (26, None, ((5, 5), 1)),
        (50, 1, ((7, 7), 1)),
        (150, 4, (None, 4)),
        (150, None, (None, 0)),
    ],
)
def test_place_tokens(tokens, leading, expected):
    assert place_tokens(tokens, leading, GRIDS) == expected


def test_grids_that_are_declared_come_first():
    net = nn.Module()
    net.patch_size = (4, 8)
    assert patch_grids(net, (32, 64), []) == {64: (8, 8)}
    net.grid_size = (4, 16)
    assert patch_grids(net, (32, 64), [(2, 32), (3, 3), (1, 1)]) == {64: (4, 16), 9: (3, 3)}


class Encoder(nn.Module):
    """A transformer with class and register tokens of its own, on patches that are not square."""

    def __init__(self, registers=2, patch=(8, 4)):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, 8))
        self.before = nn.LayerNorm(8)
        self.block = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.before(self.patches(x).flatten(2).transpose(1, 2))
        front = torch.cat([self.cls_token, self.register_tokens], dim=1).expand(len(x), -1, -1)
        return self.head(self.block(torch.cat([front, x], dim=1))[:, 0])


def test_class_and_register_tokens():
    net = Encoder()
    assert leading_tokens(net) == 3
    assert leading_tokens(nn.Sequential(nn.Identity(), net)) == 3
    assert leading_tokens(nn.Conv2d(3, 3, 3)) is None
    layers = infos(net)
    fields = ("shape", "layout", "grid_shape", "class_tokens", "stride")
    assert {name: tuple(getattr(one, field) for field in fields) for name, one in layers.items()} == {
        "patches": ((8, 4, 8), "CHW", (4, 8), 0, (8.0, 4.0)),
        "before": ((32, 8), "NC", (4, 8), 0, (8.0, 4.0)),
        "block": ((35, 8), "NC", (4, 8), 3, (8.0, 4.0)),
        "head": ((3,), "C", None, 0, None),
    }


def test_images_that_are_not_square():
    layers = infos(nn.Sequential(nn.Conv2d(1, 2, 4, stride=4), nn.ReLU(), nn.Conv2d(2, 2, 2, 2)), 1, (16, 48))
    assert {name: (one.shape, one.stride) for name, one in layers.items()} == {
        "0": ((2, 4, 12), (4.0, 4.0)),
        "1.input": ((2, 4, 12), (4.0, 4.0)),
        "1": ((2, 4, 12), (4.0, 4.0)),
        "2": ((2, 2, 6), (8.0, 8.0)),
    }


class Windows(nn.Module):
    """Folds the batch, keeps a table of biases, and attends: none of it is a row for each image."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.folded = nn.Linear(8, 8)
        self.table = nn.Linear(2, 4)
        self.weights = nn.Softmax(dim=-1)
        self.whole = nn.Linear(8, 8)

    def forward(self, x):
        x = self.patches(x)
        tokens = x.flatten(2).transpose(1, 2)
        windows = self.folded(tokens.reshape(-1, 16, 8)) + self.table(torch.ones(1, 2)).sum()
        tokens = windows.reshape(len(x), 64, 8)
        maps = self.weights((tokens @ tokens.transpose(1, 2)).unsqueeze(1).expand(-1, 3, -1, -1))
        return self.whole((maps[:, 0] @ tokens).view(len(x), 8, 8, 8))


def test_what_is_no_row_for_each_image_is_left_out():
    layers = infos(Windows())
    assert set(layers) == {"patches", "whole"}
    assert (layers["whole"].channels_last, layers["whole"].shape) == (True, (8, 8, 8))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Linear(12, 8)
        self.weights = nn.Softmax(dim=-1)

    def forward(self, x):
        tokens = self.tokens(x.flatten(2).transpose(1, 2).reshape(len(x), -1, 12))
        return self.weights((tokens @ tokens.transpose(1, 2)).unsqueeze(1).expand(-1, 3, -1, -1))


def test_attention_maps_are_no_maps():
    assert set(infos(Attention(), size=(8, 8))) == {"tokens"}


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(dim=1, keepdim=True)


def test_maps_with_as_many_rows_as_another_has_positions_are_kept():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), Mean(), nn.Conv2d(1, 2, 4, stride=4), Mean())
    assert {name: one.shape for name, one in infos(net, size=(16, 16)).items()} == {
        "0": (2, 16, 16),
        "1": (1, 16, 16),
        "2": (2, 4, 4),
        "3": (1, 4, 4),
    }


def test_equal_sides_are_told_apart_by_what_the_layer_is():
    class Cube(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 4, stride=4)
            self.norm = LayerNorm2d(8)
            self.act = nn.GELU()
            self.last = nn.LayerNorm(8)
            self.drop = nn.Dropout()

        def forward(self, x):
            x = self.act(self.norm(self.first(x)))
            return self.drop(self.last(x.permute(0, 2, 3, 1)))

    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    last = {name: one.channels_last for name, one in infos(Cube()).items()}
    assert last == {"first": False, "norm": False, "act.input": False, "act": False, "last": True, "drop": True}


def test_activations_are_recognised():
    class HardSwishMe(nn.Module):
        pass

    class Reluctant(nn.Sequential):
        pass

    assert all(map(is_activation, (nn.ReLU(), nn.PReLU(), nn.Softplus(), nn.Hardtanh(), HardSwishMe())))
    assert not any(map(is_activation, (nn.Softmax(dim=1), nn.Dropout(), nn.Linear(2, 2), Reluctant(nn.Linear(2, 2)))))
