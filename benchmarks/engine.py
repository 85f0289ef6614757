"""Seconds a step of the engine, as ratios to the model passes that cannot be avoided and to faccent, in the same run.

The floor of a setting: forward and input-backward of T crops up to the target, and forward of T seed crops up to the
regularisation layer, alone, in the same precision and memory layout. Weights do not change the speed: none are needed.
``python benchmarks/engine.py [--quick] [--faccent FOLDER]``, where FOLDER was filled by
``pip install --target FOLDER --no-deps faccent==1.0.3 einops decorator``.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from accentor.engine import Model, Pair, accentuate_pairs, load_model, running
from accentor.engine.layers import activations
from accentor.engine.memory import bytes_per_pair
from accentor.engine.tracing import trace
from accentor.spec import PRESETS, Recipe, parse_feature

REPEATS = 5
STEPS = 26
ROUNDS = 2
"""Floor and step are measured in turn, since the speed of a shared machine drifts."""
TURN = 8
"""Pairs in one call, and in as many calls, before it is the other's turn."""
LAYERS = {"torchvision:resnet50": "layer1"}
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "268435456"}
"""glibc's tunables that keep freed memory, so that large tensors are not mapped and unmapped every step."""


@dataclass(frozen=True)
class Setting:
    """What is measured: a model, a feature, and the longer side of the canvas in pixels."""

    source: str
    feature: str
    size: int

    def load(self) -> Model:
        """Load the model, without trained weights where they would have to be downloaded."""
        return load_model(self.source, weights=None if self.source == "reference" else "untrained", device="cpu")

    def recipe(self, steps: int, **settings: object) -> Recipe:
        """Return ``natural`` with the canvas and the layer of this setting."""
        mine = {"steps": steps, "snapshots": 1, "size": self.size, "regularization_layer": LAYERS.get(self.source)}
        return Recipe.model_validate(PRESETS["natural"].model_dump() | mine | {"crops": 16} | settings)


SQUEEZENET = Setting("torchvision:squeezenet1_0", "logit:0", 512)
SETTINGS = (
    SQUEEZENET,
    Setting("torchvision:resnet50", "logit:0", 512),
    Setting("torchvision:squeezenet1_0", "channel:features.5:3", 512),
    Setting("reference", "logit:0", 256),
)


def median_seconds(call: Callable[[], None]) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def floor_seconds(model: Model, names: frozenset[str], recipe: Recipe, dtype: torch.dtype) -> float:
    """Return the median seconds of the passes that one step cannot do without, as PyTorch runs the network."""
    network, side = model.cast(dtype), model.card.input_size
    images = torch.rand(recipe.crops, 3, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    layers = frozenset(model.card.regularization_layers(recipe))
    traced = trace(network.module, images[:2])

    def once() -> None:
        pixels = images.clone().requires_grad_()
        target = activations(network.module, pixels, names, traced)
        torch.stack([value.sum() for value in target.values()]).sum().backward()
        with torch.no_grad():
            activations(network.module, images, layers, traced)

    with network.frozen():
        return median_seconds(once)


def step_seconds(model: Model, setting: Setting, recipe: Recipe) -> float:
    """Return the seconds of a step of a run: the median over the cycles of steps in which the opacity map is made once.

    The first cycle, which balances λ, is left out; clean values are measured at the end alone.
    """
    moments: list[float] = []
    running.REPORT_S = 0.0
    pair = Pair(torch.rand(3, setting.size, setting.size), parse_feature(setting.feature))
    for _, ending in accentuate_pairs(model, [pair], recipe, on_step=lambda _: moments.append(time.perf_counter())):
        if isinstance(ending, Exception):
            raise ending
    starts = moments[recipe.opacity_every - 1 : -1 : recipe.opacity_every]
    return statistics.median(b - a for a, b in itertools.pairwise(starts)) / recipe.opacity_every


def against_the_floor(steps: int, settings: Sequence[Setting]) -> Table:
    """Measure every setting in both precisions; return the table."""
    table = Table("model", "feature", "precision", "floor, s", "step, s", "ratio", title="against the floor")
    for setting in settings:
        model = setting.load()
        feature = model.card.resolve(parse_feature(setting.feature))
        names = frozenset("" if t.feature.kind == "logit" else t.feature.layer for t in feature.terms_of())
        for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
            recipe = setting.recipe(steps, precision=precision)
            floors, measured = [floor_seconds(model, names, recipe, dtype)], []
            for _ in range(ROUNDS):
                measured.append(step_seconds(model, setting, recipe))
                floors.append(floor_seconds(model, names, recipe, dtype))
            floor, step = statistics.median(floors), statistics.median(measured)
            table.add_row(
                setting.source, setting.feature, precision, f"{floor:.3f}", f"{step:.3f}", f"{step / floor:.2f}"
            )
    return table


def faccent_step_seconds(
    package: Path, model: Model, recipe: Recipe, steps: int, environment: Mapping[str, str] | None = None
) -> float:
    """Return the seconds of one step of faccent, unmodified: the same network, device and setting; without weights.

    That is the difference of a long and a short run over that of their steps, after one that is not counted.
    """
    (layer,) = model.card.regularization_layers(recipe)
    setting = {
        "parameterization": "fourier", "crops": recipe.crops, "layer": layer, "regularization": recipe.regularization,
    }  # fmt: skip
    counts = (2, 2, 2 + steps)
    job = {
        "source": model.card.source, "weights": "untrained", "device": str(model.device),
        "units": [0] * len(counts), "seeds": [0] * len(counts), "settings": [{**setting, "steps": n} for n in counts],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("job.safetensors", "out.safetensors")]
        images = torch.rand(len(counts), 3, recipe.size or 512, recipe.size or 512)
        save_file({"images": images}, paths[0], metadata={"job": json.dumps(job)})
        command = [sys.executable, str(Path(__file__).with_name("run_faccent.py")), str(package), *map(str, paths)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=untuned() | (environment or {}))  # noqa: S603
        found = load_file(paths[1])
    return (found["seconds.2"].item() - found["seconds.1"].item()) / steps


def untuned() -> dict[str, str]:
    """Return this process's environment without `TUNED`, which faccent comes without."""
    return {name: value for name, value in os.environ.items() if name not in TUNED}


def against_faccent(package: Path, steps: int) -> Table:
    """Compare the seconds of a step at equal settings: SqueezeNet, 512 px, 16 crops, fourier."""
    table = Table(
        "regularised", "faccent, s", "its allocator tuned, s", "ours float32, s", "ours bfloat16, s", "ratios"
    )
    table.title = "against faccent 1.0.3: SqueezeNet, 512 px, 16 crops, fourier"
    model = SQUEEZENET.load()
    for alpha in (0.3, 0.0):
        full, half = (
            SQUEEZENET.recipe(STEPS, precision=precision, regularization=alpha) for precision in ("float32", "bfloat16")
        )
        plain, tuned = (faccent_step_seconds(package, model, full, steps, environment) for environment in ({}, TUNED))
        ours = [step_seconds(model, SQUEEZENET, recipe) for recipe in (full, half)]
        ratios = " / ".join(f"{plain / mine:.1f}, {tuned / mine:.1f}" for mine in ours)
        table.add_row("α = 0.3" if alpha else "no", f"{plain:.2f}", f"{tuned:.2f}", *(f"{s:.3f}" for s in ours), ratios)
    return table


def many_pairs(count: int) -> Table:
    """Compare pairs that share a call with a call for each, in turns, and the memory that they take."""
    model = load_model("reference", device="cpu")
    recipe = Recipe.model_validate(PRESETS["fast"].model_dump() | {"steps": 5, "size": 256})
    pairs = [Pair(torch.rand(3, 256, 256), parse_feature(f"logit:{index % 18}"), index) for index in range(count)]

    def call(some: Sequence[Pair]) -> None:
        for _ in accentuate_pairs(model, some, recipe):
            pass

    def seconds(*calls: Sequence[Pair]) -> float:
        started = time.perf_counter()
        for some in calls:
            call(some)
        return time.perf_counter() - started

    call(pairs[:1])
    before = forget_peak()
    alone = together = 0.0
    for start in range(0, count, TURN):
        part = pairs[start : start + TURN]
        alone += seconds(*([pair] for pair in part))
        together += seconds(part)
    table = Table(
        "pairs", "one call each, s", "one call, s", "ratio", "peak grew by, MiB", title=f"many pairs, {TURN} a call"
    )
    table.add_row(
        str(count), f"{alone:.1f}", f"{together:.1f}", f"{together / alone:.2f}", f"{peak_mib() - before:.0f}"
    )
    return table


def memory(sizes: Sequence[int]) -> Table:
    """Compare the estimate of a pair's memory with what a run's peak grows by, in a process of its own for each."""
    table = Table("pairs at once", "estimated, MiB", "measured, MiB", title="memory: SqueezeNet, 16 crops, bfloat16")
    for size in sizes:
        command = [sys.executable, __file__, "--measure-memory", str(size)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        estimated, measured = json.loads(answer.stdout)
        table.add_row(str(size), f"{estimated:.0f}", f"{measured:.0f}")
    return table


def measure_memory(size: int) -> tuple[float, float]:
    """Return the estimated and the measured growth of this process's peak for so many pairs at once, in MiB."""
    model, recipe = SQUEEZENET.load(), SQUEEZENET.recipe(3, precision="bfloat16")
    network = model.cast(torch.bfloat16)
    layers = frozenset({"", *model.card.regularization_layers(recipe)})
    estimated = size * bytes_per_pair(network, layers, recipe, (512, 512)) / 2**20
    pairs = [Pair(torch.rand(3, 512, 512), parse_feature(SQUEEZENET.feature), index) for index in range(size)]
    before = forget_peak()
    for _ in accentuate_pairs(model, pairs, recipe, micro_batch=size):
        pass
    return estimated, peak_mib() - before


def forget_peak() -> float:
    """Begin a new peak; return the memory that this process has now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """Return the most memory that this process has had, in MiB; getrusage's figure begins with that of its parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--quick", action="store_true", help="SqueezeNet and the reference model alone")
    parser.add_argument("--faccent", type=Path, help="folder into which faccent was installed")
    parser.add_argument("--measure-memory", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_memory:
        sys.stdout.write(json.dumps(measure_memory(arguments.measure_memory)))
        return
    console = Console(width=120)
    console.print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    console.print(against_the_floor(arguments.steps, SETTINGS[::3] if arguments.quick else SETTINGS))
    if arguments.faccent is not None:
        console.print(against_faccent(arguments.faccent, 4 if arguments.quick else 12))
    console.print(many_pairs(8 if arguments.quick else 64))
    console.print(memory((1, 2) if arguments.quick else (1, 2, 4)))


if __name__ == "__main__":
    main()
