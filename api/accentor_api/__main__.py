"""``python -m accentor_api``: the API with the settings of the environment."""

import sys

from accentor.errors import AccentorError
from accentor.settings import read_settings
from accentor_api.app import serve

EXIT_REFUSED = 2


def main() -> int:
    """Run until told to stop and return the exit status; what was refused is said in one line."""
    try:
        serve(read_settings())
    except AccentorError as error:
        sys.stderr.write(f"accentor: {error.detail}\n")
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
