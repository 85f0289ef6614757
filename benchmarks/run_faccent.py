"""Run faccent, unmodified, on given images: ``python run_faccent.py PACKAGE_FOLDER JOB.safetensors OUT.safetensors``.

The job is ``images`` [N, 3, H, W] and, as JSON in its metadata, ``source``, ``weights``, ``device`` of the model, and
``units``, ``settings`` and ``seeds``, one for each image. Without regularisation (0) the seed does not go through the
network: faccent is told of no layer then.

A process of its own, since faccent draws from torch's global random state and deletes the model's hooks. Modules that
faccent imports and does not need here are replaced by empty ones where they are not installed.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("MPLBACKEND", "agg")

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from accentor.engine import Model, load_model

UNNEEDED = ("kornia", "kornia.geometry", "kornia.geometry.transform", "imageio", "ipywidgets")
PARAMETERIZATIONS = {"pixel": "pixel", "fourier": "fourier", "phase": "fourier_phase"}


class Normalized(nn.Module):
    """The network on images in 0..1, with its output as a module, so that faccent can hook it."""

    model_input_range = (0, 1)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.module
        self.output = nn.Identity()
        self._mean, self._std = model._mean, model._std
        self.model_input_size = (model.card.input_size, model.card.input_size)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, K] of images [B, 3, S, S] in 0..1."""
        logits: Tensor = self.output(self.network((images - self._mean) / self._std))
        return logits


class _Stub(ModuleType):
    __version__ = "0"
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def stub_unneeded() -> None:
    """Put empty modules in the place of what faccent imports, does not need here, and is not installed."""
    absent = [name for name in UNNEEDED if importlib.util.find_spec(name.partition(".")[0]) is None]
    sys.modules.update({name: _Stub(name) for name in absent})


def render(network: Normalized, image: Tensor, unit: int, setting: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Accentuate one image [3, H, W]; return the pixels, the accumulated gradient and the seconds."""
    from faccent import objectives, param
    from faccent import render as rendering

    torch.manual_seed(seed)
    started = time.perf_counter()
    kind = getattr(param, PARAMETERIZATIONS[setting["parameterization"]])
    device = next(network.parameters()).device
    parameterizer = kind(init_img=image[None], img_size=tuple(image.shape[1:]), device=device)
    layer = "network_" + setting["layer"].replace(".", "_") if setting["regularization"] else None
    images, gradients, *_ = rendering.render_vis(
        network,
        objectives.channel("output", unit),
        parameterizer=parameterizer,
        nb_transforms=setting["crops"],
        out_thresholds=[setting["steps"]],
        inline_thresholds=[],
        progress=False,
        accent_reg_layer=layer,
        accent_reg_alpha=setting["regularization"] if layer else None,
    )
    seconds = time.perf_counter() - started
    return {
        "pixels": images[-1][0].clone(),
        "gradient": gradients[-1][0].float().clone(),
        "seconds": torch.tensor(seconds),
    }


def main() -> None:
    """Run every job of the file; write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("package", "job", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with safe_open(arguments.job, framework="pt") as file:
        job = json.loads(file.metadata()["job"])
        images = file.get_tensor("images")
    network = Normalized(load_model(job["source"], weights=job["weights"], device=job["device"])).eval()
    sys.path.insert(0, str(arguments.package))
    stub_unneeded()
    found: dict[str, Tensor] = {}
    cases = zip(images, job["units"], job["settings"], job["seeds"], strict=True)
    for index, (image, unit, setting, seed) in enumerate(cases):
        for name, value in render(network, image, unit, setting, seed).items():
            found[f"{name}.{index}"] = value.contiguous()
    save_file(found, arguments.out)


if __name__ == "__main__":
    main()
