"""What the commands share: consoles, common options, and JSON for scripts."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from accentor.errors import InvalidFeatureError, InvalidImageError, InvalidRecipeError
from accentor.images import images_below, images_in, no_images
from accentor.spec import PRESETS, Recipe, resolve_recipe

DEFAULT_URL = "http://127.0.0.1:8000"


def complete_preset(incomplete: str) -> list[str]:
    """Return the presets that begin so."""
    return [name for name in PRESETS if name.startswith(incomplete)]


Url = Annotated[str, typer.Option("--url", envvar="ACCENTOR_URL", help="Address of the service.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="ACCENTOR_API_KEY", show_default=False, help="Key of the service, if it asks."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="Model, such as reference or torchvision:resnet50.")]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", "-w", help="Name of torchvision's, or a .safetensors file.")
]
FeatureOption = Annotated[
    list[str], typer.Option("--feature", "-f", help="Feature, such as logit:207 or -channel:layer3:12; repeatable.")
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        "-r",
        help="natural, fast, paper, or settings as JSON: '{\"steps\": 40}'.",
        autocompletion=complete_preset,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Images = Annotated[list[Path], typer.Argument(help="Images, or folders of images.")]


def stdout() -> Console:
    """Return the console for what was asked for."""
    return Console()


def stderr() -> Console:
    """Return the console for progress and errors."""
    return Console(stderr=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, plain, to standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def confirm_deletion(what: str, *, asked: bool) -> None:
    """Ask whether something is to be deleted, where that is wanted; a no ends the command."""
    if asked:
        typer.confirm(f"Delete {what}?", abort=True, err=True)


def tell_deleted(kind: str, name: str, *, as_json: bool) -> None:
    """Say that something is gone."""
    print_json({kind: name, "deleted": True}) if as_json else stdout().print(f"{escape(name)}  deleted")


@contextmanager
def progress_of(what: str, *, shown: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Give what says how many of something are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = stderr()
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def options_named(*options: str) -> Iterator[None]:
    """Name the option of the command that says what a dictionary's file does not say."""
    try:
        yield
    except InvalidFeatureError as error:
        if (missing := error.extra.get("missing")) not in options:
            raise
        raise InvalidFeatureError(f"{error.detail.rpartition(': ')[0]}: give --{missing}") from error


def read_recipe(text: str) -> Recipe:
    """Return the recipe that a preset's name or a JSON object means."""
    if not text.lstrip().startswith("{"):
        return resolve_recipe(text)
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRecipeError(f"the recipe {text!r} is no JSON: {error}") from error
    return resolve_recipe(settings)


def list_images(paths: Iterable[Path], *, below: bool = False) -> list[Path]:
    """Return the images, each folder replaced by the images in it (and `below` it), in order of their names."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        taken = images_below(path) if below else images_in(path)
        if not taken:
            deeper = len(images_below(path))
            aside = f"; {deeper} lie in folders below it, name those" if deeper else ""
            raise InvalidImageError(f"{no_images(path)}{aside}")
        found += taken
    return found
