"""``python -m accentor_worker``: a worker with the settings of the environment."""

import sys

from accentor.errors import AccentorError
from accentor.settings import read_settings
from accentor_worker.main import run

EXIT_REFUSED = 2


def main() -> int:
    """Run until told to stop and return the exit status; what was refused is said in one line."""
    try:
        return run(read_settings())
    except AccentorError as error:
        sys.stderr.write(f"accentor: {error.detail}\n")
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
