"""A spawned worker process, from its first line to its last.

It is told on standard input what to do (one line of JSON), finds the handlers by module and name, works, and ends with 0.
Standard input then stays open: when it closes, the parent is gone, and the worker stops. Exit status 2 means that it was
held wrong; the reason goes, as JSON, to the descriptor named by LONGWATCH_REPORT_FD. 69: the state is away.

SIGTERM, or the end of the parent: finish the task in hand within the grace, or hand it back. SIGINT: hand it back now.
"""

import gc
import importlib
import json
import os
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

from longwatch.errors import ConfigError, LongwatchError, StoreUnavailable
from longwatch.runtime.handler import Handler
from longwatch.runtime.output import Output
from longwatch.runtime.pool import AWAY, REFUSED

importing = False  # the user's module is being imported in a spawned process


def refuse_while_importing(what: str) -> None:
    """Errors: ConfigError when `what` is called by a module that a worker process is only importing."""
    if importing:
        raise ConfigError(
            f"{what} is called while a worker process imports this script",
            hint='Put the lines that submit and work under: if __name__ == "__main__":',
        )


def main() -> int:
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    told: dict[str, Any] = json.loads(_first_line(lifeline))
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return _work(told, lifeline)
    except StoreUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return AWAY
    except LongwatchError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 0


def _work(told: dict[str, Any], lifeline: int) -> int:
    import longwatch
    from longwatch.surface import logs
    from longwatch.surface.working import work_here

    importlib.import_module("longwatch.surface.api")  # as opening a fleet does
    gc.freeze()
    gc.enable()
    output = _printing(told)
    sys.path[:], sys.argv[:] = told["sys_path"], told["argv"]
    handlers = _find_handlers(told)
    opened = {name: told[name] for name in ("admission", "config", "agent", "budget")}
    with longwatch.open(told["state"], **opened) as lw:
        if os.environ.get(logs.JSON_VARIABLE):
            logs.configure(lw.opened.parts.journal.redactor)
        if output is not None:
            output.watch(lw.opened.parts.sleeper, lw.opened.parts.steady_ms)
        for handler in handlers:
            lw.include(handler)
        work_here(
            lw.opened,
            owner=told["owner"],
            agent=told["agent"],
            until_idle=told["until_idle"],
            on_worker=lambda worker: _obey(worker, lifeline),
            spawned=True,
        )
    return 0


def _printing(told: dict[str, Any]) -> Output | None:
    """What is printed from now on goes to a file of this process, where the config says so. Errors: ConfigError."""
    if told["output"] is None:
        return None
    output = Output(Path(told["output"]["folder"]), told["owner"], told["output"]["agent"], told["output"]["size"])
    try:
        output.begin()
    except OSError as error:
        raise ConfigError(
            f"what workers print cannot be written to {output.folder}: {error.strerror or error}",
            hint='Make room, or let the folder be written; or set [archive] output = "terminal".',
        ) from error
    return output


def _obey(worker: Any, lifeline: int) -> None:
    """SIGTERM, or the end of the parent: stop within the grace."""

    def hear(_number: int, _frame: object) -> None:
        worker.ask_to_stop()

    signal.signal(signal.SIGTERM, hear)

    def watch() -> None:
        while os.read(lifeline, 4096):
            pass
        worker.ask_to_stop()

    threading.Thread(target=watch, name="longwatch-lifeline", daemon=True).start()


def _find_handlers(told: dict[str, Any]) -> list[Any]:
    global importing
    importing = True
    try:
        if told["main"]:
            _import_main(told["main"])
        return [_handler(kind, module, name) for kind, module, name in told["handlers"]]
    finally:
        importing = False


def _import_main(main: dict[str, str]) -> None:
    """The parent's script, under the name __mp_main__ as multiprocessing does, so that its guard keeps it from starting."""
    import runpy

    try:
        if main["name"]:
            names = runpy.run_module(main["name"], run_name="__mp_main__", alter_sys=True)
        else:
            names = runpy.run_path(main["path"], run_name="__mp_main__")
    except LongwatchError:
        raise
    except Exception as error:
        raise ConfigError(
            f"a worker process cannot import {main['name'] or main['path']}: {type(error).__name__}: {error}",
            hint="Every worker imports the script that called lw.work: it must come through without its main part.",
        ) from error
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(names)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def _handler(kind: str, module: str, name: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except LongwatchError:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"a worker process cannot find the handler {kind!r} as {module}.{name}: {error}",
            hint="Handlers must stand at the top level of a module that can be imported.",
        ) from error
    if not isinstance(found, Handler):
        raise ConfigError(
            f"{module}.{name} is not the handler {kind!r} but a {type(found).__name__}",
            hint="Declare it where it is defined, with @lw.task or @longwatch.task: workers find it by that name.",
        )
    handler: Handler[Any, Any] = found  # pyright: ignore[reportUnknownVariableType]
    return handler


def _first_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(descriptor, 1)
        if not more:
            break
        line += more
    return line


def _refuse(error: LongwatchError) -> int:
    descriptor = int(os.environ.get("LONGWATCH_REPORT_FD", "-1"))
    if descriptor >= 0:
        os.write(descriptor, json.dumps(error.to_dict()).encode())
    return REFUSED
