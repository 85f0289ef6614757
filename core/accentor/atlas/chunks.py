"""Chunks of data as scripts that register themselves: a page opened from disk may load those, and no JSON."""

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

REGISTER = "Atlas.register("


def write_chunk(root: Path, name: str, data: Any) -> Path:
    """Write ``data/NAME.js``; the site asks for it by its name."""
    path = root / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{REGISTER}{json.dumps(name)},{compact(data)});\n", encoding="ascii")
    return path


def remove_chunks(root: Path, kept: Container[str] = ()) -> None:
    """Remove what an atlas wrote into ``data/``, and no other file, but for the paths to keep, ``data/NAME.js``."""
    for path in (root / "data").rglob("*.js"):
        if path.relative_to(root).as_posix() not in kept and _is_chunk(path):
            path.unlink()


def compact(data: Any) -> str:
    """Return JSON in ASCII without spaces, which is a script's literal as well; NaN is refused."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _is_chunk(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(REGISTER)) == REGISTER.encode()
