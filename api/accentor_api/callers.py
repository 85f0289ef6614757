"""Who asks, known to all the code that serves a request, also in the threads that it is handed to."""

from contextvars import ContextVar

from accentor.state import ApiKey
from accentor.state.keys import ANONYMOUS

current_key: ContextVar[ApiKey | None] = ContextVar("accentor_api_key", default=None)
"""The API key of the request; none: anonymous."""

reserved_id: ContextVar[str | None] = ContextVar("accentor_reserved_id", default=None)
"""The id of the batch that the request makes, where its Idempotency-Key has chosen one."""


def caller_id() -> str:
    """Return what stands for the caller in the stores: the id of its key, if it has one."""
    key = current_key.get()
    return ANONYMOUS if key is None else key.id
