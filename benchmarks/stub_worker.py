"""``python benchmarks/stub_worker.py``: the worker with the settings of the environment and a stub engine."""

import sys

from accentor.settings import read_settings
from accentor_worker import app, main

if __name__ == "__main__":
    app.TASKS = "stub_tasks"
    sys.exit(main.run(read_settings()))
