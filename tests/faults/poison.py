"""The reference model as a package of one's own that ends its process by a segmentation fault at one picture."""

import io
from pathlib import Path

from PIL import Image

NAME = "accentor_poisonable"
MODULE = """
import ctypes

from accentor.engine import load_model


def model(weights):
    found = load_model("reference", device="cpu")
    found.module.register_forward_pre_hook(crash_at_plain_magenta)
    return found


def crash_at_plain_magenta(module, inputs):
    colors = inputs[0].detach().flatten(2)
    plain = colors.std(dim=2).amax(dim=1) < 1e-3
    magenta = (colors[:, 0] - colors[:, 1]).mean(dim=1) > 0.5
    if bool((plain & magenta).any()):
        ctypes.string_at(0)
"""
ENTRIES = f"[accentor.models]\n{NAME} = {NAME}:model\n"


def install(folder: Path) -> None:
    """Write the package where Python finds it, the folder being on its path."""
    info = folder / f"{NAME}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{NAME}.py").write_text(MODULE)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)


def picture() -> bytes:
    """Return the picture that no process survives, as a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (255, 0, 255)).save(buffer, "PNG")
    return buffer.getvalue()
