"""What a simulated agent has to do in a day, by seed, and the processes that submit, work, look after it and read.

A day has BURSTS bursts. In each, every agent's script submits its tasks and a worker runs until nothing is due; a script
that dies is started again with the same keys. An operator settles what only a person can.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from longwatch.config import Settings, load
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import NotFound
from longwatch.policy.limits import Limits
from longwatch.policy.task import Fate
from longwatch.runtime.handler import Handler
from longwatch.runtime.persist import persist
from longwatch.runtime.root import RootLock
from longwatch.store import fleet
from longwatch.surface.api import Longwatch
from longwatch.surface.opened import Opened, agree, assemble
from longwatch.testing.kernel import VirtualRootLock
from longwatch.testing.machine import Process

BURSTS = 6
LEASE_MS = 60_000
REDACTION_KEY = "0" * 32
Lane = Literal["urgent", "normal", "batch"]


@dataclass(frozen=True)
class Spec:
    """A task that a script submits. after: keys of tasks that it needs."""

    key: str
    kind: str
    args: dict[str, Any]
    after: tuple[str, ...] = ()
    fate: Fate = "cancel"
    lane: Lane = "normal"
    at: str | None = None


@dataclass(frozen=True)
class Burst:
    """What one agent submits at once. pages: a batch of crawls."""

    name: str
    agent: str
    specs: tuple[Spec, ...]
    pages: tuple[int, ...]


def plan_burst(source: random.Random, *, name: str, agent: str, books: range) -> Burst:
    """Eight tasks or a few more: about 36 calls and 8 edits."""
    invoices = [
        Spec(
            f"{name}/invoice-{place}",
            "invoice",
            {"customer": source.randrange(500), "pence": source.randrange(100, 9_000), "book": source.choice(books)},
            lane=source.choice(("normal", "normal", "urgent", "batch")),
            at=source.choice((None, None, None, f"{source.randrange(5, 200)}s")),
        )
        for place in range(source.randrange(3, 6))
    ]
    how = source.choice(("raise", "raise", "give up", "later"))
    fails = Spec(f"{name}/flaky", "flaky", {"fails": source.choice((0, 1, 2, 5)), "how": how}, lane="urgent")
    fate: Fate = source.choice(("cancel", "fail", "ignore"))
    needs = tuple(spec.key for spec in source.sample(invoices, 2))
    report = Spec(f"{name}/report", "report", {"book": source.choice(books)}, after=needs, fate=fate)
    then = Spec(
        f"{name}/then",
        source.choice(("report", "flaky")),
        {},
        after=(fails.key, report.key) if source.random() < 0.5 else (fails.key,),
        fate=source.choice(("cancel", "cancel", "fail", "ignore")),
    )
    args = {"book": source.choice(books)} if then.kind == "report" else {"fails": 0, "how": "last"}
    then = Spec(then.key, then.kind, args, then.after, then.fate)
    pages = tuple(source.sample(range(3, 8), 2))  # two items that are alike would be one task
    return Burst(name, agent, (fails, *invoices, report, then), pages)


# -- processes -------------------------------------------------------------------------------------------------------------


def settings_for(root: Path, limits: Limits) -> Settings:
    config = {"fleet": {"name": "simulated", "lease": f"{LEASE_MS // 1000}s", "root": str(root)}}
    found = load(config, environ={}, cwd=root, state=str(root / "state.db"), agent=None, budget=None)
    return cast("Settings", _replaced(found, limits))


def _replaced(settings: Settings, limits: Limits) -> object:
    import dataclasses

    return dataclasses.replace(settings, limits=limits)


def open_fleet(process: Process, settings: Settings) -> Opened:
    """As surface.opened.wire, with the process's own world, sleeper and view of the state."""
    database = cast("SqliteDatabase", process.database)
    joined = fleet.enter(database, process.world, name=settings.name or "", redaction_key=REDACTION_KEY)
    parts = assemble(settings, process.world, process.sleeper, database, joined, ())
    if joined.rebooted:
        parts.workers.end_all()
    agree(parts, settings)
    process.critical += 1  # a cached property is locked over all instances, and here those are several processes
    root = parts.edits.root
    process.critical -= 1
    root.lock.close()
    root.lock = cast("RootLock", VirtualRootLock(process, process.machine.root_lock))
    return Opened(settings, parts)


@dataclass(frozen=True)
class Receipt:
    """A key that was submitted, the id it got, and the ids of what it needs."""

    key: str
    id: str
    kind: str
    after: tuple[str, ...]
    fate: Fate


def submit(process: Process, settings: Settings, burst: Burst, handlers: Sequence[Handler[..., Any]]) -> list[Receipt]:
    """The script of one burst; started again it submits nothing new."""
    lw = Longwatch(open_fleet(process, settings), agent=burst.agent, budget="billing")
    lw.include(*handlers)
    items = [("crawl", {"pages": pages}) for pages in burst.pages]
    batch = lw.submit_batch(burst.name, items)
    receipts = [Receipt(str(task.key), task.id, task.kind, (), "cancel") for task in batch]
    ids: dict[str, str] = {}
    for spec in burst.specs:
        needs = tuple(ids[key] for key in spec.after)
        task = lw.submit(
            spec.kind, spec.args, key=spec.key, after=needs, after_failed=spec.fate, lane=spec.lane, at=spec.at
        )
        ids[spec.key] = task.id
        receipts.append(Receipt(spec.key, task.id, spec.kind, needs, spec.fate))
    return receipts


def upkeep(process: Process, settings: Settings) -> None:
    """What nobody waits for: expired leases, calls without an owner, folders of dead edits."""
    parts = open_fleet(process, settings).parts
    parts.calls.expire()
    parts.leases.expire(limit=100)
    parts.runs.sweep()
    parts.edits.sweep()


def cancel_some(process: Process, settings: Settings, tasks: Sequence[str]) -> list[str]:
    """A person cancels these; the ids of those that were cancelled."""
    lw = Longwatch(open_fleet(process, settings), agent="person", budget=None)
    cancelled: list[str] = []
    for task in tasks:
        try:
            if persist(lambda task=task: lw.cancel(task)).state == "cancelled":  # type: ignore[misc]
                cancelled.append(task)
        except NotFound:
            continue
    return cancelled
