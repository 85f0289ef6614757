"""The embedded reference model: a small network, an independent judge, and sample scenes, shipped in the package."""

from pathlib import Path
from typing import TYPE_CHECKING

from accentor.engine.reference.scenes import LABELS

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "INPUT_SIZE",
    "LABELS",
    "MEAN",
    "REGULARIZATION_LAYER",
    "SAMPLES",
    "STD",
    "WEIGHTS",
    "load_judge",
    "load_reference",
    "sample_paths",
]

INPUT_SIZE = 112
"""Side in pixels of what both networks take."""
MEAN = (0.55, 0.52, 0.50)
"""Mean of the scenes' pixels per channel, 0..1."""
STD = (0.27, 0.25, 0.26)
"""Standard deviation of the scenes' pixels per channel, 0..1."""
REGULARIZATION_LAYER = "block1"
"""Layer of the reference network, at a quarter of the input's resolution, that holds accentuations near the seed."""
WEIGHTS = Path(__file__).parent / "weights"
"""Folder of `reference.safetensors` and `judge.safetensors`."""

SAMPLES = Path(__file__).parent / "samples"
"""Folder of the sample scenes and of `samples.json`, which says what each shows."""


def sample_paths() -> list[Path]:
    """List the sample scenes that ship with the package, in order."""
    return sorted(SAMPLES.glob("scene-*.png"))


def _load(network: "nn.Module", path: Path) -> "nn.Module":
    from safetensors.torch import load_file

    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return network.eval()


def load_reference(path: Path = WEIGHTS / "reference.safetensors") -> "nn.Module":
    """Load the reference network.

    Parameters
    ----------
    path
        Its weights; the shipped ones by default.

    Returns
    -------
    Module
        `networks.ReferenceNet` in float32 and eval mode, on the CPU.
    """
    from accentor.engine.reference.networks import ReferenceNet

    return _load(ReferenceNet(len(LABELS)), path)


def load_judge(path: Path = WEIGHTS / "judge.safetensors") -> "nn.Module":
    """Load the judge, the network that takes no part in an optimisation.

    Parameters
    ----------
    path
        Its weights; the shipped ones by default.

    Returns
    -------
    Module
        `networks.JudgeNet` in float32 and eval mode, on the CPU.
    """
    from accentor.engine.reference.networks import JudgeNet

    return _load(JudgeNet(len(LABELS)), path)
