"""``accentor submit``: images and features, or lines of jobs, to a service."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from accentor.cli.console import (
    DEFAULT_URL,
    ApiKey,
    AsJson,
    Url,
    complete_preset,
    list_images,
    print_json,
    stderr,
    stdout,
)
from accentor.cli.recipes import SetOption, StepsOption, StrengthOption, changed_recipe
from accentor.dictionaries import SAELENS_CONFIG
from accentor.errors import InvalidRequestError, RequestError
from accentor.spec import Encoder, Entry, Feature, Product, Sum, parse_feature
from accentor.spec.dictionaries import REFERENCE_FORM
from accentor.spec.features import OneAtom, replace_atoms

if TYPE_CHECKING:
    from accentor_client import Batch, Client, Estimate

EXIT_REFUSED = 2
FAULTS_SHOWN = 20
LINES_SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
STDIN = "-"
WHAT, HOW = "What", "How"


def submit(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="JOBS.jsonl | IMAGES…",
            help="One file of JSON Lines (- reads them from standard input), or images and folders of images.",
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            "--feature", "-f", help="Such as logit:207 or -channel:layer3:12; repeatable.", rich_help_panel=WHAT
        ),
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="All channels of a layer.", rich_help_panel=WHAT)] = None,
    dictionary: Annotated[
        str | None, typer.Option("--dictionary", help="All features of a dictionary.", rich_help_panel=WHAT)
    ] = None,
    index_range: Annotated[
        str | None, typer.Option("--range", help="Of the layer or dictionary, such as 0:512.", rich_help_panel=WHAT)
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Every so many of them.", rich_help_panel=WHAT)] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="All images of a dataset.", rich_help_panel=WHAT)
    ] = None,
    pairing: Annotated[str | None, typer.Option(help="product or zip.", rich_help_panel=WHAT)] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Each feature with its top images of the dataset, as scanned.", rich_help_panel=WHAT),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Random seeds per pair.", rich_help_panel=WHAT)] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A model that the service serves; else reference.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="natural, fast, paper, or settings as JSON; else natural.",
            autocompletion=complete_preset,
        ),
    ] = None,
    steps: StepsOption = None,
    strength: StrengthOption = None,
    settings: SetOption = None,
    custom_id: Annotated[
        str | None, typer.Option(help="Pattern, such as {feature}-{image:.8}-{seed}.", rich_help_panel=HOW)
    ] = None,
    lane: Annotated[str | None, typer.Option(help="bulk or interactive.", rich_help_panel=HOW)] = None,
    deadline: Annotated[
        int | None, typer.Option(min=1, help="Seconds; what has not begun by then fails.", rich_help_panel=HOW)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute again what is there.", rich_help_panel=HOW)] = False,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="NAME=TEXT", help="Repeatable.", rich_help_panel=HOW)
    ] = None,
    skip_invalid: Annotated[
        bool,
        typer.Option("--skip-invalid", help="Leave wrong lines out; else they refuse the whole.", rich_help_panel=HOW),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it would be; exit 2 if refused.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Submit a batch: a file of JSON Lines, one job a line, or every FEATURE × every IMAGE, here or of a dataset.

    Images that the service has already are not sent again. In a file of lines, an image is a sha256 or a path from
    the file's folder.
    """
    from accentor_client import Client

    if pairing is not None and top_k is not None:
        raise InvalidRequestError("--pairing and --top-k were given: a batch takes one of them")
    product = {
        "features": _features(feature or (), layer, dictionary, index_range, stride),
        "images": None if dataset is None else {"dataset": dataset},
        "pairing": pairing if top_k is None else {"top_k": top_k},
        "seeds": seeds,
        "custom_id": custom_id,
    }
    common = {
        "model": model,
        "recipe": _recipe(recipe, steps, strength or (), settings or ()),
        "lane": lane,
        "deadline_s": deadline,
        "force": force or None,
        "metadata": read_metadata(metadata or ()),
    }
    with Client(url, api_key) as client:
        if is_lines(given := sources or []):
            found = _submit_lines(client, given[0], common, product, skip=skip_invalid, dry_run=dry_run)
        else:
            found = _submit_product(client, given, common | product, skip=skip_invalid, dry_run=dry_run)
        _tell(found, wait=wait, as_json=as_json)


def is_lines(sources: Sequence[Path]) -> bool:
    """Tell whether the arguments are a file of JSON Lines, and not images."""
    texts = [str(source).lower() for source in sources]
    named = [text for text in texts if text == STDIN or text.endswith(LINES_SUFFIXES)]
    if named and len(sources) > 1:
        raise InvalidRequestError(f"{named[0]} holds a whole batch: give it alone, or images alone")
    return bool(named)


def read_metadata(texts: Sequence[str]) -> dict[str, str] | None:
    """Return what NAME=TEXT means, or none if nothing is given."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (name, equals, _) in zip(texts, pairs, strict=True) if not (name and equals)]:
        raise InvalidRequestError(f"--metadata {wrong[0]!r}: expected NAME=TEXT")
    return {name: value for name, _, value in pairs} or None


def by_value(feature: Feature) -> Feature:
    """Return the feature with its files read here; dictionaries of this name are the service's, unless a file is."""
    return replace_atoms(feature, _atom_by_value) if feature.references else feature


def _atom_by_value(atom: OneAtom) -> OneAtom:
    name = atom.reference and atom.reference.rpartition("#")[0]
    is_served = isinstance(atom, Entry | Encoder) and re.fullmatch(REFERENCE_FORM, name or "")
    if atom.reference is None or (is_served and not _is_file(Path(name or ""))):
        return atom
    from accentor.engine import inline

    read = inline(atom)
    if isinstance(read, Sum | Product):
        raise InvalidRequestError(f"{atom} is a {read.kind}: expected a single feature")
    return read


def _is_file(path: Path) -> bool:
    return path.is_file() or (path / SAELENS_CONFIG).is_file()


def report_estimate(estimate: "Estimate") -> None:
    """Print what a batch would be."""
    about = "" if estimate.exact else "about "
    parts = [f"{estimate.total} jobs of {estimate.images} images", f"{about}{estimate.cached} computed before"]
    if estimate.device_seconds is not None:
        parts.append(f"about {estimate.device_seconds:.0f} s of a device")
    stdout().print("; ".join(parts), highlight=False)
    report_faults(estimate.refused, estimate.invalid_lines)


def report_faults(faults: Sequence[Any], invalid_lines: int = 0) -> None:
    """Print what is wrong with a request, one fault a line."""
    for fault in faults[:FAULTS_SHOWN]:
        line = f"line {fault['line']}: " if "line" in fault else ""
        said = f"{line}{fault.get('pointer', '')} {fault.get('code', '')}: {fault.get('detail', '')}"
        stderr().print(escape(said), soft_wrap=True, highlight=False)
    if len(faults) > FAULTS_SHOWN or invalid_lines > len(faults):
        stderr().print(f"… {max(len(faults), invalid_lines)} in all", highlight=False)


def _features(
    texts: Sequence[str], layer: str | None, dictionary: str | None, index_range: str | None, stride: int | None
) -> Any:
    given = {"--feature": texts, "--layer": layer, "--dictionary": dictionary}
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise InvalidRequestError(f"{' and '.join(names)} were given: a batch takes one of them")
    selection = {"range": index_range, "stride": stride}
    chosen = {name: value for name, value in selection.items() if value is not None}
    if chosen and not (layer or dictionary):
        raise InvalidRequestError("--range and --stride go with --layer or --dictionary")
    if layer or dictionary:
        return ({"layer": layer} if layer else {"dictionary": dictionary}) | chosen
    return [by_value(parse_feature(text)) for text in texts] or None


def _recipe(recipe: str | None, steps: int | None, strengths: Sequence[str], settings: Sequence[str]) -> Any:
    is_plain = recipe is None or not recipe.lstrip().startswith("{")
    if is_plain and steps is None and not (strengths or settings):
        return recipe
    return changed_recipe(recipe or "natural", steps=steps, strengths=strengths, settings=settings)


def _submit_lines(
    client: "Client", source: Path, common: dict[str, Any], product: dict[str, Any], *, skip: bool, dry_run: bool
) -> "Batch | Estimate":
    if names := [name for name, value in product.items() if value is not None]:
        raise InvalidRequestError(f"{', '.join(names)}: that goes with images; in {source} each line says it")
    lines = sys.stdin.buffer if str(source) == STDIN else source
    options: Any = common | {"on_invalid": "skip" if skip else None}
    try:
        call = client.batches.estimate_lines if dry_run else client.batches.submit_lines
        return call(lines, **options)
    except RequestError as error:
        report_faults(error.extra.get("errors", ()), error.extra.get("invalid_lines", 0))
        raise


def _submit_product(
    client: "Client", sources: Sequence[Path], options: dict[str, Any], *, skip: bool, dry_run: bool
) -> "Batch | Estimate":
    if skip:
        raise InvalidRequestError("--skip-invalid goes with a file of JSON Lines")
    if options["features"] is None:
        raise InvalidRequestError("give --feature, --layer or --dictionary, or a file of JSON Lines in place of images")
    if bool(sources) == (options["images"] is not None):
        raise InvalidRequestError("expected either images, a file of JSON Lines, or --dataset")
    fields: Any = {"model": "reference", "images": list_images(sources)}
    fields |= {name: value for name, value in options.items() if value is not None}
    call = client.batches.estimate if dry_run else client.batches.create
    return call(**fields)


def _tell(found: "Batch | Estimate", *, wait: bool, as_json: bool) -> None:
    from accentor_client import Estimate

    if isinstance(found, Estimate):
        print_json(found.model_dump(mode="json")) if as_json else report_estimate(found)
        if not found.accepted:
            raise typer.Exit(EXIT_REFUSED)
    elif wait:
        _wait(found, as_json=as_json)
    elif as_json:
        print_json(found.status.model_dump(mode="json"))
    else:
        skipped = f", {found.status.skipped} lines left out" if found.status.skipped else ""
        stdout().print(f"{found.id}  {found.status.total} jobs{skipped}", highlight=False)
        hint = f"accentor watch {found.id}\naccentor fetch {found.id} --out results"
        stdout().print(hint, style="dim", highlight=False)


def _wait(batch: "Batch", *, as_json: bool) -> None:
    from accentor.cli.following import end_with, report

    batch.wait(progress=not as_json)
    print_json(batch.status.model_dump(mode="json")) if as_json else report(batch.status)
    end_with(batch.status)
