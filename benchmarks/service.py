"""What the service costs at a million jobs: real Redis, real API and worker processes.

Where the engine is not what is measured, a stub stands in its place (``stub.py``), and each table says so; targets are
named in the titles.
``python benchmarks/service.py [--quick] [--only product lines …]``
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table

from service_dispatch import dispatch_cost
from service_engine import interactive, single
from service_million import million
from service_status import status
from service_submission import json_lines, product

Section = Callable[[Path, bool], Group | Table]

SECTIONS: dict[str, Section] = {
    "product": product,
    "lines": json_lines,
    "dispatch": dispatch_cost,
    "status": status,
    "million": million,
    "single": single,
    "interactive": interactive,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs or less")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    arguments = parser.parse_args()
    console = Console(width=120)
    load = os.getloadavg()[0]
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} before"
    )
    for name in arguments.only:
        with tempfile.TemporaryDirectory(prefix="accentor-bench-") as folder:
            console.print(SECTIONS[name](Path(folder) / "data", arguments.quick))


if __name__ == "__main__":
    main()
