"""Pictures a second on a GPU: ResNet-50, 512 px, 16 crops, 100 steps, regularised at layer1; and where the time goes.

``python benchmarks/gpu.py [--faccent FOLDER] [--out FOLDER]`` takes less than eight minutes on a data-centre card. It
prints the throughput by pairs at once, the share of the card's own measured matrix rate, 64 pairs in one call against
64 calls, a few steps of faccent on the same card, network and setting, and whether all that is as wanted; a profile of
ten steps is written beside. ``--device cpu --quick`` runs all of it in small, to see that it works.
"""

import argparse
import platform
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from accentor.engine import Model, Pair, accentuate_pairs, load_model
from accentor.spec import PRESETS, Recipe, parse_feature
from engine import LAYERS, faccent_step_seconds
from methods import has_faccent
from tables import on_a_gpu

MATRIX = 8_192
WARM = 3


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, size: int) -> float:
    """Return the device's measured rate of bfloat16 matrix products, in floating-point operations a second."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    repeats = 20
    for _ in range(WARM):
        left @ right
    synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        left @ right
    synchronize(device)
    return repeats * 2 * size**3 / (time.perf_counter() - started)


def seconds_of(model: Model, count: int, recipe: Recipe, *, size: int | None, single: bool = False) -> float:
    """Return the seconds of so many pairs, in one call or in one call each."""
    pairs = [
        Pair(torch.rand(3, recipe.size or 512, recipe.size or 512), parse_feature(f"logit:{index}"), index)
        for index in range(count)
    ]
    groups = [[pair] for pair in pairs] if single else [pairs]
    synchronize(model.device)
    started = time.perf_counter()
    for group in groups:
        for _, ending in accentuate_pairs(model, group, recipe, micro_batch=size):
            if isinstance(ending, Exception):
                raise ending
    synchronize(model.device)
    return time.perf_counter() - started


def operations_of_a_pair(model: Model, recipe: Recipe) -> float:
    """Return the floating-point operations of one pair's passes through the network, counted on one step's crops."""
    side, network = model.card.input_size, model.cast(torch.bfloat16)
    images = torch.rand(recipe.crops, 3, side, side, device=model.device)
    layers = frozenset(model.card.regularization_layers(recipe))
    with network.frozen(), FlopCounterMode(display=False) as counter:
        pixels = images.clone().requires_grad_()
        network.activations(pixels, frozenset({""}))[""].float().sum().backward()
        with torch.no_grad():
            network.activations(images, layers)
    return float(counter.get_total_flops() * recipe.steps)


def throughput(model: Model, recipe: Recipe, sizes: list[int], rate: float) -> tuple[Table, float]:
    """Measure pictures a second for several numbers of pairs at once; return the table and the most."""
    most = 0.0
    table = Table("pairs at once", "pictures / s", "share of the matrix rate", "peak, GiB", title="throughput")
    operations = operations_of_a_pair(model, recipe)
    for size in sizes:
        seconds_of(model, size, recipe.model_copy(update={"steps": WARM}), size=size)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        speed = size / seconds_of(model, size, recipe, size=size)
        most = max(most, speed)
        peak = torch.cuda.max_memory_allocated(model.device) / 2**30 if model.device.type == "cuda" else float("nan")
        table.add_row(str(size), f"{speed:.2f}", f"{speed * operations / rate:.1%}", f"{peak:.1f}")
    return table, most


def many_pairs(model: Model, recipe: Recipe, count: int) -> tuple[Table, float]:
    """Compare one call of many pairs, its micro-batch found by the engine, with as many calls; return the ratio too."""
    short = recipe.model_copy(update={"steps": max(WARM, recipe.steps // 5)})
    together, alone = (seconds_of(model, count, short, size=None, single=single) for single in (False, True))
    table = Table("pairs", "one call, s", "one call each, s", "ratio", title="many pairs")
    table.add_row(str(count), f"{together:.1f}", f"{alone:.1f}", f"{alone / together:.1f}")
    return table, alone / together


def write_profile(model: Model, recipe: Recipe, size: int, path: Path) -> None:
    """Write where ten steps spend their time, by kernel."""
    on_gpu = model.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as record:
        seconds_of(model, size, recipe.model_copy(update={"steps": min(recipe.steps, 10)}), size=size)
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    path.write_text(record.key_averages().table(sort_by=order, row_limit=40), encoding="utf-8")


def main() -> None:
    """Print the tables, write the profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="SqueezeNet, few steps and pairs: to see that it works")
    parser.add_argument("--faccent", type=Path, help="folder into which faccent was installed")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder for the profile")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu --quick shows that the benchmark works")
    source = "torchvision:squeezenet1_0" if arguments.quick else "torchvision:resnet50"
    model = load_model(source, weights="untrained", device=arguments.device)
    base = PRESETS["natural"].model_dump() | {"size": 512, "regularization_layer": LAYERS.get(source)}
    recipe = Recipe.model_validate(
        base | ({"steps": 4, "crops": 2} if arguments.quick else {"steps": 100, "crops": 16})
    )
    sizes = [1, 2] if arguments.quick else [1, 4, 16, 32]
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else platform.machine()
    console = Console(width=110)
    rate = matrix_rate(model.device, 512 if arguments.quick else MATRIX)
    console.print(f"{device}, torch {torch.__version__}, bfloat16 matrix rate {rate / 1e12:.1f} TFLOP/s")
    faccent_s = None
    if has_faccent(arguments.faccent):  # before ours, whose memory stays with this process
        step_s = faccent_step_seconds(arguments.faccent, model, recipe, 2 if arguments.quick else 10)
        faccent_s = step_s * recipe.steps
        console.print(
            f"faccent 1.0.3, same network, setting and device: {step_s:.3f} s a step, {faccent_s:.1f} s a picture"
        )
    else:
        console.print("faccent: no folder with it was given (--faccent), so it is not compared")
    table, speed = throughput(model, recipe, sizes, rate)
    console.print(table)
    table, ratio = many_pairs(model, recipe, 2 if arguments.quick else 64)
    console.print(table)
    table = Table(
        "verdict", "what", title="against what is wanted" + (", in small: it says nothing" if arguments.quick else "")
    )
    for verdict in on_a_gpu(speed, ratio, faccent_s):
        table.add_row(*str(verdict).split(maxsplit=1))
    console.print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_profile(model, recipe, sizes[-1], arguments.out / "profile.txt")
    console.print(f"profile: {arguments.out / 'profile.txt'}")


if __name__ == "__main__":
    main()
