"""``accentor up``, ``api`` and ``worker``: the service, whole or in parts."""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from accentor.cli.console import stderr, stdout
from accentor.errors import InvalidRequestError
from accentor.spec.jobs import MODEL_NAME

DEFAULT_PORT = 8000


def up(
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65_535, help="0 takes a free one.")] = DEFAULT_PORT,
    data: Annotated[Path, typer.Option("--data", help="Folder for results, queue and logs.")] = Path("accentor-data"),
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="NAME=SOURCE or NAME=SOURCE,WEIGHTS; repeatable.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the web page.")] = True,
) -> None:
    """Start everything on this machine, bound to 127.0.0.1: Redis, one worker, the API with its web pages.

    Ctrl-C stops all of it; started again on the same folder it goes on where it stopped.
    """
    import signal
    import threading
    import webbrowser

    from accentor.embedded import EmbeddedService

    models = read_models(model) if model else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log = stderr()
    with EmbeddedService(data, port=port, models=models, on_state=lambda text: log.print(text, style="dim")) as service:
        stdout().print(
            f"Accentor is up at [bold]{service.url}[/bold]   data in {service.data}   Ctrl-C stops it", soft_wrap=True
        )
        sys.stdout.flush()
        if browser:
            webbrowser.open(service.url)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def api() -> None:
    """Run the API with the settings of the environment (ACCENTOR_…)."""
    from accentor.settings import read_settings
    from accentor_api.app import serve

    serve(read_settings())


def worker(
    device: Annotated[
        str | None, typer.Option("--device", help="Torch device, such as cuda:1; else that of the settings.")
    ] = None,
) -> None:
    """Run a worker with the settings of the environment (ACCENTOR_…): one worker, one device."""
    from accentor.settings import read_settings
    from accentor_worker.main import run

    settings = read_settings()
    raise typer.Exit(run(settings if device is None else settings.model_copy(update={"device": device})))


def read_models(texts: list[str]) -> dict[str, dict[str, str]]:
    """Return served models from NAME=SOURCE or NAME=SOURCE,WEIGHTS; a bare SOURCE is its own name."""
    models = {}
    for text in texts:
        source, _, weights = text.partition(",")
        name, named, rest = source.partition("=")
        source = rest if named else source
        if not source or not re.fullmatch(MODEL_NAME, name):
            raise InvalidRequestError(
                f"{text!r} is no model: expected NAME=SOURCE or NAME=SOURCE,WEIGHTS, the name matching {MODEL_NAME}"
            )
        is_file = weights.endswith(".safetensors")
        models[name] = {"source": source} | (
            {"weights": str(Path(weights).absolute()) if is_file else weights} if weights else {}
        )
    return models
