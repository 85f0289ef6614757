"""The one task. Celery imports this module in the worker's parent and in its child."""

import logging
from typing import Any

from celery import current_app, shared_task
from celery.signals import worker_process_init

from accentor.errors import AccentorError
from accentor.state.queues import TASK_RUN_SHARD
from accentor_worker.child import build_services, give_up
from accentor_worker.runner import run_shard
from accentor_worker.services import Services

logger = logging.getLogger(__name__)


class _Child:
    services: Services | None = None


@worker_process_init.connect
def prepare(**_: Any) -> None:
    """Make the child ready for shards; if that fails, the whole worker ends with an error."""
    try:
        _Child.services = build_services(current_app.conf.accentor_settings)
    except AccentorError as error:
        logger.critical("this worker cannot work: %s", error)
        give_up()
    except Exception:
        give_up()
        raise


@shared_task(name=TASK_RUN_SHARD)
def run_shard_task(shard: str) -> None:
    """Run a shard."""
    if _Child.services is not None:
        run_shard(_Child.services, shard)
