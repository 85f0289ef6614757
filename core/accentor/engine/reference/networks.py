"""Two small networks that read the labels of a scene; they share neither weights nor design.

Both take RGB crops [B, 3, 112, 112] in 0..1, normalised with `MEAN` and `STD` of their package, and give one logit
per label (`scenes.LABELS`), for "somewhere in the picture". Batch norm is there to train; `fold_batch_norm` melts it
into the convolutions, and the shipped networks are built without.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvUnit(nn.Module):
    """A convolution, batch norm while training, and an optional activation.

    Parameters
    ----------
    convolution
        The convolution; its padding keeps or divides the size.
    activation
        What follows, or None for a linear unit.
    batch_norm
        Whether the unit is built for training.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None, *, batch_norm: bool) -> None:
        super().__init__()
        self.conv = convolution
        self.norm: nn.Module = nn.BatchNorm2d(convolution.out_channels) if batch_norm else nn.Identity()
        self.act: nn.Module = activation if activation is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit to [B, C, H, W]."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class ReferenceNet(nn.Module):
    """The reference: five plain convolutions, smooth throughout, and a class map pooled by a soft maximum.

    | layer | output at 112 px |
    | --- | --- |
    | `conv1` | [20, 56, 56] |
    | `block1` | [40, 28, 28], the quarter resolution where the regulariser sits |
    | `block2` | [88, 14, 14] |
    | `block3`, `block4` | [112, 7, 7] |
    | `classifier` | [labels, 7, 7], the evidence for each label at each place |

    A logit is log mean exp over the places of its class map, so that it answers "is it anywhere?" with a gradient that
    stays spread where the evidence is.

    Parameters
    ----------
    labels
        How many logits.
    batch_norm
        Whether to build it for training.
    """

    def __init__(self, labels: int, *, batch_norm: bool = False) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> ConvUnit:
            convolution = nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=not batch_norm)
            return ConvUnit(convolution, nn.SiLU(), batch_norm=batch_norm)

        self.conv1 = unit(3, 20, size=4, stride=2)
        self.block1 = unit(20, 40, size=4, stride=2)
        self.pool1 = nn.AvgPool2d(2)
        self.block2 = unit(40, 88)
        self.pool2 = nn.AvgPool2d(2)
        self.block3 = unit(88, 112)
        self.block4 = unit(112, 112)
        self.classifier = nn.Conv2d(112, labels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised crops [B, 3, H, W] to logits [B, labels]."""
        x = self.block1(self.conv1(x))
        x = self.block2(self.pool1(x))
        x = self.block4(self.block3(self.pool2(x)))
        evidence: Tensor = self.classifier(x).flatten(2)
        return torch.logsumexp(evidence, dim=2) - math.log(evidence.shape[2])


class InvertedResidual(nn.Module):
    """x + project(GELU(expand(depthwise(x)))), the depthwise convolution 5×5.

    Parameters
    ----------
    channels
        Channels in and out.
    batch_norm
        Whether the block is built for training.
    """

    def __init__(self, channels: int, *, batch_norm: bool) -> None:
        super().__init__()
        depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=not batch_norm)
        self.depthwise = ConvUnit(depthwise, None, batch_norm=batch_norm)
        expand = nn.Conv2d(channels, 2 * channels, 1, bias=not batch_norm)
        self.expand = ConvUnit(expand, nn.GELU(), batch_norm=batch_norm)
        project = nn.Conv2d(2 * channels, channels, 1, bias=not batch_norm)
        self.project = ConvUnit(project, None, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to [B, C, H, W]."""
        out: Tensor = x + self.project(self.expand(self.depthwise(x)))
        return out


class JudgeNet(nn.Module):
    """The judge: maximum pooling, depthwise residual blocks with GELU, and one linear layer on pooled features.

    It takes no part in an optimisation; it says whether what was accentuated means the same to another network.

    Parameters
    ----------
    labels
        How many logits.
    batch_norm
        Whether to build it for training.
    """

    def __init__(self, labels: int, *, batch_norm: bool = False) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> ConvUnit:
            convolution = nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=not batch_norm)
            return ConvUnit(convolution, nn.GELU(), batch_norm=batch_norm)

        def residual(channels: int) -> InvertedResidual:
            return InvertedResidual(channels, batch_norm=batch_norm)

        self.stem = unit(3, 24, size=4, stride=2)
        self.stage1 = unit(24, 40, size=4, stride=2)
        self.stage2 = nn.Sequential(nn.MaxPool2d(2), unit(40, 88), residual(88))
        self.stage3 = nn.Sequential(nn.MaxPool2d(2), unit(88, 144), residual(144))
        self.head = nn.Linear(2 * 144, labels)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised crops [B, 3, H, W] to logits [B, labels]."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        out: Tensor = self.head(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return out


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Melt every unit's batch norm into its convolution, in place.

    Parameters
    ----------
    network
        A network in eval mode.

    Returns
    -------
    Module
        The same network; its state dict fits one built without batch norm.
    """
    for unit in network.modules():
        if isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.norm)
            unit.norm = nn.Identity()
    return network
