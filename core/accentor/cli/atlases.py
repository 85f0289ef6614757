"""``accentor atlas``: what a whole dictionary sees in a dataset, as a site; here or at a service."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from accentor.cli.accentuating import EXIT_JOB_FAILED
from accentor.cli.console import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    ModelOption,
    RecipeOption,
    Url,
    WeightsOption,
    Yes,
    confirm_deletion,
    options_named,
    print_json,
    progress_of,
    stderr,
    stdout,
    tell_deleted,
)
from accentor.cli.recipes import SetOption, StepsOption, StrengthOption, changed_recipe
from accentor.errors import InvalidRequestError, NotFoundError
from accentor.spec import BatchState, Recipe
from accentor.spec.atlases import DEFAULT_ERRORS

if TYPE_CHECKING:
    from accentor.engine import Model, StepReport
    from accentor.engine.atlas.building import Told
    from accentor.engine.dictionaries import Dictionary
    from accentor.spec.atlases import AtlasStatus
    from accentor_client import Atlas, Client

LISTED = 20

AtlasId = Annotated[str, typer.Argument(help="Id of the atlas.")]


def build() -> typer.Typer:
    """Return the command's own commands."""
    app = typer.Typer(help="Atlases: a whole dictionary over a dataset, as a site of files.", no_args_is_help=True)
    app.command("build")(build_command)
    app.command("list")(list_command)
    for command in (show, cancel, fetch, delete):
        app.command()(command)
    return app


def build_command(
    features: Annotated[
        str,
        typer.Option("--features", "-f", help="A layer, or a dictionary: of the service; with --local a file."),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            "-d",
            metavar="FOLDER|NAME",
            help="Folder of images, whose subfolders are their labels and which is uploaded, or a dataset by name.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the site; needed with --local, else it is fetched.")
    ] = None,
    model: ModelOption = "reference",
    weights: WeightsOption = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="With --local, of a dictionary's file that does not say it.")
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(help="With --local, of an encoder whose file does not say it: relu, topk or jumprelu."),
    ] = None,
    k: Annotated[int | None, typer.Option(help="With --local, of a topk encoder.")] = None,
    threshold: Annotated[float | None, typer.Option(help="With --local, of a jumprelu encoder.")] = None,
    recipe: RecipeOption = "natural",
    steps: StepsOption = None,
    strength: StrengthOption = None,
    settings: SetOption = None,
    top_k: Annotated[int, typer.Option(min=1, max=64, help="Images shown for each feature.")] = 6,
    images: Annotated[int, typer.Option(min=0, help="Images whose own top features are all accentuated.")] = 16,
    errors: Annotated[
        int, typer.Option(min=0, help="Misclassified images shown, if the model has classes.")
    ] = DEFAULT_ERRORS,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many features.")] = None,
    title: Annotated[str | None, typer.Option(help="Of the site.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the crops and the noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="With --local, such as cuda:0; the GPU if there is one.")] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without a service.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the service.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Scan a dataset, accentuate each feature in its top images, and publish a site that opens from disk.

    Interrupted, even by force, it goes on when it is run again; with more images only what is new is computed. At a
    service it goes on there: watch it with `accentor atlas show`.
    """
    chosen = changed_recipe(recipe, steps=steps, strengths=strength or (), settings=settings or ())
    shown: dict[str, Any] = {
        "top_k": top_k,
        "images": images,
        "errors": errors,
        "limit": limit,
        "title": title,
        "seed": seed,
    }
    encoder = {"activation": activation, "k": k, "threshold": threshold}
    if local:
        if out is None:
            raise InvalidRequestError("--local without --out: say which folder the site goes into")
        page = _build_here(
            (features, layer, encoder), Path(dataset), out, chosen, shown, (model, weights, device), as_json=as_json
        )
        if as_json:
            print_json({"page": str(page)})
        else:
            _point_to(page.absolute().as_uri())
        return
    for name, value in {"weights": weights, "layer": layer, "device": device, **encoder}.items():
        if value is not None:
            raise InvalidRequestError(f"--{name} {value}: the service decides that; it goes with --local")
    _build_there(
        features,
        dataset,
        out,
        {"model": model, "recipe": chosen, **shown},
        (url, api_key),
        detach=detach,
        as_json=as_json,
    )


def list_command(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the latest atlases of a service."""
    from itertools import islice

    from accentor_client import Client

    with Client(url, api_key) as client:
        found = [atlas.status for atlas in islice(client.atlases.list(), LISTED)]
    if as_json:
        print_json([status.model_dump(mode="json") for status in found])
        return
    for status in found:
        _report(status)
    if not found:
        stderr().print("no atlases yet")


def show(
    atlas_id: AtlasId,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show how far an atlas is, step by step, what is missing of it, and where it is."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        atlas = client.atlases.get(atlas_id)
        if wait:
            atlas.wait(progress=not as_json)
    if as_json:
        print_json(atlas.status.model_dump(mode="json"))
    else:
        _tell(atlas)
    if wait:
        _end_with(atlas.state)


def cancel(atlas_id: AtlasId, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel an atlas; what was computed stays for the next one."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        stopped = client.atlases.get(atlas_id).cancel().status
    print_json(stopped.model_dump(mode="json")) if as_json else _report(stopped)


def fetch(
    atlas_id: AtlasId,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the site.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Download the site of an atlas; what is there already is not fetched again."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        page = client.atlases.get(atlas_id).download(out)
    if as_json:
        print_json({"atlas": atlas_id, "page": str(page)})
    else:
        _point_to(page.absolute().as_uri())


def delete(
    atlas_id: AtlasId,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete an atlas that has ended, with its site. The results of its jobs stay."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        atlas = client.atlases.get(atlas_id)
        confirm_deletion(f"atlas {atlas.id} ({atlas.status.title})", asked=not (yes or as_json))
        atlas.delete()
    tell_deleted("atlas", atlas_id, as_json=as_json)


def _build_here(
    features: tuple[str, str | None, dict[str, Any]],
    dataset: Path,
    out: Path,
    recipe: Recipe,
    shown: dict[str, Any],
    loading: tuple[str, str | None, str | None],
    *,
    as_json: bool,
) -> Path:
    """Build an atlas in this process, and return its first page."""
    from accentor.engine import load_model
    from accentor.engine.atlas import AtlasOptions, build_atlas, folder_items

    items = folder_items(dataset, lambda line: stderr().print(escape(line), highlight=False, soft_wrap=True))
    model, weights, device = loading
    loaded = load_model(model, weights=weights, device=device)
    dictionary = dictionary_of(*features, loaded)
    name = dataset.resolve().name or "dataset"
    with progress(len(items), shown=not as_json) as told:
        return build_atlas(loaded, dictionary, items, out, recipe, AtlasOptions(**shown), dataset=name, told=told)


def _build_there(
    features: str,
    dataset: str,
    out: Path | None,
    options: dict[str, Any],
    service: tuple[str, str | None],
    *,
    detach: bool,
    as_json: bool,
) -> None:
    """Let a service build an atlas, and fetch it if it is to lie here."""
    from accentor_client import Client

    if detach and out is not None:
        raise InvalidRequestError(f"--out {out} with --detach: fetch it later with `accentor atlas fetch`")
    with Client(*service) as client:
        kind = _kind_of(client, options["model"], features)
        name = _dataset_of(client, dataset, shown=not as_json)
        atlas = client.atlases.create(**{**options, kind: features, "dataset": name})
        if not detach:
            atlas.wait(progress=not as_json)
        page = atlas.download(out) if out is not None and atlas.status.site is not None else None
    if as_json:
        print_json(atlas.status.model_dump(mode="json") | ({"page": str(page)} if page else {}))
    elif page is not None:
        _tell(atlas)
        _point_to(page.absolute().as_uri())
    else:
        _tell(atlas)
    if not detach:
        _end_with(atlas.state)


def _kind_of(client: "Client", model: str, features: str) -> str:
    """Return whether features are a layer or a dictionary; of what is neither the service tells the nearest layers."""
    if any(layer.name == features for layer in client.models.layers(model)):
        return "layer"
    try:
        client.dictionaries.get(features)
    except NotFoundError as error:
        if Path(features).exists():
            sent = f"`accentor dictionary create NAME {features}` sends it to the service; --local builds here"
            raise InvalidRequestError(f"--features {features} is a file here: {sent}") from error
        return "layer"
    return "dictionary"


def _dataset_of(client: "Client", dataset: str, *, shown: bool) -> str:
    """Return the name of a dataset of the service: a folder here becomes one, called as the folder is."""
    folder = Path(dataset)
    if not folder.is_dir():
        return dataset
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("._-") or "dataset"
    with progress_of(f"dataset {name}", shown=shown) as told:
        return client.datasets.create(name, folder=folder, on_progress=told).reference


def _tell(atlas: "Atlas") -> None:
    _report(atlas.status)
    for step in atlas.status.steps:
        if step.state is not None:
            notes = {"failed": step.failed, "there before": step.cached}
            more = "".join(f", {count} {name}" for name, count in notes.items() if count)
            stdout().print(f"  {step.name:<10}  {step.state}  {step.done} of {step.total}{more}", highlight=False)
    site = atlas.status.site
    for gap in site.gaps if site else ():
        stderr().print(escape(f"missing: {gap}"), highlight=False, soft_wrap=True)
    if atlas.url is not None:
        _point_to(atlas.url)
    elif atlas.error is not None:
        stderr().print(escape(f"{atlas.error.code}: {atlas.error.detail}"), style="red", soft_wrap=True)


def _report(status: "AtlasStatus") -> None:
    """Print an atlas on one line."""
    text = f"{status.id}  {status.state}  {status.title}"
    stdout().print(escape(text), highlight=False, soft_wrap=True)


def _point_to(address: str) -> None:
    stderr().print(f"See it:  {escape(address)}", soft_wrap=True, style="bold")


def _end_with(state: BatchState) -> None:
    """Exit with 1 unless all of it is there."""
    if state is not BatchState.SUCCEEDED:
        raise typer.Exit(EXIT_JOB_FAILED)


def dictionary_of(features: str, layer: str | None, encoder: Mapping[str, Any], model: "Model") -> "Dictionary":
    """Return the dictionary of a file, with what the file may not say of it, or all channels of a layer."""
    from accentor.engine.dictionaries import channels_of, load_dictionary, registered_dictionaries

    if features in registered_dictionaries() or Path(features).exists():
        with options_named("layer", "activation"):
            return load_dictionary(features, layer, **encoder)
    for name, value in {"layer": layer, **encoder}.items():
        if value is not None:
            raise InvalidRequestError(f"--{name} {value}: it goes with a dictionary's file, and {features} is none")
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
