"""Log lines of the service: text for a person or JSON for a program, each with the request or shard it belongs to."""

import json
import logging
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

current_request: ContextVar[str | None] = ContextVar("accentor_request_id", default=None)
"""The id of the request that the code at work serves, also in the threads that it is handed to."""

current_shard: ContextVar[str | None] = ContextVar("accentor_shard", default=None)
"""The shard that the code at work runs."""

TEXT_TEMPLATE = "%(asctime)s %(levelname)s %(name)s [-] %(message)s"
TEXT = "%(asctime)s %(levelname)s %(name)s [%(place)s] %(message)s"
NOWHERE = "-"
JSON_TEMPLATE = '{"time": "%(asctime)s", "level": "%(levelname)s", "logger": "%(name)s", "message": "%(message)s"}'
"""For the few fixed messages of a process that is not yet ours to set up."""


class ContextFilter(logging.Filter):
    """Gives each log record the ``request_id`` or ``shard`` it belongs to, and ``place``, the one or the other."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Note them; every record passes."""
        request, shard = current_request.get(), current_shard.get()
        record.__dict__ |= {"request_id": request, "shard": shard, "place": request or shard or NOWHERE}
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: what the record says, what it belongs to, and its ``fields``, given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        line |= {name: value for name in ("request_id", "shard") if (value := getattr(record, name, None))}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_config(form: LogFormat, level: LogLevel, loggers: Iterable[str] = ()) -> dict[str, Any]:
    """Return the configuration that sends these loggers, or all, to the standard error output."""
    handler = {
        "class": "logging.StreamHandler",
        "formatter": form,
        "filters": ["context"],
        "stream": "ext://sys.stderr",
    }
    chosen = {"handlers": ["lines"], "level": level}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"context": {"()": ContextFilter}},
        "formatters": {"text": {"format": TEXT}, "json": {"()": JsonFormatter}},
        "handlers": {"lines": handler},
        **({"loggers": dict.fromkeys(loggers, chosen)} if loggers else {"root": chosen}),
    }
