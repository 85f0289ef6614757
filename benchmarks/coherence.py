"""Circuit coherence by depth: accentuated, noise-seeded, adversarial and natural images of the same strength.

``python benchmarks/coherence.py``: the figure of the reference model, docs/images/coherence.webp. With ``--suite
photographs`` and ACCENTOR_TEST_ASSETS set, that of the real network, written where ``--out`` says.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from accentor.engine import Pair, accentuate_pairs
from accentor.engine.evaluate import (
    Similarity,
    adversarial_at_value,
    coherence,
    coherence_of_natural,
    feature_values,
)
from accentor.spec import Recipe, resolve_recipe
from suites import Case, Suite, photograph_suite, reference_suite, stacked

KINDS = ("natural", "accentuated", "noise-seeded", "adversarial")
COLORS = ("#2b2b2b", "#d1495b", "#8d96a3", "#00798c")
MARKERS = ("s", "o", "^", "v")
MEASURES = {"pearson": "Pearson", "cosine": "cosine", "spearman": "Spearman"}
NOISE_STEPS = 5
"""A noise-seeded picture gets this many times the steps to become as strong as the accentuated ones."""
FIGURE = Path(__file__).parent.parent / "docs" / "images" / "coherence.webp"
INCH_PIXELS = 110

Curves = dict[str, dict[str, Similarity]]


def pictures(suite: Suite, cases: Sequence[Case], recipe: Recipe) -> Tensor:
    """Return accentuations [N, 3, S, S] of the cases."""
    pairs = [Pair(case.pixels, case.feature, index) for index, case in enumerate(cases)]
    found: dict[int, Tensor] = {}
    for index, ending in accentuate_pairs(suite.model, pairs, recipe):
        if isinstance(ending, Exception):
            raise ending
        found[index] = ending.pixels
    return torch.stack([found[index] for index in range(len(pairs))])


def noise_recipe(recipe: Recipe, strength: float) -> Recipe:
    """Return the recipe from noise, unregularised, until the feature has this value."""
    settings = {"start": "noise", "regularization": 0.0, "ball": None, "strengths": (), "stop_at": strength}
    return Recipe.model_validate({**recipe.model_dump(), **settings, "steps": NOISE_STEPS * recipe.steps})


def kinds_of(suite: Suite, cases: Sequence[Case], recipe: Recipe) -> dict[str, Tensor]:
    """Return the images of one feature, by kind: accentuated, and two kinds that are as strong."""
    features = [case.feature for case in cases]
    accentuated = pictures(suite, cases, recipe)
    values = feature_values(suite.model, features, accentuated)
    return {
        "accentuated": accentuated,
        "noise-seeded": pictures(suite, cases, noise_recipe(recipe, values.mean().item())),
        "adversarial": adversarial_at_value(suite.model, features, stacked(cases), values),
    }


def curves_of(suite: Suite, unit: int, cases: Sequence[Case], recipe: Recipe) -> tuple[Curves, dict[str, float]]:
    """Return coherence by kind and layer of one feature, and the mean value of each kind."""
    feature, natural = f"logit:{unit}", suite.natural[unit]
    images = kinds_of(suite, cases, recipe)
    curves = {kind: coherence(suite.model, feature, shown, natural) for kind, shown in images.items()}
    curves["natural"] = coherence_of_natural(suite.model, feature, natural)
    values = {
        kind: feature_values(suite.model, [cases[0].feature] * len(shown), shown).mean().item()
        for kind, shown in {**images, "natural": natural}.items()
    }
    return curves, values


def mean_curves(curves: Sequence[Curves]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean over features: measure, kind and layer to a value."""
    return {
        measure: {
            kind: {layer: fmean(getattr(one[kind][layer], measure) for one in curves) for layer in curves[0][kind]}
            for kind in KINDS
        }
        for measure in MEASURES
    }


def draw(means: Mapping[str, Mapping[str, Mapping[str, float]]], title: str, path: Path) -> None:
    """Draw coherence by depth, a panel per measure."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(MEASURES), figsize=(9.6, 3.3), sharey=True, layout="constrained")
    for axis, (measure, heading) in zip(axes, MEASURES.items(), strict=True):
        for kind, color, marker in zip(KINDS, COLORS, MARKERS, strict=True):
            line = means[measure][kind]
            axis.plot(list(line), list(line.values()), color=color, marker=marker, markersize=4, label=kind)
        axis.set_title(heading, fontsize=10)
        axis.tick_params(axis="x", labelrotation=60, labelsize=8)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("similarity to natural images")
    axes[0].legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=INCH_PIXELS)
    plt.close(figure)


def show(
    means: Mapping[str, Mapping[str, Mapping[str, float]]], values: Mapping[str, float], title: str, console: Console
) -> None:
    """Print Pearson's correlation by kind and layer, and how strong each kind is."""
    layers = list(means["pearson"]["natural"])
    result = Table("images", "value", *layers, title=f"{title}: Pearson's correlation")
    for kind in KINDS:
        result.add_row(kind, f"{values[kind]:.1f}", *(f"{means['pearson'][kind][layer]:.2f}" for layer in layers))
    console.print(result)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="natural", help="a preset's name, or settings as JSON")
    parser.add_argument("--suite", choices=("reference", "photographs"), default="reference")
    parser.add_argument("--images", type=int, default=3, help="seeds per feature, or photographs")
    parser.add_argument("--features", type=int, default=9, help="labels, or classes per photograph")
    parser.add_argument("--out", type=Path, default=FIGURE)
    return parser.parse_args()


def main() -> None:
    """Measure, print, draw."""
    arguments = read_arguments()
    recipe = resolve_recipe(json.loads(arguments.recipe) if arguments.recipe.startswith("{") else arguments.recipe)
    make = reference_suite if arguments.suite == "reference" else photograph_suite
    suite = make(arguments.images, arguments.features, 1)
    if suite is None:
        raise SystemExit("ACCENTOR_TEST_ASSETS is not set: no photographs")
    by_unit: dict[int, list[Case]] = {}
    for case in suite.cases:
        if case.mask is None:
            by_unit.setdefault(case.unit, []).append(case)
    console, found = Console(width=190), []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for unit, cases in bar.track(by_unit.items(), description="coherence"):
            found.append(curves_of(suite, unit, cases, recipe))
    means = mean_curves([curves for curves, _ in found])
    values = {kind: fmean(value[kind] for _, value in found) for kind in KINDS}
    title = f"{suite.name}, {len(by_unit)} features"
    show(means, values, title, console)
    draw(means, title, arguments.out)


if __name__ == "__main__":
    main()
