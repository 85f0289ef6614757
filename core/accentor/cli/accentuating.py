"""``accentor accentuate``: pictures in process, without a service."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

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
)
from accentor.spec import Feature, parse_feature

if TYPE_CHECKING:
    from accentor.engine import StepReport
    from accentor.engine.accentuate import OnStep

EXIT_JOB_FAILED = 1
MAX_STEM = 100


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
    from accentor.engine import Accentuation, Pair, accentuate_pairs, inline, load_model

    chosen = read_recipe(recipe)
    features = [parse_feature(text) for text in feature]
    paths = list_images(images)
    loaded = load_model(model, weights=weights, device=device)
    loaded.card.check_recipe(chosen)
    for one in features:
        loaded.card.resolve(inline(one))
    pairs = [Pair(path, one, seed) for path in paths for one in features]
    stems = unique([f"{path.stem}-{file_stem(one)}" for path in paths for one in features])
    failed = 0
    with progress(len(pairs) * chosen.steps, shown=not as_json) as (advance, say):
        for index, ending in accentuate_pairs(loaded, pairs, chosen, on_step=advance):
            image, name = str(paths[index // len(features)]), str(pairs[index].feature)
            line: dict[str, Any] = {"image": image, "feature": name, "seed": seed}
            if isinstance(ending, Accentuation):
                files = [str(path) for path in ending.save(out, f"{stems[index]}-")]
                line |= {"before": ending.before, "after": ending.after, "files": files}
                say(f"{name} in {image}: {ending.before:.4g} → {ending.after:.4g}   {files[0]}")
            else:
                failed += 1
                line |= {"error": {"code": ending.code, "detail": ending.detail}}
                say(f"{ending.code}: {ending.detail}")
            if as_json:
                print_json(line)
    if failed:
        stderr().print(f"{failed} of {len(pairs)} failed")
        raise typer.Exit(EXIT_JOB_FAILED)


def file_stem(feature: Feature) -> str:
    """Return a feature's string form as part of a file name: a sign in front is spelt out."""
    text = str(feature)
    plain = f"minus-{text[1:]}" if text.startswith("-") else text
    return re.sub(r"[^A-Za-z0-9.@,+]+", "-", plain).strip("-")[:MAX_STEM]


def unique(stems: Sequence[str]) -> list[str]:
    """Return the names with their place behind those that stand more than once."""
    times = Counter(stems)
    return [stem if times[stem] == 1 else f"{stem}-{place}" for place, stem in enumerate(stems)]


@contextmanager
def progress(total: int, *, shown: bool) -> "Iterator[tuple[OnStep, Callable[[str], None]]]":
    """Give what to call at each step, and what says a line above the bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("accentuating"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), disable=not shown) as bar:
        task = bar.add_task("", total=total)
        done: dict[int, int] = {}

        def advance(report: "StepReport") -> None:
            done.update(dict.fromkeys(report.indices, report.step))
            bar.update(task, completed=sum(done.values()))

        def say(line: str) -> None:
            if shown:
                bar.console.print(escape(line), soft_wrap=True, highlight=False)

        yield advance, say
