"""The one task. Celery imports this module in the worker's parent and in its child."""

import logging
import logging.config
import os
from typing import Any

from celery import current_app, shared_task
from celery.signals import setup_logging, worker_process_init

from accentor.errors import AccentorError
from accentor.logs import log_config
from accentor.state.queues import TASK_RUN_SHARD
from accentor_worker.child import build_services, give_up
from accentor_worker.runner import DeviceLostError, run_shard
from accentor_worker.services import Services

EXIT_LOST = 1

logger = logging.getLogger(__name__)


class _Child:
    services: Services | None = None


@setup_logging.connect
def leave_logging_to_us(loglevel: int, **_: Any) -> None:
    """Keep Celery from logging in a form of its own: the parent and the child set up ours, the child a little later."""
    logging.getLogger().setLevel(loglevel)


@worker_process_init.connect
def prepare(**_: Any) -> None:
    """Make the child ready for shards; if that fails, the whole worker ends with an error."""
    settings = current_app.conf.accentor_settings
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    try:
        _Child.services = build_services(settings)
    except AccentorError as error:
        logger.critical("this worker cannot work: %s", error)
        give_up()
    except Exception:
        give_up()
        raise


@shared_task(name=TASK_RUN_SHARD)
def run_shard_task(shard: str) -> None:
    """Run a shard."""
    if _Child.services is None:
        return
    try:
        run_shard(_Child.services, shard)
    except DeviceLostError as error:
        logger.critical("this process ends, another takes its place: its device computes no more: %s", error)
        os._exit(EXIT_LOST)
