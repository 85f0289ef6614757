"""Is the balance λ well defined? The reference's, measured at the seed, beside ours, one step of f away from it.

For each image, λ at α = 1 is measured for several random seeds of the crops, on the seed image and on copies of it that
differ by rounding alone (a value is moved by one unit in its last place, or not). A well-defined λ does not see the
difference. Then the pull of the seed over that of the feature, λ Σ|∂R/∂θ| / Σ|∂f/∂θ|, over the steps of a run: at its
start it should be α. ``python benchmarks/balance.py``; with ACCENTOR_TEST_ASSETS also on SqueezeNet's photographs.
"""

import argparse
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from accentor.engine import Model, load_model
from accentor.engine.canvas import fit_canvas
from accentor.engine.crops import Augmentation, Stream, Views
from accentor.engine.features import Objective
from accentor.engine.parameterization import Parameterization, parameterize
from accentor.engine.reference import SAMPLES
from accentor.engine.regularization import Regularizer, balance
from accentor.spec import Recipe, parse_feature

ROUNDINGS = 4
STEPS_SHOWN = (1, 2, 5, 10)
SCENE_FEATURES = ("logit:stripes", "logit:star", "channel:block3:5", "logit:disc - logit:square")
PHOTOGRAPHS_APART = 12


@dataclass(frozen=True)
class Case:
    """An image [3, H, W] and the feature to accentuate in it."""

    name: str
    model: Model
    image: Tensor
    feature: str


@dataclass(frozen=True)
class Pulls:
    """Σ|∂f/∂θ| and Σ|∂R/∂θ|, and their gradients with respect to θ."""

    feature: Tensor
    seed: Tensor
    gradients: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]

    @property
    def weight(self) -> float:
        """λ at α = 1."""
        return balance(1.0, self.feature, self.seed).item()


class Run:
    """The optimisation of one case, step by step, with a look at both pulls."""

    def __init__(self, case: Case, image: Tensor, recipe: Recipe, seed: int) -> None:
        self.case, self.recipe = case, recipe
        size, device = (image.shape[1], image.shape[2]), torch.device("cpu")
        card = case.model.card
        self._augmentation = Augmentation([Stream(seed, recipe, size, device)], recipe, size, card.input_size)
        self._objective = Objective([card.resolve(parse_feature(case.feature))], card, device)
        self._regularizer = Regularizer(recipe.regularizer, card.regularization_layers(recipe))
        self.theta: Parameterization = parameterize(recipe, image[None])
        self._anchors = self.theta.image().detach()
        self._adam = torch.optim.Adam(self.theta.parameters, lr=recipe.learning_rate)

    def views(self, step: int) -> Views:
        """Return the crops of this step."""
        return self._augmentation.views(step)

    def pulls(self, views: Views, *, plain_against: Tensor | None = None) -> Pulls:
        """Return the pulls here; with the plain norm, as in the reference, and its seed image, if that is given."""
        plain = plain_against is not None
        anchors = self._anchors if plain_against is None else plain_against
        model, layers = self.case.model, self._regularizer.layers
        with torch.no_grad():
            there = model.activations(views.of(anchors), layers)
        here = model.activations(views.of(self.theta.image()), self._objective.layers | layers)
        value = self._objective(here).mean()
        if plain:
            (layer,) = layers
            distance = (here[layer] - there[layer]).norm(dim=1).mean()
        else:
            distance = self._regularizer(here, there, 1).mean()
        df = torch.autograd.grad(value, self.theta.parameters, retain_graph=True)
        dr = torch.autograd.grad(distance, self.theta.parameters)
        return Pulls(_sum(df), _sum(dr), (df, dr))

    def step(self, pulls: Pulls, weight: float) -> None:
        """Take one step of Adam along ∂f − λ ∂R."""
        for parameter, df, dr in zip(self.theta.parameters, *pulls.gradients, strict=True):
            parameter.grad = -(df - weight * dr)
        self._adam.step()


@dataclass(frozen=True)
class Row:
    """λ by rounding for the reference's balance and ours; ours on the crops of step 0; Σ|∂R| / Σ|∂f| by step."""

    reference: list[float]
    ours: list[float]
    probe: float
    ratios: dict[int, float]


def measure(case: Case, recipe: Recipe, seed: int) -> Row:
    """Measure one case with one random seed of the crops."""
    reference: list[float] = []
    ours: list[float] = []
    for rounding in range(ROUNDINGS):
        image = rounded(case.image, rounding)
        run = Run(case, image, recipe, seed)
        first = run.pulls(run.views(0), plain_against=image[None])
        reference.append(first.weight)
        run.step(first, 0.0)
        ours.append(run.pulls(run.views(1)).weight)
        if rounding == 0:
            probe = run.pulls(run.views(0)).weight
            ratios = follow(run, ours[0])
    return Row(reference, ours, probe, ratios)


def rounded(image: Tensor, draw: int) -> Tensor:
    """Return the image with every value moved by −1, 0 or 1 units in its last place; draw 0 is the image itself."""
    if draw == 0:
        return image
    places = torch.randint(-1, 2, image.shape, generator=torch.Generator().manual_seed(draw))
    moved = torch.nextafter(image, torch.where(places > 0, torch.inf, -torch.inf))
    return torch.where(places == 0, image, moved).clamp(0.0, 1.0)


def follow(run: Run, weight: float) -> dict[int, float]:
    """Go on to the last step shown, regularised with this λ; return Σ|∂R| / Σ|∂f| at the steps shown."""
    ratios = {}
    for step in range(1, max(STEPS_SHOWN) + 1):
        pulls = run.pulls(run.views(step))
        if step in STEPS_SHOWN:
            ratios[step] = (pulls.seed / pulls.feature).item()
        run.step(pulls, weight * run.recipe.regularization)
    return ratios


def cases() -> Iterator[Case]:
    """Return the reference model's scenes, and SqueezeNet's photographs where the assets are."""
    reference = load_model("reference", device="cpu")
    for number, feature in enumerate(SCENE_FEATURES, start=1):
        path = SAMPLES / f"scene-{number:02d}.png"
        yield Case(path.stem, reference, fit_canvas(path, reference.card.canvas_size(Recipe())), feature)
    folder = os.environ.get("ACCENTOR_TEST_ASSETS")
    if folder:
        weights = Path(folder) / "models" / "squeezenet1_0-imagenet.safetensors"
        model = load_model("torchvision:squeezenet1_0", weights=weights, device="cpu")
        for path in sorted((Path(folder) / "images").glob("*.jpg"))[::PHOTOGRAPHS_APART]:
            image = fit_canvas(path, model.card.canvas_size(Recipe()))
            yield Case(path.stem, model, image, f"logit:{path.stem.split('_')[0]}")


def tables(rows: Sequence[tuple[Case, list[Row]]]) -> tuple[Table, Table]:
    """Return the table of λ and of its spread, and that of the pulls over the steps."""
    heads = ("λ reference", "rounding", "crops", "λ ours", "rounding", "crops", "on step 0's crops")
    weights = Table("image", "feature", *heads)
    pulls = Table("image", "λ by", *(f"step {step}" for step in STEPS_SHOWN))
    for case, runs in rows:
        cells = []
        for name in ("reference", "ours"):
            lists = [getattr(run, name) for run in runs]
            cells += [f"{mean(each[0] for each in lists):.4g}", percent(mean(map(spread, lists)))]
            cells.append(percent(spread([each[0] for each in lists])))
        probe = mean(run.probe for run in runs) / mean(run.ours[0] for run in runs)
        weights.add_row(case.name, case.feature, *cells, f"× {probe:.2f}")
        for name in ("reference", "ours"):
            shown = (mean(getattr(run, name)[0] * run.ratios[step] for run in runs) for step in STEPS_SHOWN)
            pulls.add_row(case.name, name, *(f"{ratio:.2f}" for ratio in shown))
    return weights, pulls


def spread(values: Sequence[float]) -> float:
    """Return (max − min) / mean."""
    return (max(values) - min(values)) / mean(values)


def mean(values: Iterator[float] | Sequence[float]) -> float:
    """Return the mean."""
    return statistics.fmean(values)


def percent(share: float) -> str:
    """Return a share in per cent, two digits."""
    return f"{100 * share:.2g} %"


def _sum(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.abs().sum() for part in gradients]).sum()[None]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="random seeds of the crops")
    arguments = parser.parse_args()
    console = Console(width=150)
    console.print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    recipe = Recipe(crops=16, steps=40, regularization=0.3, precision="float32")
    rows = []
    for case in cases():
        with case.model.frozen():
            rows.append((case, [measure(case, recipe, seed) for seed in range(arguments.seeds)]))
    for table in tables(rows):
        console.print(table)


if __name__ == "__main__":
    main()
