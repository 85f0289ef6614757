"""The command line ``accentor``: the one place that may import several rooms, inside its commands."""

from accentor.cli.main import main

__all__ = ["main"]
