"""Looking at outstanding shards from outside."""

import redis

from accentor.spec import Lane
from accentor.state.keys import running_key, waiting_key


def outstanding(client: "redis.Redis[bytes]", lane: Lane, model: str) -> tuple[int, int]:
    """Return how many shards of a lane wait, and how many run."""
    return int(client.scard(waiting_key(lane, model))), int(client.scard(running_key(lane, model)))
