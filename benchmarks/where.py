"""Where: the opacity map against attribution methods of captum, on scenes with masks.

``python benchmarks/where.py [RECIPE ...]``: for every label, scenes that show it; AUROC and pointing game of each map
against the mask of the objects that have the label, as it is, and clipped and blurred as the opacity map is.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from captum.attr import InputXGradient, LayerAttribution, LayerGradCam, NoiseTunnel, Saliency
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from accentor.engine import Model, Pair, accentuate_pairs, load_model
from accentor.engine.evaluate import where
from accentor.engine.evaluate.scenes import FIRST_SEED, scenes_with
from accentor.engine.evaluate.values import clean_views
from accentor.engine.layers import OUTPUT
from accentor.engine.opacity import opacity_map
from accentor.engine.reference.scenes import COLORS, SHAPES, TEXTURES
from accentor.spec import Recipe, resolve_recipe
from suites import Case, stacked

SEED_STRIDE = 1_000
GRAD_CAM_LAYER = "block4"
SMOOTH_SAMPLES = 32
SMOOTH_STD = 0.1
"""SmoothGrad's noise: a tenth of the range of the pixels (Smilkov et al., arXiv 1706.03825, find 10 to 20 % best)."""
CLIPS = ((100.0, 0.0), (80.0, 2.0), (100.0, 2.0), (95.0, 2.0), (90.0, 4.0), (95.0, 4.0), (99.0, 4.0), (95.0, 8.0))
GROUPS = {"shapes": SHAPES, "textures": TEXTURES, "colours": COLORS}


@dataclass(frozen=True)
class Score:
    """Means over scenes: AUROC by group and over all labels, and the pointing game."""

    groups: dict[str, float]
    auroc: float
    pointing: float


class Logits(nn.Module):
    """The network on whole canvases [B, 3, S, S] in 0..1, so that maps are as large as the masks."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.network = model.module

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, K]."""
        return self.model.activations(clean_views(self.model, images), frozenset({OUTPUT}))[OUTPUT]


def masked_cases(model: Model, count: int) -> list[Case]:
    """Return this many scenes that show it for every label."""
    labels = model.card.labels or ()
    return [
        Case(label, scene.pixels, unit, 0, scene.masks[label])
        for unit, label in enumerate(labels)
        for scene in scenes_with(label, count, FIRST_SEED + unit * SEED_STRIDE)
    ]


def accumulated(model: Model, recipe: Recipe, cases: Sequence[Case]) -> Tensor:
    """Return the accumulated gradients [N, S, S] of a recipe: its opacity maps, neither clipped nor blurred."""
    plain = recipe.model_copy(update={"opacity_percentile": 100.0, "opacity_blur": 0.0})
    pairs = [Pair(case.pixels, case.feature, case.seed) for case in cases]
    maps: dict[int, Tensor] = {}
    for index, ending in accentuate_pairs(model, pairs, plain):
        if isinstance(ending, Exception):
            raise ending
        maps[index] = ending.opacity
    return torch.stack([maps[index] for index in range(len(cases))])


def captum_methods(model: Model) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Return captum's methods as functions of images [1, 3, S, S] and a logit, giving maps [1, S, S]."""
    network = Logits(model).eval()
    gradient = InputXGradient(network)
    smooth = NoiseTunnel(Saliency(network))
    cam = LayerGradCam(network, dict(network.network.named_modules())[GRAD_CAM_LAYER])

    def smooth_grad(images: Tensor, unit: int) -> Tensor:
        torch.manual_seed(0)
        found = smooth.attribute(
            images, target=unit, nt_type="smoothgrad", nt_samples=SMOOTH_SAMPLES, stdevs=SMOOTH_STD
        )
        return found.abs().mean(dim=1)

    def grad_cam(images: Tensor, unit: int) -> Tensor:
        found = cam.attribute(images, target=unit, relu_attributions=True)
        return LayerAttribution.interpolate(found, tuple(images.shape[2:]), "bilinear")[:, 0]

    return {
        "gradient × input": lambda images, unit: gradient.attribute(images, target=unit).abs().mean(dim=1),
        "SmoothGrad": smooth_grad,
        "Grad-CAM": grad_cam,
    }


def captum_maps(model: Model, method: Callable[[Tensor, int], Tensor], cases: Sequence[Case]) -> Tensor:
    """Return captum's maps [N, S, S]."""
    images = stacked(cases)
    with model.frozen():
        return torch.cat(
            [method(images[i : i + 1].requires_grad_(), case.unit).detach() for i, case in enumerate(cases)]
        )


def score(maps: Tensor, cases: Sequence[Case]) -> Score:
    """Compare maps [N, S, S] with the cases' masks."""
    found = [(case, where(one, case.mask)) for one, case in zip(maps, cases, strict=True) if case.mask is not None]
    groups = {name: fmean(one.auroc for case, one in found if case.name in labels) for name, labels in GROUPS.items()}
    return Score(groups, fmean(one.auroc for _, one in found), fmean(one.pointing for _, one in found))


def table(maps: dict[str, Tensor], cases: Sequence[Case], clips: Sequence[tuple[float, float]]) -> Table:
    """Return a row for every map and way to clip and blur it."""
    result = Table(
        "map", "percentile", "blur, px", *GROUPS, "AUROC", "pointing", title=f"{len(cases)} scenes with masks"
    )
    for name, raw in maps.items():
        for percentile, blur in clips:
            found = score(opacity_map(raw[:, None], percentile, blur), cases)
            figures = (*found.groups.values(), found.auroc, found.pointing)
            result.add_row(name, f"{percentile:g}", f"{blur:g}", *(f"{figure:.3f}" for figure in figures))
    return result


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["natural", "fast"], help="presets' names, or settings as JSON")
    parser.add_argument("--images", type=int, default=2, help="scenes per label")
    parser.add_argument("--all-clips", action="store_true", help="more ways to clip and blur")
    parser.add_argument("--out", type=Path, help="text file to write the table to")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = read_arguments()
    model = load_model("reference", device="cpu")
    cases = masked_cases(model, arguments.images)
    maps: dict[str, Tensor] = {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for text in bar.track(arguments.recipes):
            recipe = resolve_recipe(json.loads(text) if text.startswith("{") else text)
            maps[f"opacity, {text}"] = accumulated(model, recipe, cases)
        for name, method in bar.track(captum_methods(model).items()):
            maps[name] = captum_maps(model, method, cases)
    console = Console(width=120, record=True)
    console.print(table(maps, cases, CLIPS if arguments.all_clips else CLIPS[:2]))
    if arguments.out:
        arguments.out.write_text(console.export_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
