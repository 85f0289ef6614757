"""Write ``docs/settings.md`` from the fields of `accentor.settings.Settings`: ``python docs/make_settings.py``."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from accentor.settings import ModelSource, Settings

TARGET = Path(__file__).parent / "settings.md"

HEAD = """\
# Settings

API, worker and the embedded mode read the same environment variables. What is not set has the default below; a wrong
value ends the program at its start, with the reason. Secrets have no default and are masked where settings are shown.

The soft limit of a shard must be below its hard limit, and that below the visibility timeout. Give every process of one
installation the same values. `accentor up` chooses the Redis address, the storage, the signing secret, the host and the
port itself.

<!-- Made by docs/make_settings.py: change core/accentor/settings.py and run it again. -->

| variable | default | meaning |
| --- | --- | --- |
"""

MODELS = """
A model of `ACCENTOR_MODELS`:

| key | default | meaning |
| --- | --- | --- |
"""


def render() -> str:
    """Return the page."""
    prefix = Settings.model_config["env_prefix"].upper()
    return HEAD + _rows(Settings, prefix) + MODELS + _rows(ModelSource)


def _rows(model: type[BaseModel], prefix: str = "") -> str:
    rows = []
    for name, field in model.model_fields.items():
        shown = name if not prefix else prefix + name.upper()
        rows.append(f"| `{shown}` | {_default(field)} | {(field.description or '').replace('|', '&#124;')} |\n")
    return "".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"
    return f"`{value if isinstance(value, str) else _json(value)}`"


def _json(value: Any) -> str:
    return TypeAdapter(Any).dump_json(value, exclude_none=True).decode()


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
