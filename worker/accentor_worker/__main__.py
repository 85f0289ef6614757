"""``python -m accentor_worker``: a worker with the settings of the environment."""

import sys

from accentor.settings import Settings
from accentor_worker.main import run

if __name__ == "__main__":
    sys.exit(run(Settings()))
