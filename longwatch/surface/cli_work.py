"""`work MODULE[:NAME]`: import the module, find its fleet, and run its handlers until stopped or idle."""

import contextlib
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import click

from longwatch.errors import ConfigError, LongwatchError, nearest
from longwatch.policy.task import STATES
from longwatch.store.look import Look
from longwatch.surface import logs, spawned
from longwatch.surface.api import Longwatch
from longwatch.surface.cli_base import Command, pass_session
from longwatch.surface.handles import Report
from longwatch.surface.progress import progress
from longwatch.surface.session import Session
from longwatch.surface.wire import INTERRUPTED, OK


@click.command(cls=Command, section="start")
@click.argument("module", metavar="MODULE[:NAME]")
@click.option("--processes", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="How many.")
@click.option("--agent", metavar="NAME", help="On whose account the workers are listed.")
@click.option("--name", metavar="NAME", help="Only one group of workers of this name may work.")
@click.option("--until-idle", is_flag=True, help="End when nothing is ready, running or due within a minute.")
@click.option("--log-json", is_flag=True, help="Log as JSON; so it is anyway where standard error is no terminal.")
@click.pass_context
@pass_session
def work(
    session: Session,
    context: click.Context,
    module: str,
    processes: int,
    agent: str | None,
    name: str | None,
    until_idle: bool,
    log_json: bool,
) -> None:
    """Run the tasks that MODULE has handlers for.

    Ctrl-C: finish or hand back within 30 s; twice: now.
    """
    with _environment(session):
        lw = find(module)
    _log(lw, as_json=log_json or not sys.stderr.isatty())
    session.out.note(f"{lw.name}: working on {_kinds(lw)}; Ctrl-C to stop")
    pids: list[int] = []
    with _interrupts() as interrupted, progress(lambda: _standing(lw, pids)):
        report = lw.work(
            agent=agent, processes=processes, until_idle=until_idle, name=name, on_start=lambda now: _keep(pids, now)
        )
    session.out.answer(_report_json(report), _said(report))
    lw.close()
    context.exit(INTERRUPTED if interrupted() else OK)


def _keep(pids: list[int], now: list[int]) -> None:
    pids[:] = now


def _standing(lw: Longwatch, pids: list[int]) -> str:
    try:
        counts = Look(lw.opened.parts.database).counts()
    except LongwatchError as error:
        return error.message
    tasks = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state)) or "no tasks"
    return f"{len(pids)} at work; {tasks}"


def _kinds(lw: Longwatch) -> str:
    kinds = sorted(lw.opened.registry.handlers)
    return ", ".join(kinds[:5]) + (f" and {len(kinds) - 5} more" if len(kinds) > 5 else "")


def _report_json(report: Report) -> dict[str, int]:
    names = ("done", "failed", "cancelled", "unknown", "retrying")
    return {name: getattr(report, name) for name in names}


def _said(report: Report) -> str:
    return ", ".join(f"{count} {name}" for name, count in _report_json(report).items() if count) or "nothing to do"


def _log(lw: Longwatch, *, as_json: bool) -> None:
    if as_json:
        logs.configure(lw.opened.parts.journal.redactor)
        os.environ[logs.JSON_VARIABLE] = "1"  # spawned workers log as their parent does
    else:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


@contextlib.contextmanager
def _environment(session: Session) -> Generator[None]:
    """What the command line says about config and state, for the `longwatch.open()` of the module and its children."""
    for variable, value in (("LONGWATCH_CONFIG", session.config), ("LONGWATCH_STATE", session.state)):
        if value is not None:
            os.environ[variable] = str(Path(value).absolute()) if "://" not in value else value
    yield


@contextlib.contextmanager
def _interrupts() -> Generator["_Interrupted"]:
    """Whether SIGINT came while the block ran. The worker hears it too, and ends in its own way; this only remembers."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield _Interrupted(reading)
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


class _Interrupted:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return signal.SIGINT in os.read(self._descriptor, 4096)
        return False


# -- finding the fleet of a module -----------------------------------------------------------------------------------------


def find(wanted: str) -> Longwatch:
    """The fleet that the module opened. Errors: ConfigError that says what is missing."""
    module_name, _, name = wanted.partition(":")
    module = _import(module_name)
    fleets = {key: value for key, value in vars(module).items() if isinstance(value, Longwatch)}
    if name:
        return _named(module, name, fleets)
    distinct = {id(value.opened): key for key, value in reversed(fleets.items())}
    if not fleets:
        raise ConfigError(
            f"the module {module_name} has no fleet",
            hint="Open it at its top level: lw = longwatch.open(...), and declare handlers with @lw.task().",
        )
    if len(distinct) > 1:
        choices = " or ".join(f"{module_name}:{key}" for key in fleets)
        raise ConfigError(
            f"the module {module_name} has {len(fleets)} fleets: {', '.join(fleets)}", hint=f"Name one: {choices}."
        )
    return next(iter(fleets.values()))


def _named(module: ModuleType, name: str, fleets: dict[str, Longwatch]) -> Longwatch:
    if name in fleets:
        return fleets[name]
    if hasattr(module, name):
        found = type(getattr(module, name)).__name__
        raise ConfigError(
            f"{module.__name__}:{name} is a {found}, not a fleet", hint="Name what longwatch.open(...) returned."
        )
    raise ConfigError(
        f"the module {module.__name__} has no {name!r}{nearest(name, fleets)}",
        hint=f"Its fleets: {', '.join(fleets) or 'none; open one with lw = longwatch.open(...)'}.",
    )


def _import(name: str) -> ModuleType:
    if not name or name.endswith(".py") or "/" in name:
        meant = name.removesuffix(".py").strip("/").replace("/", ".")
        raise ConfigError(
            f"{name!r} is a file, not the name of a module" if name else "no module is named",
            hint=f"Write longwatch work {meant or 'billing'}.",
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    spawned.importing = True  # a module that submits or works while it is imported would do so in every worker
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _missing(name, here) from error
        raise _broken(name, error) from error
    except LongwatchError as error:
        raise _unguarded(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error
    finally:
        spawned.importing = False


def _missing(name: str, here: str) -> ConfigError:
    known = [path.stem for path in Path(here).glob("*.py")]
    return ConfigError(
        f"there is no module {name} in {here} or installed{nearest(name, known)}",
        hint="Run this in the folder of its file, or put that folder on PYTHONPATH.",
    )


def _broken(name: str, error: BaseException) -> ConfigError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if not frame.filename.startswith(str(Path(__file__).parents[1]))]
    place = f" ({os.path.relpath(own[-1].filename)}:{own[-1].lineno})" if own else ""
    return ConfigError(
        f"the module {name} cannot be imported: {type(error).__name__}: {error}{place}",
        hint="Nothing was started. Correct it and start again.",
    )


def _unguarded(name: str, error: LongwatchError) -> LongwatchError:
    """Refusals of the fleet itself keep their words; a call that was refused only because of the import gets better ones."""
    if not isinstance(error, ConfigError) or "imports this script" not in error.message:
        return error
    what = error.message.split(" is called")[0]
    return ConfigError(
        f"the module {name} calls {what} while it is imported", hint='Put those lines under: if __name__ == "__main__":'
    )
