"""What ``accentor accentuate`` writes: files, a page, and lines of JSON."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accentor.errors import InvalidRequestError

if TYPE_CHECKING:
    from accentor.engine import Accentuation

FIGURE_DPI = 150
EXTRAS = {"frames.mp4": ("av", "video"), "figure.png": ("matplotlib", "plot")}
"""Files that need a library, with it and the extra that brings it."""


def check_extras(names: Sequence[str]) -> None:
    """Check that the libraries for these files are installed, before anything is computed.

    Raises
    ------
    InvalidRequestError
        With the extra that brings what is missing.
    """
    for name, (module, extra) in EXTRAS.items():
        if name in names and importlib.util.find_spec(module) is None:
            raise InvalidRequestError(f"{name} needs {module}: pip install 'accentor[{extra}]'")


def write(result: "Accentuation", folder: Path, stem: str, extras: Sequence[str]) -> list[Path]:
    """Write a result's artefacts, and the further files that are named; return their paths."""
    paths = result.save(folder, stem)
    for name in extras:
        path = folder / f"{stem}{name}"
        match name:
            case "figure.png":
                result.figure().savefig(path, dpi=FIGURE_DPI)
            case "strip.png":
                result.strip().save(path)
            case "difference.png":
                path.write_bytes(result.png("difference"))
            case "frames.mp4":
                result.save_video(path)
        paths.append(path)
    return paths


def write_page(results: "Sequence[Accentuation]", folder: Path) -> Path:
    """Write one page with all results; return its path."""
    from accentor.engine.outputs.notebook import gallery

    return gallery(results).save(folder / "index.html")


def numbers(result: "Accentuation") -> dict[str, Any]:
    """Return what is told of a result as JSON, besides its files."""
    return {
        "before": result.before,
        "after": result.after,
        "steps": result.trajectory[-1].step,
        "distance": result.trajectory[-1].distance,
        "stopped_at": result.stopped_at,
        "sweep": [point.model_dump() for point in result.sweep_entries],
        "precision": result.precision,
        "device": result.device,
        "seconds": result.seconds,
        "notes": list(result.notes),
    }
