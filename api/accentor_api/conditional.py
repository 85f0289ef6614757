"""Polling: what has not changed is not sent again, and when to look again is said."""

FASTEST_S = 1
SLOWEST_S = 30
LOOKS = 20
"""Looks worth taking in the time that is left."""


def retry_after(eta_s: float) -> dict[str, str]:
    """Return the header that says when to look again at what ends in so many seconds."""
    return {"Retry-After": str(min(SLOWEST_S, max(FASTEST_S, round(eta_s / LOOKS))))}


def tagged(tag: str, eta_s: float | None) -> dict[str, str]:
    """Return the headers of an answer that is polled; ``eta_s``: seconds to its end, none if it has ended."""
    headers = {"ETag": f'W/"{tag}"', "Cache-Control": "private, no-cache"}
    return headers if eta_s is None else headers | retry_after(eta_s)


def not_modified(headers: dict[str, str], if_none_match: str | None) -> bool:
    """Tell whether the client has what these headers belong to."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or headers["ETag"] in [tag.strip() for tag in if_none_match.split(",")]
