"""The embedded mode: Redis, one worker and the API as processes of this machine, on 127.0.0.1, data in one folder."""

from accentor.embedded.service import EmbeddedService

__all__ = ["EmbeddedService"]
