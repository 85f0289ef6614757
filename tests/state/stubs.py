"""What stands where the broker is."""

from accentor.state import Shard

MODEL = "toy"


class Outbox:
    """Stands where the broker is: keeps the shards that were sent."""

    def __init__(self) -> None:
        self.shards: list[Shard] = []

    def __call__(self, shard: Shard) -> None:
        self.shards.append(shard)

    def ids(self) -> list[str]:
        """Return the names of the shards sent, and forget them."""
        names = [shard.id for shard in self.shards]
        self.shards.clear()
        return names
