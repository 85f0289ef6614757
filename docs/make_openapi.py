"""Write ``docs/openapi.json``, the HTTP API as the application describes it: ``python docs/make_openapi.py``."""

import json
from pathlib import Path

from pydantic import SecretStr

from accentor.settings import Settings
from accentor_api import create_app

TARGET = Path(__file__).parent / "openapi.json"


def render() -> str:
    """Return the document."""
    settings = Settings(storage_url="file://objects", signing_secret=SecretStr("signs nothing"))
    return json.dumps(create_app(settings).openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
