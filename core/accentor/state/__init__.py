"""The state of jobs and batches in Redis, and how they are handed out to workers."""

from accentor.state.access import AccessStore, ApiKey, Scope, make_key
from accentor.state.atlases import AtlasRecord, AtlasStore, NewAtlas
from accentor.state.client import connect
from accentor.state.dispatch import dispatch, sweep
from accentor.state.jobs import READY_S, JobStore
from accentor.state.measures import Measures, MeasureStore, Work
from accentor.state.once import Once, OnceStore
from accentor.state.queues import Publish, celery_producer, queue_name, shard_publisher
from accentor.state.records import Lost, NewBatch, Shard
from accentor.state.shards import ShardStore
from accentor.state.webhooks import Delivery, WebhookStore

__all__ = [
    "READY_S",
    "AccessStore",
    "ApiKey",
    "AtlasRecord",
    "AtlasStore",
    "Delivery",
    "JobStore",
    "Lost",
    "MeasureStore",
    "Measures",
    "NewAtlas",
    "NewBatch",
    "Once",
    "OnceStore",
    "Publish",
    "Scope",
    "Shard",
    "ShardStore",
    "WebhookStore",
    "Work",
    "celery_producer",
    "connect",
    "dispatch",
    "make_key",
    "queue_name",
    "shard_publisher",
    "sweep",
]
