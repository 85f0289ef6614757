"""Chunks of data as scripts that register themselves: a page opened from disk may load those, and no JSON."""

import json
from pathlib import Path
from typing import Any


def write_chunk(root: Path, name: str, data: Any) -> Path:
    """Write ``data/NAME.js``; the site asks for it by its name."""
    path = root / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"Atlas.register({json.dumps(name)},{compact(data)});\n", encoding="ascii")
    return path


def compact(data: Any) -> str:
    """Return JSON in ASCII without spaces, which is a script's literal as well; NaN is refused."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)
