"""Longwatch: the state layer that lets fleets of autonomous agents run for months.

import longwatch

lw = longwatch.open("state/longwatch.db")

@lw.task(retries=3)
def greet(run: longwatch.Run, name: str) -> str:
    return run.step("say", str.title, name)

task = lw.submit(greet.bind("ada"), key="ada")
lw.work(until_idle=True)
print(lw.wait(task).result)
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longwatch.config import Config
    from longwatch.errors import (
        BudgetExceeded,
        BudgetTooSmall,
        ConfigError,
        EditConflict,
        GiveUp,
        KeyConflict,
        LeaseBusy,
        LeaseLost,
        LimitRefused,
        LongwatchError,
        NotFound,
        NotStorable,
        Refused,
        ResourceDirty,
        RetryLater,
        ServicePaused,
        StepReused,
        StoreUnavailable,
        TaskCancelled,
        TaskFailed,
        TaskNotDone,
        TaskUnknown,
        UnknownPrice,
        WaitTimeout,
    )
    from longwatch.policy.money import Money
    from longwatch.runtime.handler import Bound, Handler
    from longwatch.runtime.run import Run
    from longwatch.surface.aio import AsyncRun
    from longwatch.surface.api import Longwatch
    from longwatch.surface.briefs import Brief, Hit
    from longwatch.surface.caps import Caps, OwnCap
    from longwatch.surface.declare import task
    from longwatch.surface.handles import Batch, Report, Task
    from longwatch.surface.memory import Memory, Record
    from longwatch.surface.plans import Plan

__version__ = "0.1.0"

# Each name is imported when it is first used: pytest loads this package in every run, for the fixtures in it.
HOMES = {
    "config": ("Config",),
    "errors": (
        "BudgetExceeded",
        "BudgetTooSmall",
        "ConfigError",
        "EditConflict",
        "GiveUp",
        "KeyConflict",
        "LeaseBusy",
        "LeaseLost",
        "LimitRefused",
        "LongwatchError",
        "NotFound",
        "NotStorable",
        "Refused",
        "ResourceDirty",
        "RetryLater",
        "ServicePaused",
        "StepReused",
        "StoreUnavailable",
        "TaskCancelled",
        "TaskFailed",
        "TaskNotDone",
        "TaskUnknown",
        "UnknownPrice",
        "WaitTimeout",
    ),
    "policy.money": ("Money",),
    "runtime.handler": ("Bound", "Handler"),
    "runtime.run": ("Run",),
    "surface.aio": ("AsyncRun",),
    "surface.api": ("Longwatch",),
    "surface.briefs": ("Brief", "Hit"),
    "surface.caps": ("Caps", "OwnCap"),
    "surface.declare": ("task",),
    "surface.handles": ("Batch", "Report", "Task"),
    "surface.memory": ("Memory", "Record"),
    "surface.plans": ("Plan",),
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return import_module(f"{__name__}.{name}")
    home = next((home for home, names in HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found


def open(  # the contract's word, like gzip.open and its kin
    state: str | os.PathLike[str] | None = None,
    *,
    admission: str | None = None,
    config: "str | os.PathLike[str] | Config | Mapping[str, Any] | None" = None,
    agent: str | None = None,
    budget: str | None = None,
) -> "Longwatch":
    """Open a fleet, founding it if it is new.

    state: a file (made with its folder if absent, 0600 and 0700); left out: what the config says, else
    .longwatch/longwatch.db here; or the address of a PostgreSQL. admission: the address of a Redis that decides about
    calls, "" for the state's own engine; left out: what the config says. config: a TOML file or a dict of the same form;
    left out: the nearest longwatch.toml upwards. agent, budget: on whose account, where a call does not say.
    Errors: ConfigError, StoreUnavailable.
    """
    from longwatch.surface.api import Longwatch
    from longwatch.surface.opened import acquire, read

    settings = read(state, config, admission=admission, agent=agent, budget=budget)
    return Longwatch(acquire(settings), agent=settings.agent, budget=settings.budget)


__all__ = [
    "AsyncRun",
    "Batch",
    "Bound",
    "Brief",
    "BudgetExceeded",
    "BudgetTooSmall",
    "Caps",
    "Config",
    "ConfigError",
    "EditConflict",
    "GiveUp",
    "Handler",
    "Hit",
    "KeyConflict",
    "LeaseBusy",
    "LeaseLost",
    "LimitRefused",
    "Longwatch",
    "LongwatchError",
    "Memory",
    "Money",
    "NotFound",
    "NotStorable",
    "OwnCap",
    "Plan",
    "Record",
    "Refused",
    "Report",
    "ResourceDirty",
    "RetryLater",
    "Run",
    "ServicePaused",
    "StepReused",
    "StoreUnavailable",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskNotDone",
    "TaskUnknown",
    "UnknownPrice",
    "WaitTimeout",
    "open",
    "task",
]
