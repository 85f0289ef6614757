"""Names of our keys in Redis."""

from accentor.spec import Lane

PREFIX = "accentor:"
CARDS = f"{PREFIX}cards"
READY = f"{PREFIX}ready"
BATCHES = f"{PREFIX}batches"
LANES = f"{PREFIX}lanes"
SPEEDS = f"{PREFIX}speeds"
TOTALS = f"{PREFIX}totals"
MEMORY = f"{PREFIX}memory"
EMPTY_SINCE = f"{PREFIX}empty-since"


DEADLINES = f"{PREFIX}deadlines"
"""Batches by the time at which their jobs must have begun."""

EXPIRIES = f"{PREFIX}expiries"
"""Ended batches by the time at which they are to be removed."""

UPLOADS = f"{PREFIX}uploads"
"""Batches whose objects are being written or removed, and files that something is to be made of, by the time at which
that counts as abandoned."""


ACCESS = f"{PREFIX}access"
"""API keys by their id, without their secrets."""

ANONYMOUS = "-"
"""Stands for whoever asks without an API key."""

WEBHOOKS = f"{PREFIX}webhooks"
"""Webhooks by the time at which they were made."""


ATLASES = f"{PREFIX}atlases"
"""Atlases by the time at which they were created."""

OPEN_ATLASES = f"{PREFIX}atlases-open"
"""Those of them that have not ended."""

DELETED_ATLASES = f"{PREFIX}atlases-deleted"
"""Those that nobody sees any more and whose objects are still to be removed."""


def atlas_key(atlas_id: str) -> str:
    """Return the key of an atlas' record."""
    return f"{PREFIX}atlas:{atlas_id}"


def owned_key(owner: str) -> str:
    """Return the key of an owner's webhooks."""
    return f"{WEBHOOKS}:{owner}"


def webhook_key(webhook_id: str) -> str:
    """Return the key of a webhook's record; its other keys begin with it."""
    return f"{PREFIX}webhook:{webhook_id}"


def rate_key(key_id: str) -> str:
    """Return the key of the requests that an API key may send right now."""
    return f"{PREFIX}rate:{key_id}"


def held_key(key_id: str) -> str:
    """Return the key of the batches that an API key has submitted and that have not ended."""
    return f"{PREFIX}held:{key_id}"


def once_key(caller: str, digest: str) -> str:
    """Return the key of what a caller asked to be done once."""
    return f"{PREFIX}once:{caller}:{digest}"


def batch_keys(batch_id: str) -> tuple[str, str, str, str, str]:
    """Return the five keys of a batch: record, status string, failures, progress, order of the ends."""
    record = f"{PREFIX}batch:{batch_id}"
    return record, f"{record}:states", f"{record}:failures", f"{record}:progress", f"{record}:order"


def shard_key(shard_id: str) -> str:
    """Return the key of an outstanding shard's record."""
    return f"{PREFIX}shard:{shard_id}"


def lane_field(lane: Lane, model: str) -> str:
    """Return the name of a lane of a model where both are one word."""
    return f"{lane}:{model}"


def ring_key(lane: Lane, model: str) -> str:
    """Return the list of batches that still have jobs to hand out, the next one first."""
    return f"{PREFIX}ring:{lane}:{model}"


def waiting_key(lane: Lane, model: str) -> str:
    """Return the set of shards that were handed out and not begun."""
    return f"{PREFIX}waiting:{lane}:{model}"


def running_key(lane: Lane, model: str) -> str:
    """Return the set of shards that a worker has begun."""
    return f"{PREFIX}running:{lane}:{model}"
