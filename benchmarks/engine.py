"""Seconds a step of the engine, as a ratio to the model passes that cannot be avoided, in the same run.

The floor of a setting: forward and input-backward of T crops up to the target, and forward of T seed crops up to the
regularisation layer, alone. ``python benchmarks/engine.py [--steps N]``; SqueezeNet's weights do not change its speed.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from accentor.engine import Model, Pair, accentuate_pairs, load_model
from accentor.spec import Recipe, parse_feature

REPEATS = 5


@dataclass(frozen=True)
class Setting:
    """What is measured: a model, a feature, and the longer side of the canvas in pixels."""

    source: str
    feature: str
    size: int


SETTINGS = (
    Setting("reference", "logit:0", 256),
    Setting("torchvision:squeezenet1_0", "logit:0", 512),
    Setting("torchvision:squeezenet1_0", "channel:features.5:3", 512),
)


def floor_seconds(model: Model, names: frozenset[str], crops: int) -> float:
    """Return the median seconds of the passes that one step cannot do without."""
    side = model.card.input_size
    images = torch.rand(crops, 3, side, side)
    layer = frozenset({model.card.regularization_layer})

    def once() -> None:
        pixels = images.clone().requires_grad_()
        target = model.activations(pixels, names)
        sum(value.sum() for value in target.values()).backward()
        with torch.no_grad():
            model.activations(images, layer)

    with model.frozen():
        return median_seconds(once)


def step_seconds(model: Model, setting: Setting, recipe: Recipe) -> float:
    """Return the median seconds between two steps of a run; setting up and measuring clean values is not in it."""
    moments: list[tuple[int, float]] = []
    pair = Pair(torch.rand(3, setting.size, setting.size), parse_feature(setting.feature))
    for _, ending in accentuate_pairs(
        model, [pair], recipe, on_step=lambda report: moments.append((report.step, time.perf_counter()))
    ):
        if isinstance(ending, Exception):
            raise ending
    gaps = zip(moments, moments[1:], strict=False)
    return statistics.median((there - here) / (later - earlier) for (earlier, here), (later, there) in gaps)


def median_seconds(call: Callable[[], None]) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(settings: Sequence[Setting], steps: int) -> Table:
    """Measure every setting; return the table."""
    table = Table("model", "feature", "canvas", "floor, s", "step, s", "ratio")
    for setting in settings:
        weights = "untrained" if setting.source.startswith("torchvision") else None
        model = load_model(setting.source, weights=weights)
        recipe = Recipe(steps=steps, snapshots=1, size=setting.size)
        feature = model.card.resolve(parse_feature(setting.feature))
        names = frozenset("" if t.feature.kind == "logit" else t.feature.layer for t in feature.terms_of())
        floor = floor_seconds(model, names, recipe.crops)
        step = step_seconds(model, setting, recipe)
        table.add_row(
            setting.source, setting.feature, str(setting.size), f"{floor:.3f}", f"{step:.3f}", f"{step / floor:.2f}"
        )
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    console = Console(width=110)
    console.print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    console.print(measure(SETTINGS, arguments.steps))


if __name__ == "__main__":
    main()
