"""``accentor atlas``: what a whole dictionary sees in a dataset, as a site."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from accentor.cli.console import AsJson, ModelOption, RecipeOption, WeightsOption, print_json, stderr
from accentor.cli.recipes import SetOption, StepsOption, StrengthOption, changed_recipe
from accentor.errors import InvalidRequestError

if TYPE_CHECKING:
    from accentor.engine import Model, StepReport
    from accentor.engine.atlas.building import Told
    from accentor.engine.dictionaries import Dictionary


def build() -> typer.Typer:
    """Return the command's own commands."""
    app = typer.Typer(help="Atlases: a whole dictionary over a dataset, as a site of files.", no_args_is_help=True)
    app.callback()(lambda: None)
    app.command("build")(build_command)
    return app


def build_command(
    features: Annotated[str, typer.Option("--features", "-f", help="A layer, or a dictionary: a file or a folder.")],
    dataset: Annotated[Path, typer.Option("--dataset", "-d", help="Folder of images; subfolders are their labels.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the site.")],
    model: ModelOption = "reference",
    weights: WeightsOption = None,
    recipe: RecipeOption = "natural",
    steps: StepsOption = None,
    strength: StrengthOption = None,
    settings: SetOption = None,
    top_k: Annotated[int, typer.Option(min=1, max=64, help="Images shown for each feature.")] = 6,
    images: Annotated[int, typer.Option(min=0, help="Images whose own top features are all accentuated.")] = 16,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many features.")] = None,
    title: Annotated[str | None, typer.Option(help="Of the site.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the crops and the noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; the GPU if there is one.")] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without a service.")] = False,
    as_json: AsJson = False,
) -> None:
    """Scan a dataset, accentuate each feature in its top images, and publish a site that opens from disk.

    Interrupted, even by force, it goes on when it is run again; with more images only what is new is computed.
    """
    if not local:
        raise InvalidRequestError("an atlas is built in this process only, so far: add --local")
    chosen = changed_recipe(recipe, steps=steps, strengths=strength or (), settings=settings or ())
    from accentor.engine import load_model
    from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items

    items = folder_items(dataset)
    loaded = load_model(model, weights=weights, device=device)
    dictionary = dictionary_of(features, loaded)
    options = AtlasOptions(top_k=top_k, images=images, limit=limit, seed=seed, title=title)
    with progress(len(items), shown=not as_json) as told:
        page = build_atlas(
            loaded, dictionary, items, out, chosen, options, dataset=dataset.resolve().name or "dataset", told=told
        )
    if as_json:
        print_json({"page": str(page)})
    else:
        stderr().print(f"See it:  {escape(page.absolute().as_uri())}", soft_wrap=True, style="bold")


def dictionary_of(features: str, model: "Model") -> "Dictionary":
    """Return the dictionary of a file, or all channels of a layer."""
    from accentor.engine.dictionaries import channels_of, load_dictionary, registered_dictionaries

    if features in registered_dictionaries() or Path(features).exists():
        return load_dictionary(features)
    return channels_of(model, features)


@contextmanager
def progress(images: int, *, shown: bool) -> "Iterator[Told]":
    """Give what says how far an atlas is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from accentor.engine.atlas.building import Told

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), disable=not shown) as bar:
        scanning = bar.add_task("scanning", total=images)
        pictures = bar.add_task("accentuating", total=None, visible=False)
        made = {"done": 0}
        under_way: dict[int, float] = {}

        def on_step(report: "StepReport") -> None:
            under_way.update(dict.fromkeys(report.indices, report.step / report.steps))
            bar.update(pictures, completed=round(max(made["done"], sum(under_way.values()))))

        def on_picture(done: int, total: int) -> None:
            made["done"] = done
            bar.update(pictures, total=total, completed=done, visible=True)

        yield Told(
            say=lambda line: bar.console.print(escape(line), style="dim", highlight=False) if shown else None,
            on_scan=lambda done: bar.update(scanning, completed=done),
            on_step=on_step,
            on_picture=on_picture,
        )
