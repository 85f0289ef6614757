"""``accentor accentuate``: pictures in process, without a service."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from accentor.cli.console import (
    AsJson,
    FeatureOption,
    Images,
    ModelOption,
    RecipeOption,
    WeightsOption,
    list_images,
    print_json,
    read_recipe,
    stderr,
    stdout,
)

EXIT_JOB_FAILED = 1


def accentuate(
    images: Images,
    feature: FeatureOption,
    model: ModelOption = "reference",
    weights: WeightsOption = None,
    recipe: RecipeOption = "natural",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("accentuated"),
    seed: Annotated[int, typer.Option(help="Random seed of the crops and the noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; the GPU if there is one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Accentuate every FEATURE in every IMAGE, in this process.

    Writes the accentuated picture, its opacity map, the overlay and the frames of each into the folder.
    """
    from accentor.engine import Accentuation, Pair, accentuate_pairs, load_model
    from accentor.spec import parse_feature

    chosen = read_recipe(recipe)
    features = [parse_feature(text) for text in feature]
    paths = list_images(images)
    loaded = load_model(model, weights=weights, device=device)
    loaded.card.check_recipe(chosen)
    pairs = [Pair(path, one, seed) for path in paths for one in features]
    lines: list[dict[str, Any]] = []
    with _progress(len(pairs) * chosen.steps, shown=not as_json) as (advance, say):
        for index, ending in accentuate_pairs(loaded, pairs, chosen, on_step=advance):
            pair = pairs[index]
            line: dict[str, Any] = {
                "image": str(paths[index // len(features)]),
                "feature": str(pair.feature),
                "seed": seed,
            }
            if isinstance(ending, Accentuation):
                stem = f"{paths[index // len(features)].stem}-{file_stem(str(pair.feature))}-"
                files = ending.save(out, stem)
                line |= {"before": ending.before, "after": ending.after, "files": [str(path) for path in files]}
                say(f"{pair.feature} in {line['image']}: {ending.before:.4g} → {ending.after:.4g}   {files[0]}")
            else:
                line |= {"error": {"code": ending.code, "detail": ending.detail}}
                say(f"[red]{ending.code}[/red] {ending.detail}")
            lines.append(line)
            if as_json:
                print_json(line)
    failed = sum("error" in line for line in lines)
    if failed:
        stderr().print(f"{failed} of {len(lines)} failed")
        raise typer.Exit(EXIT_JOB_FAILED)


def file_stem(text: str) -> str:
    """Return a feature's string form as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.@,+]+", "-", text.replace("-", "minus-", 1) if text.startswith("-") else text).strip(
        "-"
    )


def _progress(total: int, *, shown: bool) -> Any:
    """Return a context that gives what to call at each step, and what says a line above the bar."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from accentor.engine import StepReport

    @contextmanager
    def context() -> Any:
        columns = (
            TextColumn("accentuating"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=stderr(), disable=not shown) as bar:
            task = bar.add_task("", total=total)
            done: dict[int, int] = {}

            def advance(report: StepReport) -> None:
                done.update(dict.fromkeys(report.indices, report.step))
                bar.update(task, completed=sum(done.values()))

            def say(line: str) -> None:
                if shown:
                    (bar.console if bar.live.is_started else stdout()).print(line, soft_wrap=True, highlight=False)

            yield advance, say

    return context()
