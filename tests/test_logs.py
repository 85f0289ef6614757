"""Log lines, as text and as JSON, by the real handlers in a process of their own."""

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging, logging.config, sys
from accentor.logs import current_request, current_shard, log_config
logging.config.dictConfig(log_config(sys.argv[1], sys.argv[2], ["accentor_api"]))
log = logging.getLogger("accentor_api")
log.info("ü %d", 1)
current_request.set("r-1")
log.info("asked", extra={"fields": {"status": 202}})
log.debug("in detail")
current_request.set(None)
current_shard.set("b.0-4")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
logging.getLogger("elsewhere").info("not ours")
"""


def lines(form: str, level: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, form, level]
    return subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stderr.splitlines()


def test_json_is_an_object_a_line() -> None:
    found: list[dict[str, Any]] = [json.loads(line) for line in lines("json", "DEBUG")]
    assert [line["message"] for line in found] == ["ü 1", "asked", "in detail", "failed"]
    assert [line["level"] for line in found] == ["INFO", "INFO", "DEBUG", "ERROR"]
    assert [line.get("request_id") for line in found] == [None, "r-1", "r-1", None]
    assert [line.get("shard") for line in found] == [None, None, None, "b.0-4"]
    assert (found[1]["status"], found[1]["logger"]) == (202, "accentor_api")
    assert "ZeroDivisionError" in found[3]["exception"]
    assert all(line["time"].endswith("+00:00") for line in found)


def test_text_names_the_request_or_the_shard() -> None:
    found = [line.split(" ", 2)[2] for line in lines("text", "INFO") if line[:2] == "20"]
    assert found == [
        "INFO accentor_api [-] ü 1",
        "INFO accentor_api [r-1] asked",
        "ERROR accentor_api [b.0-4] failed",
    ]
