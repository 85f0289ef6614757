"""The program ``accentor``: its commands, and how errors end it.

Exit status: 0 all went well; 1 a job failed; 2 the request was wrong; 3 the service or something it needs is broken;
130 interrupted.
"""

import sys
from collections.abc import Callable

import typer
from rich.markup import escape

from accentor.cli import (
    accentuating,
    atlases,
    datasets,
    dictionaries,
    following,
    inspecting,
    keys,
    measuring,
    serving,
    submitting,
    webhooks,
)
from accentor.cli.accentuating import EXIT_JOB_FAILED
from accentor.cli.console import stderr
from accentor.errors import AccentorError, JobError, RequestError

EXIT_WRONG_REQUEST = 2
EXIT_BROKEN = 3
EXIT_INTERRUPTED = 130

EPILOG = (
    "Exit status: 0 all went well; 1 a job failed; 2 the request was wrong; 3 the service or something it needs is "
    "broken; 130 interrupted."
)
HELP = "What does this feature see in this image? Feature accentuation, one at a time or by the million."


def build() -> typer.Typer:
    """Return the command line application."""
    app = typer.Typer(
        help=HELP, epilog=EPILOG, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
    )
    here, service = "On this machine, without a service", "With a service"
    app.command(rich_help_panel=here)(accentuating.accentuate)
    app.command(rich_help_panel=here)(inspecting.models)
    app.command(rich_help_panel=here)(inspecting.layers)
    app.add_typer(atlases.build(), name="atlas", rich_help_panel=here)
    app.command(rich_help_panel=here)(measuring.bench)
    app.command(rich_help_panel=service)(serving.up)
    app.command(rich_help_panel=service)(submitting.submit)
    app.command(rich_help_panel=service)(following.status)
    app.command(rich_help_panel=service)(following.watch)
    app.command(rich_help_panel=service)(following.cancel)
    app.command(rich_help_panel=service)(following.retry)
    app.command(rich_help_panel=service)(following.fetch)
    app.command(rich_help_panel=service)(following.delete)
    app.command(rich_help_panel=service)(serving.api)
    app.command(rich_help_panel=service)(serving.worker)
    app.add_typer(datasets.build(), name="dataset", rich_help_panel=service)
    app.add_typer(dictionaries.build(), name="dictionary", rich_help_panel=service)
    app.add_typer(webhooks.build(), name="webhooks", rich_help_panel=service)
    app.add_typer(keys.build(), name="keys", rich_help_panel=service)
    return app


def main() -> None:
    """Run the command line."""
    _run(build())


def run_app(command: Callable[..., None]) -> None:
    """Run a single command as a program of its own, with the same endings."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    _run(app)


def _run(app: typer.Typer) -> None:
    try:
        app()
    except AccentorError as error:
        stderr().print(f"[red]{error.code}[/red]: {escape(error.detail)}", highlight=False, soft_wrap=True)
        sys.exit(exit_status(error))
    except ModuleNotFoundError as error:
        stderr().print(f"this command needs {error.name}: pip install 'accentor\\[local]'", highlight=False)
        sys.exit(EXIT_BROKEN)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def exit_status(error: AccentorError) -> int:
    """Return the exit status that an error ends the program with."""
    if isinstance(error, RequestError):
        return EXIT_WRONG_REQUEST
    return EXIT_JOB_FAILED if isinstance(error, JobError) else EXIT_BROKEN
