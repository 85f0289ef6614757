"""Networks whose attributions, receptive fields and circuits are known in closed form; and images for them."""

import torch
from torch import Tensor, nn

from accentor.engine import Model

SIDE = 16


def images(count: int = 3, side: int = SIDE, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def plain(module: nn.Module, **options) -> Model:
    """Without normalisation, so that the network sees the image itself."""
    chosen = {"input_size": SIDE, "mean": (0.0,) * 3, "std": (1.0,) * 3} | options
    return Model(module, **chosen)


class Linear(nn.Module):
    """conv 3 → 4 (1×1), conv 4 → 5 (3×3), mean over positions: linear throughout and without biases."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Conv2d(3, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 5, 3, padding=1, bias=False)
        self.head = nn.Linear(5, 2, bias=False)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean(dim=(2, 3)))


class Branches(nn.Module):
    """Two branches: the feature on one does not depend on the other; the in-place ReLU spoils what is not cloned."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 3, 1)
        self.right = nn.Conv2d(4, 3, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        both = torch.cat([self.left(x), self.right(x)], dim=1)
        return self.head(both.mean(dim=(2, 3)))


class Tokens(nn.Module):
    """Patches of 4 px as tokens behind a class token, mixed by attention; the logits are read from the class token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.embed = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.embed(torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1))
        tokens = self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.head(tokens[:, 0])


class Last(nn.Module):
    """Maps with their channels last, as in Swin: a linear layer on [B, H, W, C]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.patches = nn.Conv2d(3, 5, 4, stride=4)
        self.mix = nn.Linear(5, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.mix(self.patches(x).permute(0, 2, 3, 1)))
        return self.head(x.mean(dim=(1, 2)))
