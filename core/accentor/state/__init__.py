"""The state of jobs and batches in Redis, and how they are handed out to workers."""

from accentor.state.client import connect
from accentor.state.dispatch import dispatch, sweep
from accentor.state.jobs import READY_S, JobStore
from accentor.state.queues import Publish, celery_producer, queue_name, shard_publisher
from accentor.state.records import Lost, NewBatch, Shard
from accentor.state.shards import ShardStore

__all__ = [
    "READY_S",
    "JobStore",
    "Lost",
    "NewBatch",
    "Publish",
    "Shard",
    "ShardStore",
    "celery_producer",
    "connect",
    "dispatch",
    "queue_name",
    "shard_publisher",
    "sweep",
]
