"""Patterns for the ``custom_id`` of a product's jobs: ``{feature}-{image:.8}-{seed}``."""

import re
from collections.abc import Mapping
from functools import lru_cache
from string import Formatter

from accentor.errors import InvalidRequestError

PLACEHOLDERS = ("feature", "image", "seed", "index")
_CUT = re.compile(r"(?:\.[1-9][0-9]{0,2})?")


def check_pattern(pattern: str) -> str:
    """Return the pattern if every placeholder in it is known; ``{image:.8}`` takes the first 8 characters.

    Raises
    ------
    InvalidRequestError
        With the placeholder, and those there are.
    """
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for name, cut in _parts(pattern):
        if name not in PLACEHOLDERS:
            raise InvalidRequestError(f"the custom_id pattern has the placeholder {{{name}}}: there are {known}")
        if not _CUT.fullmatch(cut):
            raise InvalidRequestError(
                f"{{{name}:{cut}}} in the custom_id pattern: only {{{name}:.8}}, a length, may follow"
            )
    return pattern


def fill(pattern: str, values: Mapping[str, str]) -> str:
    """Return the pattern with its placeholders filled in."""
    return pattern.format_map(values)


def piece(pattern: str, name: str, value: str) -> str:
    """Return all that a placeholder contributes for a value; empty if the pattern does not have it."""
    return "\n".join(format(value, cut) for found, cut in _parts(pattern) if found == name)


@lru_cache(256)
def _parts(pattern: str) -> tuple[tuple[str, str], ...]:
    try:
        parsed = list(Formatter().parse(pattern))
    except ValueError as error:
        raise InvalidRequestError(f"the custom_id pattern {pattern!r} cannot be read: {error}") from error
    if any(conversion for _, _, _, conversion in parsed):
        raise InvalidRequestError(
            f"the custom_id pattern {pattern!r} has a '!': only a placeholder's name may be given"
        )
    return tuple((name, cut or "") for _, name, cut, _ in parsed if name is not None)
