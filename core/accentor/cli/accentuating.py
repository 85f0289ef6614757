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
    stderr,
)
from accentor.cli.recipes import SetOption, StepsOption, StrengthOption, changed_recipe
from accentor.cli.writing import check_extras, numbers, write, write_page
from accentor.spec import Feature, parse_feature

if TYPE_CHECKING:
    from accentor.engine import StepReport
    from accentor.engine.running import OnStep

EXIT_JOB_FAILED = 1
MAX_STEM = 100
MORE = "More files"


def accentuate(
    images: Images,
    feature: FeatureOption,
    model: ModelOption = "reference",
    weights: WeightsOption = None,
    recipe: RecipeOption = "natural",
    steps: StepsOption = None,
    strength: StrengthOption = None,
    settings: SetOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("accentuated"),
    video: Annotated[bool, typer.Option("--video", help="The frames as MP4 too.", rich_help_panel=MORE)] = False,
    figure: Annotated[
        bool, typer.Option("--figure", help="A figure with the curves of value and distance.", rich_help_panel=MORE)
    ] = False,
    strip: Annotated[
        bool, typer.Option("--strip", help="Seed, accentuated, what and opacity in one.", rich_help_panel=MORE)
    ] = False,
    difference: Annotated[
        bool, typer.Option("--difference", help="Accentuated less seed: grey is none.", rich_help_panel=MORE)
    ] = False,
    page: Annotated[
        bool, typer.Option("--page", help="One page with all pictures, index.html.", rich_help_panel=MORE)
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the crops and the noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; the GPU if there is one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Accentuate every FEATURE in every IMAGE, in this process.

    Writes the accentuated picture, its opacity map, the overlay and the frames of each into the folder, and with
    strengths the sweep.
    """
    wanted = {"figure.png": figure, "strip.png": strip, "difference.png": difference, "frames.mp4": video}
    extras = [name for name, is_wanted in wanted.items() if is_wanted]
    chosen = changed_recipe(recipe, steps=steps, strengths=strength or (), settings=settings or ())
    check_extras(extras)
    from accentor.engine import Accentuation, Pair, StepReport, accentuate_pairs, inline, load_model

    features = [parse_feature(text) for text in feature]
    paths = list_images(images)
    loaded = load_model(model, weights=weights, device=device)
    loaded.card.check_recipe(chosen)
    for one in features:
        loaded.card.resolve(inline(one))
    pairs = [Pair(path, one, seed) for path in paths for one in features]
    stems = unique([f"{path.stem}-{file_stem(one)}" for path in paths for one in features])
    shown: dict[int, Accentuation] = {}
    failed = 0
    with progress(len(pairs), shown=not as_json) as (advance, say):
        for index, ending in accentuate_pairs(loaded, pairs, chosen, on_step=advance):
            advance(StepReport((index,), 1, 1, ()))
            line: dict[str, Any] = {
                "image": str(pairs[index].image),
                "feature": str(pairs[index].feature),
                "seed": seed,
            }
            if isinstance(ending, Accentuation):
                files = [str(path) for path in write(ending, out, f"{stems[index]}-", extras)]
                line |= {**numbers(ending), "files": files}
                say("{feature} in {image}: {before:.4g} → {after:.4g}   ".format(**line) + files[0])
                shown |= {index: ending} if page else {}
            else:
                failed += 1
                line |= {"error": {"code": ending.code, "detail": ending.detail}}
                say(f"{ending.code}: {ending.detail}")
            if as_json:
                print_json(line)
    if shown:
        where = write_page([shown[index] for index in sorted(shown)], out)
        stderr().print(f"See them:  {escape(where.absolute().as_uri())}", soft_wrap=True, style="bold")
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
        done: dict[int, float] = {}

        def advance(report: "StepReport") -> None:
            share = report.step / report.steps
            done.update({index: max(share, done.get(index, 0.0)) for index in report.indices})
            bar.update(task, completed=sum(done.values()))

        def say(line: str) -> None:
            if shown:
                bar.console.print(escape(line), soft_wrap=True, highlight=False)

        yield advance, say
