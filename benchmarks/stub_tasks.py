"""What a stub worker's child imports: the worker's own task, on the stub's services."""

import os
from pathlib import Path

from accentor.settings import Settings, file_root
from accentor.state import celery_producer, shard_publisher
from accentor_worker import child, tasks
from accentor_worker.presence import Presence
from accentor_worker.services import Services
from stub import CARD, StubResults, open_ledger, stub_services


def build_services(settings: Settings) -> Services:
    """Announce the stub model, and return what running shards needs."""
    owner = child.owner_of(os.getppid())
    objects = StubResults(file_root(settings.storage_url), open_ledger(Path(os.environ["STUB_LEDGER"])))
    services = stub_services(settings, objects, shard_publisher(celery_producer(settings)), owner)
    Presence(services.jobs, owner, services.stop).begin([CARD])
    return services


tasks.build_services = build_services
