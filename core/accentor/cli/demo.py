"""``make demo``: the whole service on this machine, 48 accentuations, and a page that shows them."""

import re
import shlex
import sys
import time
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from accentor.cli.accentuating import EXIT_JOB_FAILED
from accentor.cli.console import list_images, read_recipe, stdout
from accentor.cli.main import run_app
from accentor.cli.serving import read_models
from accentor.cli.submitting import by_value
from accentor.errors import InvalidFeatureError, InvalidImageError
from accentor.spec import Channel, Direction, Feature, ModelCard, parse_feature
from accentor.spec.features import KINDS

if TYPE_CHECKING:
    from accentor_client import Batch
    from accentor_client.results import JobResult

DEMO_RECIPE = "fast"
SCENES = 6
CHANNELS = 8
SERVED_AS = "demo"
BETWEEN_FEATURES = re.compile(rf"[;,]\s*(?=[-+]?\s*(?:[\d.]+\s*\*\s*)?(?:{'|'.join(KINDS)}):)")


def demo(
    model: Annotated[str, typer.Option(envvar="MODEL", help="reference, or torchvision:NAME.")] = "reference",
    weights: Annotated[str, typer.Option(envvar="WEIGHTS", help="DEFAULT, or a .safetensors file.")] = "",
    images: Annotated[str, typer.Option(envvar="IMAGES", help="Images or folders; none: sample scenes.")] = "",
    features: Annotated[str, typer.Option(envvar="FEATURES", help="Features, separated by semicolons.")] = "",
    recipe: Annotated[str, typer.Option(envvar="RECIPE", help="Preset, or settings as JSON.")] = "",
    out: Annotated[Path, typer.Option(envvar="OUT", help="Folder for the page and the data.")] = Path("accentor-demo"),
) -> None:
    """Start the embedded service, accentuate, write a page, and stop the service."""
    from accentor.embedded import EmbeddedService
    from accentor_client import Client

    console = stdout()
    served = f"{SERVED_AS}={model}{f',{weights}' if weights else ''}"
    models = read_models([served])
    paths = read_images(images)
    chosen = read_features(features)
    settings = read_recipe(recipe or DEMO_RECIPE)
    started = time.monotonic()
    service = EmbeddedService(out / "service", models=models, on_state=lambda text: console.print(text, style="dim"))
    with service, Client(service.url) as client:
        chosen = chosen or default_features(client.models.get(SERVED_AS))
        ready = time.monotonic()
        batch = client.batches.create(model=SERVED_AS, features=chosen, images=list(paths), recipe=settings)
        console.print(f"{len(chosen)} features × {len(paths)} images: {batch.status.total} jobs to {service.url}")
        results = sorted(batch.results(progress=True), key=lambda result: result.index)
        seconds = time.monotonic() - ready
        page = write_page(results, paths, out, model, seconds)
        say_failures(batch)
    console.print(f"\n{len(results)} pictures in {seconds:.0f} s, {ready - started:.0f} s to start the service.")
    console.print(f"See them:  {escape(page.absolute().as_uri())}", soft_wrap=True, style="bold")
    say_how_to_go_on(model, weights, served, chosen)
    if len(results) < batch.status.total:
        raise typer.Exit(EXIT_JOB_FAILED)


def say_how_to_go_on(model: str, weights: str, served: str, features: Sequence[Feature]) -> None:
    """Print how to accentuate images of one's own."""
    accentor = Path(sys.executable).with_name("accentor")
    written = next((str(one) for one in features if not isinstance(one, Direction)), "logit:0")
    feature = f"--feature={shlex.quote(written)}"
    here = f"--model {model}" + (f" --weights {shlex.quote(weights)}" if weights else "")
    lines = (
        ("\nYour own image, without a service:", f"{accentor} accentuate YOUR.jpg {here} {feature}"),
        ("With the service and its web page:", f"{accentor} up --model {shlex.quote(served)}"),
        ("and beside it:", f"{accentor} submit YOUR.jpg --model {SERVED_AS} {feature} --wait"),
    )
    for what, command in lines:
        stdout().print(escape(what), style="dim")
        stdout().print(f"  {escape(command)}", soft_wrap=True, highlight=False)


def read_images(text: str) -> list[Path]:
    """Return the named images, or the first sample scenes."""
    if not text:
        from accentor.engine.reference import sample_paths

        return sample_paths()[:SCENES]
    whole = Path(text)
    named = [text] if whole.exists() else shlex.split(text)
    parts = [name for part in named for name in sorted(glob(part)) or [part]]  # noqa: PTH207 - absolute patterns too
    paths = list_images([Path(part) for part in parts])
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise InvalidImageError(f"no such image: {', '.join(missing)}")
    return paths


def read_features(text: str) -> list[Feature]:
    """Return the features of a text such as ``logit:1; -logit:2``."""
    return [by_value(parse_feature(part)) for part in BETWEEN_FEATURES.split(text) if part.strip()]


def default_features(card: ModelCard) -> list[Feature]:
    """Return features of several kinds: of the reference model by name, of another model its deepest map's channels."""
    if card.source == "reference":
        return reference_features(card)
    maps = [
        layer for layer in card.layers if layer.grid is not None and layer.units >= CHANNELS and min(layer.grid) > 1
    ]
    if not maps:
        raise InvalidFeatureError(
            f"{card.name} has no layer of channels: name features with FEATURES='logit:0;logit:1'"
        )
    return [Channel(layer=maps[-1].name, unit=unit) for unit in range(CHANNELS)]


def reference_features(card: ModelCard) -> list[Feature]:
    """Return eight features of the reference model: logits, a difference, a suppression, and units of two layers."""
    deep, middle = card.layer("block4"), card.layer("block3")
    texts = (
        "logit:stripes",
        "logit:star",
        "logit:dots - logit:checks",
        "-logit:red",
        f"channel:{middle.name}:3",
        f"channel:{deep.name}:11",
        f"neuron:{deep.name}:5",
    )
    mixed = tuple(1.0 if unit in (2, 7) else 0.0 for unit in range(deep.units))
    return [*(parse_feature(text) for text in texts), Direction(layer=deep.name, vector=mixed)]


def write_page(results: "Sequence[JobResult]", paths: Sequence[Path], out: Path, model: str, seconds: float) -> Path:
    """Download the pictures beside the page, and write it."""
    from PIL import Image

    from accentor.gallery import Exhibit, write_gallery
    from accentor.images import open_image

    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    exhibits = []
    for result in results:
        path = paths[result.index % len(paths)]
        width, height = result.details.width, result.details.height
        seed = pictures / f"seed-{result.index % len(paths):03d}.png"
        open_image(path).resize((width, height), resample=Image.Resampling.BILINEAR).save(seed)
        saved = result.save(pictures / result.folder_name)
        exhibits.append(
            Exhibit(
                feature=feature_title(result.spec.feature),
                title=path.stem,
                seed=seed.relative_to(out).as_posix(),
                accentuated=(saved / "accentuated.png").relative_to(out).as_posix(),
                overlay=(saved / "overlay.png").relative_to(out).as_posix(),
                before=result.before,
                after=result.after,
                trajectory=result.trajectory,
                width=width,
                height=height,
                notes=result.details.notes,
            )
        )
    page = out / "index.html"
    subtitle = (
        f"{len(exhibits)} accentuations of {model}, made in {seconds:.0f} s. For each: the seed image, the picture "
        "that shows what the feature responds to there (hover to see the seed), where it does, and the feature's value "
        "before and after."
    )
    write_gallery(page, exhibits, title="What does this feature see in this image?", subtitle=subtitle)
    return page


def feature_title(feature: Feature) -> str:
    """Return a feature's string form, a direction's by its layer."""
    if isinstance(feature, Direction) and feature.vector is not None:
        units = [unit for unit, value in enumerate(feature.vector) if value]
        if len(units) <= 4:
            return f"direction:{feature.layer}: " + " + ".join(
                f"{feature.vector[unit]:g} × unit {unit}" for unit in units
            )
    return str(feature)


def say_failures(batch: "Batch") -> None:
    """Print why jobs failed, if any did."""
    for job in batch.errors():
        if failure := job.status.failure:
            stdout().print(escape(f"{job.id}: {failure.code}: {failure.detail}"), style="red", soft_wrap=True)


if __name__ == "__main__":
    run_app(demo)
