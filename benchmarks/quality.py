"""The quality table: presets beside faccent, on the same images, seeds and budget; and a sheet of their pictures.

``python benchmarks/quality.py --quick`` takes minutes; ``--faccent FOLDER`` adds faccent's rows, where FOLDER was
filled by ``pip install --target FOLDER --no-deps faccent==1.0.3 einops decorator``. With ACCENTOR_TEST_ASSETS set, the
real network and photographs are measured too. ``--explore grid.json`` measures recipes, and writes CSV and Markdown.
"""

import argparse
import csv
import itertools
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from accentor.spec import PRESETS, Recipe, resolve_recipe
from engine import untuned
from measures import Row, measure
from methods import FACCENT, Picture, has_faccent, run_adversarial, run_faccent, run_recipe
from sheets import sheet
from suites import Suite, photograph_suite, reference_suite
from tables import BEST_FACCENT, cells, show, to_markdown, verdicts

ADVERSARIAL = "pixel step, natural's distance"


@dataclass(frozen=True)
class Method:
    """A row to be: its name, and what runs it on a suite."""

    name: str
    run: Callable[[Suite], list[Picture]]


def our_methods(recipes: Sequence[str]) -> list[Method]:
    """Return the presets and the recipes given as JSON."""
    chosen: dict[str, Recipe] = {}
    for text in recipes:
        if text in PRESETS:
            chosen[text] = PRESETS[text]
        else:
            chosen[label(json.loads(text))] = resolve_recipe(json.loads(text))
    return [Method(name, lambda suite, recipe=recipe: run_recipe(suite, recipe)) for name, recipe in chosen.items()]


def faccent_methods(
    package: Path | None, names: Sequence[str], environment: Mapping[str, str] | None = None
) -> list[Method]:
    """Return faccent's settings; none where it is not installed."""
    if package is None or not has_faccent(package):
        return []
    return [
        Method(name, lambda suite, name=name: run_faccent(suite, FACCENT[name], package, environment)) for name in names
    ]


def run(suite: Suite, methods: Sequence[Method]) -> tuple[list[Row], dict[str, list[Picture]]]:
    """Run every method on the suite; a pixel step as far from the seeds as `natural` is the last row."""
    rows, pictures = [], {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for method in bar.track(methods, description=suite.name):
            pictures[method.name] = method.run(suite)
            rows.append(measure(method.name, suite, pictures[method.name]))
    if "natural" in pictures:
        pictures[ADVERSARIAL] = run_adversarial(suite, pictures["natural"])
        rows.append(measure(ADVERSARIAL, suite, pictures[ADVERSARIAL]))
    return rows, pictures


def label(settings: dict[str, Any]) -> str:
    """Return settings as a short name."""
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "natural"


def grid(plan: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of a plan: settings, or ``{"base": {...}, "vary": {name: [values]}}``, or a list of these.

    ``vary`` changes one setting at a time; ``product`` in its place changes all together.
    """
    for entry in plan if isinstance(plan, list) else [plan]:
        if not isinstance(entry, dict) or not {"base", "vary", "product"} & entry.keys():
            yield entry
            continue
        base = entry.get("base", {})
        for name, values in entry.get("vary", {}).items():
            yield from ({**base, name: value} for value in values)
        axes = entry.get("product", {})
        for values in itertools.product(*axes.values()) if axes else ():
            yield {**base, **dict(zip(axes, values, strict=True))}


def explore(suite: Suite, plan: Any, out: Path, console: Console) -> None:
    """Measure every recipe of the plan; write ``explore.csv`` row by row, then the Markdown table."""
    rows: list[Row] = []
    out.mkdir(parents=True, exist_ok=True)
    with (out / "explore.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = [field.name for field in fields(Row)]
        writer.writerow([*names, "recipe"])
        for settings in grid(plan):
            row = measure(label(settings), suite, run_recipe(suite, resolve_recipe(settings)))
            rows.append(row)
            writer.writerow([asdict(row)[name] for name in names] + [json.dumps(settings)])
            file.flush()
            console.print(row.name, *cells(row), sep="  ")
    show(console, suite.name, rows)
    (out / "explore.md").write_text(to_markdown(suite.name, rows, []), encoding="utf-8")


def report(suite: Suite, methods: Sequence[Method], out: Path, stem: str, console: Console) -> None:
    """Measure one suite; print, and write table and sheet."""
    rows, pictures = run(suite, methods)
    title = f"{suite.name}: {len(suite.cases)} pairs"
    show(console, title, rows)
    if suite.judge is None:
        console.print("transfer: no second real network is at hand, so it is measured on the reference suite alone")
    found = verdicts(rows)
    for verdict in found:
        console.print(str(verdict), highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{stem}.md").write_text(to_markdown(title, rows, found), encoding="utf-8")
    sheet(suite, pictures).save(out / f"{stem}.png")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=None, help="presets' names or JSON; none: natural, fast, paper")
    parser.add_argument("--images", type=int, help="images per feature (twice: with and without it), or photographs")
    parser.add_argument("--features", type=int, help="labels, or classes per photograph")
    parser.add_argument("--seeds", type=int, default=1, help="random seeds per pair")
    parser.add_argument("--quick", action="store_true", help="few pairs, without paper and faccent's default setting")
    parser.add_argument("--suite", choices=("reference", "photographs", "all"), default="all")
    parser.add_argument("--faccent", type=Path, help="folder into which faccent was installed")
    parser.add_argument("--untuned", action="store_true", help="faccent's allocator as it comes, however ours is tuned")
    parser.add_argument("--explore", type=Path, help="JSON file of recipes to measure instead")
    parser.add_argument("--out", type=Path, default=Path("quality"), help="folder for tables and sheets")
    return parser.parse_args()


def suites(arguments: argparse.Namespace) -> Iterator[tuple[str, Suite]]:
    """Yield the suites that were asked for, and can be had."""
    quick = arguments.quick
    if arguments.suite != "photographs":
        images, features = arguments.images or (1 if quick else 2), arguments.features or (6 if quick else 18)
        yield "reference", reference_suite(images, features, arguments.seeds)
    if arguments.suite != "reference":
        found = photograph_suite(arguments.images or (1 if quick else 8), arguments.features or 2, arguments.seeds)
        if found is not None:
            yield "photographs", found


def main() -> None:
    """Measure, print, write."""
    arguments = read_arguments()
    console = Console(width=190)
    console.print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}", highlight=False
    )
    names = arguments.recipes or (["natural", "fast"] if arguments.quick else list(PRESETS))
    settings = [BEST_FACCENT] if arguments.quick else list(FACCENT)
    environment = untuned() if arguments.untuned else None
    methods = our_methods(names) + faccent_methods(arguments.faccent, settings, environment)
    if not has_faccent(arguments.faccent):
        console.print("faccent: no folder with it was given (--faccent), so its rows are absent")
    for stem, suite in suites(arguments):
        if arguments.explore is not None:
            explore(suite, json.loads(arguments.explore.read_text()), arguments.out / stem, console)
        else:
            report(suite, methods, arguments.out, stem, console)


if __name__ == "__main__":
    sys.exit(main())
