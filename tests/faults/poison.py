"""The reference model as a package of one's own that its process does not survive at two pictures.

Plain magenta ends it by a segmentation fault. At plain cyan its device computes no more, as a GPU after an illegal
address: every call fails from then on.
"""

import io
from pathlib import Path

from PIL import Image

NAME = "accentor_poisonable"
MODULE = """
import ctypes

import torch

from accentor.engine import load_model


def model(weights):
    found = load_model("reference", device="cpu")
    found.module.register_forward_pre_hook(break_at_plain_pictures)
    return found


def break_at_plain_pictures(module, inputs):
    colors = inputs[0].detach().flatten(2)
    plain = colors.std(dim=2).amax(dim=1) < 1e-3
    redder = (colors[:, 0] - colors[:, 1]).mean(dim=1)
    if bool((plain & (redder > 0.5)).any()):
        ctypes.string_at(0)
    if bool((plain & (redder < -0.5)).any()):
        torch.zeros = fail
        fail()


def fail(*_, **__):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
"""
ENTRIES = f"[accentor.models]\n{NAME} = {NAME}:model\n"


def install(folder: Path) -> None:
    """Write the package where Python finds it, the folder being on its path."""
    info = folder / f"{NAME}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{NAME}.py").write_text(MODULE)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)


MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)


def picture(color: tuple[int, int, int]) -> bytes:
    """Return a picture that no process survives, as a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "PNG")
    return buffer.getvalue()
