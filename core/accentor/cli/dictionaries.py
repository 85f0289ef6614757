"""``accentor dictionary``: sets of features that batches and atlases name as a whole."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from accentor.cli.console import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    Images,
    ModelOption,
    Url,
    WeightsOption,
    Yes,
    confirm_deletion,
    list_images,
    options_named,
    print_json,
    stderr,
    stdout,
    tell_deleted,
)
from accentor.errors import InvalidRequestError, UnknownLayerError

if TYPE_CHECKING:
    from accentor.engine.loading import Skipped
    from accentor.spec import DictionaryCard, DictionaryFeature
    from accentor_client._dictionaries import DictionarySource

Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@VERSION.")]
LayerOption = Annotated[str | None, typer.Option("--layer", "-l", help="Where the file does not say it.")]
ActivationOption = Annotated[
    str | None, typer.Option(help="Of an encoder whose file does not say it: relu, topk or jumprelu.")
]
SENT_AS_THEY_ARE = (".npy", ".safetensors")
SHOWN = 10
"""Features, or images that were left out, that are shown."""


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(help="Feature dictionaries of a service; fit makes one here.", no_args_is_help=True)
    for command in (create, show, fit, delete):
        group.command()(command)
    group.command("list")(list_dictionaries)
    return group


def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    source: Annotated[
        Path | None, typer.Argument(help=".npy, .safetensors, a SAELens folder, or an overcomplete state dict (.pt).")
    ] = None,
    model: ModelOption = "reference",
    layer: LayerOption = None,
    channels: Annotated[bool, typer.Option("--channels", help="All channels of the layer; no file.")] = False,
    object_key: Annotated[
        str | None, typer.Option("--object", help="Key of a .npy or .safetensors file in the service's store.")
    ] = None,
    activation: ActivationOption = None,
    k: Annotated[int | None, typer.Option(help="Of a topk encoder.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Of a jumprelu encoder.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Names of the features: a JSON list, or one a line in a text file.")
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a dictionary at a service from a file here, a file in its store, or the channels of a layer.

    The service checks it against the model. Files are never unpickled; SAELens' and overcomplete's are converted here.
    """
    from accentor_client import Client

    if sum((source is not None, channels, object_key is not None)) != 1:
        raise InvalidRequestError("expected one of SOURCE, --channels and --object")
    encoder: dict[str, Any] = {"activation": activation, "k": k, "threshold": threshold}
    options: dict[str, Any] = {"layer": layer, "channels": channels, "object": object_key, "description": description}
    if labels is not None:
        options["labels"] = _read_labels(labels)
    sent: DictionarySource | None = source
    if source is None or source.suffix in SENT_AS_THEY_ARE:
        options |= encoder
    else:
        from accentor.engine import load_dictionary

        with options_named("layer", "activation"):
            sent = load_dictionary(source, layer, **encoder)
    with Client(url, api_key) as client:
        try:
            card = client.dictionaries.create(name, sent, model=model, **options)
        except UnknownLayerError as error:
            if layer is not None:
                raise
            raise UnknownLayerError(f"{error.detail}; {source} says so: name the model's own with --layer") from error
    print_json(card.model_dump(mode="json")) if as_json else _report(card)


def list_dictionaries(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only those of this model.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List the newest version of each dictionary."""
    from rich.table import Table

    from accentor_client import Client

    with Client(url, api_key) as client:
        cards = list(client.dictionaries.list(model))
    if as_json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    table = Table("name", "version", "model", "layer", "features", "kind", "description")
    for card in cards:
        place = (card.model, card.layer, str(card.features), card.kind)
        table.add_row(card.name, card.version, *place, escape(card.description))
    stdout().print(table)


def show(
    name: Name,
    search: Annotated[str | None, typer.Option(help="List the features whose label has this in it.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Features listed, {SHOWN} without it; all with --search and --json.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in a dictionary, what is wrong with it, and its first features."""
    from itertools import islice

    from accentor.spec.scans import shown_scan
    from accentor_client import Client

    with Client(url, api_key) as client:
        card = client.dictionaries.get(name)
        found = client.dictionaries.features(card.reference, search=search)
        shown = limit or SHOWN
        features = list(islice(found, limit if as_json and search else shown + 1))
        scans = client.dictionaries.scans(card.reference)
    if as_json:
        listed = [feature.model_dump(mode="json") for feature in features] if search else None
        about = {"scans": [scan.model_dump(mode="json") for scan in scans]} | ({"found": listed} if search else {})
        print_json({**card.model_dump(mode="json"), **about})
        return
    _report(card)
    told = shown_scan(scans)
    for scan in scans:
        how = f"{scan.reduce} of its {scan.code}-codes" if card.kind == "encoder" else scan.reduce
        said = f"scan {scan.id}  {scan.seen} images of {scan.dataset}, {how}{', shown here' if scan is told else ''}"
        stdout().print(escape(said), highlight=False, soft_wrap=True)
    for feature in features[:shown]:
        stdout().print(escape(_line(feature)), highlight=False, soft_wrap=True)
    if len(features) > shown:
        of = "" if search else f" of {card.features}"
        stderr().print(f"the first {shown}{of}; --limit lists more", highlight=False)
    if search and not features:
        stderr().print(escape(f"no label has {search!r} in it"), highlight=False)


def fit(
    images: Images,
    layer: Annotated[str, typer.Option("--layer", "-l", help="The layer's dotted name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    size: Annotated[int, typer.Option(min=1, help="Number of features.")] = 64,
    method: Annotated[
        str, typer.Option(help="nmf: few concepts as directions; topk_sae: a sparse autoencoder.")
    ] = "nmf",
    k: Annotated[int, typer.Option(min=1, help="Codes of topk_sae that are on at a position.")] = 8,
    positions: Annotated[int, typer.Option(min=1, help="Positions sampled from all images, at most.")] = 20_000,
    steps: Annotated[int, typer.Option(min=1, help="Of topk_sae, 512 positions each.")] = 1_500,
    seed: Annotated[int, typer.Option(min=0, help="Of the positions and of the fit.")] = 0,
    model: ModelOption = "reference",
    weights: WeightsOption = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; else the best there is.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a dictionary to the activations of images here; `dictionary create NAME FILE` sends it to a service.

    Of a folder the images in it, and in all folders below it, are taken; those that cannot be read are left out.
    """
    from accentor.engine import fit_dictionary, load_model

    if out.suffix != ".safetensors":
        raise InvalidRequestError(f"--out is {out}: expected a .safetensors file")
    paths = list_images(images, below=True)
    loaded = load_model(model, weights=weights, device=device)
    chosen: Any = method
    options: dict[str, Any] = {"k": k, "positions": positions, "steps": steps, "seed": seed, "name": out.stem}
    skipped: list[Skipped] = []
    try:
        with stderr().status(f"fitting {size} features to {len(paths)} images"):
            fitted = fit_dictionary(loaded, paths, layer, size, chosen, **options, on_skipped=skipped.append)
    finally:
        _report_skipped(skipped, len(paths))
    out.parent.mkdir(parents=True, exist_ok=True)
    fitted.save(out)
    report = fitted.report()
    if as_json:
        about: dict[str, Any] = {"dead": list(report.dead), "duplicates": [list(pair) for pair in report.duplicates]}
        about["skipped"] = [{"image": one.id, "reason": one.reason} for one in skipped]
        print_json({"file": str(out), "features": fitted.size, "layer": layer, **fitted.details, **about})
        return
    stdout().print(f"{escape(str(out))}  R² {fitted.details['r2']}, {report}", highlight=False, soft_wrap=True)


def delete(
    name: Name,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete a dictionary, or one version. Jobs that are still to be computed with it fail."""
    from accentor_client import Client

    with Client(url, api_key) as client:
        client.dictionaries.get(name)
        confirm_deletion(f"dictionary {name}", asked=not (yes or as_json))
        client.dictionaries.delete(name)
    tell_deleted("dictionary", name, as_json=as_json)


def _read_labels(path: Path) -> Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8")
        labels = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"--labels {path} cannot be read: {error}") from error
    if not isinstance(labels, list):
        raise InvalidRequestError(f"--labels {path} holds no list")
    return [str(label) for label in labels]


def _report(card: "DictionaryCard") -> None:
    about = f"{card.features} features ({card.kind}) of {card.layer} of {card.model}, {card.units} units"
    stdout().print(escape(f"{card.reference}  {about}"), highlight=False, soft_wrap=True)
    if card.zero or card.not_finite:
        first = ", ".join(map(str, card.dead_features[:SHOWN]))
        said = f"{card.zero} all zero, {card.not_finite} not finite, they cannot be used: {first}"
        stderr().print(said, highlight=False, soft_wrap=True)
    if card.duplicates is None:
        stderr().print("too many features to compare them with one another", highlight=False)
    elif card.duplicates:
        first = ", ".join(f"{later} as {earlier}" for later, earlier in card.duplicate_features[:SHOWN])
        repeat = "repeats" if card.duplicates == 1 else "repeat"
        stderr().print(f"{card.duplicates} {repeat} an earlier one: {first}", highlight=False, soft_wrap=True)


def _report_skipped(skipped: "Sequence[Skipped]", images: int) -> None:
    for one in skipped[:SHOWN]:
        stderr().print(escape(f"left out: {one.reason}"), highlight=False, soft_wrap=True)
    if skipped:
        stderr().print(f"{len(skipped)} of {images} images could not be read", highlight=False)


def _line(feature: "DictionaryFeature") -> str:
    parts = [feature.feature, feature.label or "", "" if feature.state == "ok" else feature.state]
    parts += [f"{name} {value:g}" for name, value in feature.statistics.items() if value is not None]
    return "  ".join(part for part in parts if part)
