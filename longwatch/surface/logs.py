"""Logs as JSON: one object per line, with the task, run and agent that the code was working for, without secrets."""

import json
import logging
import traceback
from typing import Any

from longwatch.policy.redact import Redactor
from longwatch.runtime.run import current_run
from longwatch.surface.wire import at

JSON_VARIABLE = "LONGWATCH_LOG_JSON"


class JsonFormatter(logging.Formatter):
    """at, level, logger, message; task, run and agent inside a handler; exception when there is one."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": at(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        run = current_run.get()
        if run is not None:
            line |= {"task": run.task, "run": run.id, "agent": run.agent}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return self._redactor.clean(json.dumps(line, ensure_ascii=False, default=str))


def _message(record: logging.LogRecord) -> str:
    """A log call with arguments that do not fit its text must not take the program down, nor lose the text."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} {record.args}"


def configure(redactor: Redactor, *, level: int = logging.INFO) -> logging.Handler:
    """Send everything that is logged in this process to standard error, as JSON; the handler, to take it off again."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(redactor))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    return handler
