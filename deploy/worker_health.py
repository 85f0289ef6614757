"""End with 0 if the process that computes is there: the health check of a worker's container.

A worker that cannot work ends by itself, and one that hangs loses its shard to others; neither needs this check.
"""

import sys
from pathlib import Path

COMPUTES = b"billiard.spawn"
"""In the command line of Celery's child."""


def command_lines() -> list[bytes]:
    """Return the command lines of this container's processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return lines


if __name__ == "__main__":
    sys.exit(not any(COMPUTES in line for line in command_lines()))
