"""Judges a simulated fleet from outside: by what took place at the services, by the files, and by the outcomes that the
ledger lists to a user. A broken promise is raised at once, with its number, the seed, the instant and the last events.

What it is told: which receipts scripts got, which tasks began to run, what people did. What it keeps: the outcome of
every task that has ended, because an outcome never changes by itself.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from longwatch.policy.window import PARTED_MS
from longwatch.testing.load import Receipt
from longwatch.testing.machine import START_WALL_MS, Machine
from longwatch.testing.outside import Effect, Outside
from longwatch.testing.program import DAILY, GROWTH, QUOTA

ENDED = ("done", "failed", "cancelled", "unknown")
DAY_MS = 86_400_000
LEFTOVERS = {
    "open calls": "select id, service, owner from call where state = 'open'",
    "leases": "select id, owner, until_ms from lease",
    "commits without their files": "select id, owner, task from edit where applied_ms is null",
}
STANDING_STILL = (
    "select task.id, run.id from task join run on run.fence = task.fence and run.ended_ms is null"
    " where task.state in ('claimed', 'running') and run.started_ms < ?"
)
LONGEST_RUN_MS = 90 * 60_000  # no outage, pause, hold or line of the simulated world lasts for that long
EXPECTED = re.compile(
    r"(\w+\.)*(GiveUp|RetryLater|BudgetExceeded|LimitRefused|StoreUnavailable|ConnectError|ReadTimeout|ServerError)\b"
    r"|ValueError: no luck|the worker died|needs task_|resolved as failed"
)


class Broken(AssertionError):
    """A promise was broken. promise: its number in the design, such as "P1"."""

    def __init__(self, promise: str, what: str, machine: Machine, seed: int) -> None:
        events = "\n    ".join(machine.last_events[-25:])
        super().__init__(
            f"{promise} broken at {machine.driver.now_ms} ms of seed {seed}: {what}\n  the last events:\n    {events}"
        )
        self.promise, self.what, self.seed, self.at_ms = promise, what, seed, machine.driver.now_ms


@dataclass
class Auditor:
    """caps: by what is capped, a day."""

    machine: Machine
    outside: Outside
    seed: int
    agents: int
    receipts: dict[str, Receipt] = field(default_factory=dict[str, Receipt])  # by key
    by_id: dict[str, Receipt] = field(default_factory=dict[str, Receipt])
    outcomes: dict[str, tuple[str, str | None]] = field(default_factory=dict[str, tuple[str, "str | None"]])
    seen_unknown: set[str] = field(default_factory=set[str])
    last_run: dict[str, str] = field(default_factory=dict[str, str])
    touched: set[str] = field(default_factory=set[str])
    runs: Counter[str] = field(default_factory=Counter[str])
    checks: int = 0
    _commits: int = 0
    _seen_ms: int = -1
    _boots: int = 1

    def broken(self, promise: str, what: str) -> Broken:
        """The error, which also ends the simulation whoever catches it."""
        error = Broken(promise, what, self.machine, self.seed)
        self.machine.driver.failure = self.machine.driver.failure or error
        return error

    # -- what it is told ---------------------------------------------------------------------------------------------------

    def submitted(self, receipts: list[Receipt]) -> None:
        for receipt in receipts:
            known = self.receipts.setdefault(receipt.key, receipt)
            if known.id != receipt.id:
                raise self.broken("P1", f"the key {receipt.key} made two tasks: {known.id} and {receipt.id}")
            self.by_id[receipt.id] = receipt

    def ran(self, task: str, run: str) -> None:
        """A run of the task begins: everything it needs must have succeeded, or may be ignored."""
        self.runs[task] += 1
        self.last_run[task] = run
        needs = self._all("select needs, fate from need where task = ?", task)
        for need, fate in needs:
            state = self._one("select state from task where id = ?", need)
            if state != "done" and not (fate == "ignore" and state in ("failed", "cancelled")):
                raise self.broken("P7", f"{task} runs although {need}, which it needs, is {state}")

    def person_begins(self, task: str) -> None:
        """A person retries or resolves the task: its outcome may change, and that of what it had taken down."""
        self.touched.add(task)
        self.touched.update(felled for (felled,) in self._all("select id from task where cause = ?", task))

    def person_ends(self) -> None:
        for task in self.touched:
            self.outcomes.pop(task, None)
        self.touched.clear()

    # -- at every commit ---------------------------------------------------------------------------------------------------

    def at_commit(self, told: str) -> None:
        if "call." not in told and "spend." not in told:
            return
        self._commits += 1
        if self._commits % 3 == 0:
            self.check_caps()

    def check_caps(self) -> None:
        """Held + spent is never above a cap, in the window that the calendar is in."""
        self.checks += 1
        at_ms = self._one("select at_ms from calendar")
        if at_ms > START_WALL_MS + self.machine.driver.now_ms + PARTED_MS:
            raise self.broken(
                "P4", f"the budgets' calendar is at {at_ms}, before its time: a jump of the clock moved it"
            )
        start_ms = at_ms - at_ms % DAY_MS
        spent = {
            (purse, dimension): settled
            for purse, dimension, settled in self._all(
                "select purse, dimension, settled from spend where per = 'day' and starts_ms = ?", start_ms
            )
        }
        held = self._all(
            "select service, budget, money, calls from call where state = 'open' and calendar_ms >= ?", start_ms
        )
        self._check("fleet", "money", spent, sum(row[2] for row in held), DAILY * self.agents)
        growth = sum(row[2] for row in held if row[1] == "growth")
        self._check("budget:growth", "money", spent, growth, GROWTH * self.agents)
        looked = sum(row[3] for row in held if row[0] == "github")
        self._check("service:github", "calls", spent, looked, QUOTA * self.agents)

    def _check(self, purse: str, dimension: str, spent: dict[tuple[str, str], int], held: int, cap: int) -> None:
        total = spent.get((purse, dimension), 0) + held
        if total > cap:
            raise self.broken("P4", f"{purse}: {spent} spent and {held} held of {dimension}, the cap is {cap}")

    def check_bill(self) -> None:
        """By the services' own bill and the sun's own days: no jump of a clock opens a budget before its time."""
        days = self.machine.driver.now_ms // DAY_MS + 1
        billed = self.outside.billed
        if billed > days * DAILY * self.agents:
            raise self.broken("P4", f"{billed} billed in {days} days, the cap is {DAILY * self.agents} a day")

    # -- now and then ------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """No service is overrun, no budget is opened early, nothing runs for ever."""
        if self.outside.refused_429:
            raise self.broken("P3", f"429: {self.outside.refused_429[0]}")
        if self.outside.crowded:
            raise self.broken("P3", f"too many at one time: {self.outside.crowded[0]}")
        self.check_bill()
        before_ms = self.machine.steady_ms() + self.machine.database.offset_ms - LONGEST_RUN_MS
        for task, run in self._all(STANDING_STILL, before_ms):
            raise self.broken("P8", f"{run} of {task} has been running for {LONGEST_RUN_MS // 60_000} minutes")

    def look(self) -> None:
        """As `watch`; and outcomes do not change by themselves."""
        self.watch()
        if self.machine.boots != self._boots:
            self._boots, self._seen_ms = (
                self.machine.boots,
                -1,
            )  # an idle fleet's clock may start again a little earlier
        since_ms, self._seen_ms = self._seen_ms, self.machine.steady_ms() + self.machine.database.offset_ms
        rows = self._all("select id, state, result from task where ended_ms >= ?", since_ms - 1)
        for task, state, result in rows:
            self._keep(task, state, result)

    def _keep(self, task: str, state: str, result: str | None) -> None:
        if state == "unknown":
            self.seen_unknown.add(task)
        by = json.loads(result or "null") or {"run": ""}
        if by["run"] and by["run"] != self.last_run[task]:
            raise self.broken("P1", f"{task} was finished by {by['run']}, which {self.last_run[task]} had followed")
        known = self.outcomes.setdefault(task, (state, result))
        if known != (state, result) and task not in self.touched:
            raise self.broken("P1", f"{task} had ended {known}, and is {state} {result} now")

    def unknown(self) -> list[str]:
        self.look()
        return [task for (task,) in self._all("select id from task where state = 'unknown' order by seq")]

    def effects_of(self, task: str, what: str) -> list[Effect]:
        return [
            reply.effect
            for reply in self.outside.replies.get(task, ())
            if reply.effect is not None and reply.effect.what == what
        ]

    # -- at the end ----------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[tuple[str, str]]:
        marks = ",".join("?" * len(ENDED))
        return self._all(f"select id, state from task where state not in ({marks}) order by seq", *ENDED)

    def due_ms(self) -> int | None:
        """From when on there is something to do, in milliseconds from now; None: at once, or never."""
        if self._one("select 1 from task where state in ('ready', 'claimed', 'running', 'unknown') limit 1"):
            return None
        first_ms = self._one("select min(ready_ms) from task where state = 'scheduled'")
        now_ms = self.machine.steady_ms() + self.machine.database.offset_ms
        return None if first_ms is None else first_ms - now_ms

    def close(
        self, books: dict[int, tuple[dict[str, int], list[tuple[int, str, int]]]], logs: dict[str, list[str]]
    ) -> None:
        """Everything has drained: judge the whole. books: (index, lines) by number; logs: tasks that wrote, by kind."""
        self._seen_ms = -1
        self.look()
        self._close_ledger()
        self._close_leftovers()
        self._close_errors()
        self._close_effects()
        self._close_bill()
        for book, (index, lines) in books.items():
            self._close_book(book, index, lines)
        booked = Counter(line[1] for _, lines in books.values() for line in lines)
        for kind, written in (
            ("invoice", booked),
            ("crawl", Counter(logs["crawl"])),
            ("report", Counter(logs["report"])),
        ):
            self._close_written(kind, written)

    def _close_ledger(self) -> None:
        for task, state in self.unfinished():
            raise self.broken("P1", f"{task} is still {state} although everything has drained")
        listed = dict(self._all("select id, state from task"))
        for task in self.by_id:
            if listed.get(task) is None:
                raise self.broken("P1", f"{task} was submitted and is not in the ledger")
        if len(listed) != len(self.by_id):
            raise self.broken("P1", f"{len(listed)} tasks in the ledger, {len(self.by_id)} were submitted")

    def _close_leftovers(self) -> None:
        """Whatever the dead held has come back."""
        for what, sql in LEFTOVERS.items():
            left = self._all(sql)
            if left:
                raise self.broken("P8", f"{len(left)} {what} are left although everything has drained: {left[:3]}")

    def _close_errors(self) -> None:
        """A task may fail by what its handler means, by the services and by refusals; not by an error of the code."""
        for task, kind, error in self._all("select id, kind, error from task where state = 'failed'"):
            if not EXPECTED.match(str(error)):
                raise self.broken("P1", f"{task} ({kind}) failed by something that nobody meant: {error}")

    def _close_effects(self) -> None:
        for task, receipt in self.by_id.items():
            if receipt.kind != "invoice":
                continue
            state = self.outcomes[task][0]
            for what in ("charge", "issue"):
                found = len({id(effect) for effect in self.effects_of(task, what)})
                if found > 1:
                    raise self.broken("P1", f"{task} ({state}): {what} took place {found} times")
                if state == "done" and found == 0 and task not in self.seen_unknown:
                    raise self.broken("P1", f"{task} is done and its {what} never took place")
        for effect in self.outside.effects:
            untold = [r for r in self.outside.replies[effect.task] if r.effect is effect and not r.told]
            if effect.what == "issue" and untold and effect.task not in self.seen_unknown:
                raise self.broken("P1", f"the reply of {effect.task}'s issue was lost, and it never was unknown")

    def _close_bill(self) -> None:
        billed: Counter[tuple[str, str]] = Counter()
        for effect in self.outside.effects:
            billed[("budget", effect.budget)] += effect.cost
            billed[("agent", effect.agent)] += effect.cost
        for (column, name), cost in billed.items():
            recorded = self._one(
                f"select sum(money) from call where state in ('settled', 'unknown') and {column} = ?", name
            )
            if (recorded or 0) < cost:
                raise self.broken("P4", f"{column} {name}: billed {cost}, recorded {recorded}")
        for effect in self.outside.effects:
            self._close_key(effect)
        for starts_ms, ends_ms, settled in self._all(
            "select starts_ms, ends_ms, settled from spend where purse = 'fleet' and dimension = 'money'"
        ):
            total = self._one(
                "select sum(money) from call where calendar_ms >= ? and calendar_ms < ?"
                " and state in ('settled', 'unknown')",
                starts_ms,
                ends_ms,
            )
            if settled != (total or 0):
                raise self.broken("P4", f"the window of {starts_ms} says {settled}, its calls add up to {total}")

    def _close_key(self, effect: Effect) -> None:
        """Where the service remembers keys, what all calls with one key are charged is the bill, to the micro-unit."""
        if self.outside.services[effect.service].remembers:
            recorded = self._one(
                "select sum(money) from call where key = ? and key <> id and service = ?", effect.key, effect.service
            )
            if recorded != effect.cost:
                raise self.broken(
                    "P4", f"{effect.task}: billed {effect.cost} once, recorded {recorded} for {effect.key}"
                )

    def _close_written(self, kind: str, written: Counter[str]) -> None:
        """An acknowledged edit is there, and there once."""
        for task, receipt in self.by_id.items():
            if receipt.kind == kind:
                least = self.outcomes[task][0] == "done" and task not in self.seen_unknown
                if not least <= written[task] <= 1:
                    raise self.broken("P2", f"{task} is {self.outcomes[task][0]} and was written {written[task]} times")

    def _close_book(self, book: int, index: dict[str, int], lines: list[tuple[int, str, int]]) -> None:
        if [line[0] for line in lines] != list(range(1, len(lines) + 1)):
            raise self.broken("P2", f"book {book} has a gap in its numbers")
        if index["n"] != len(lines) or index["sum"] != sum(line[2] for line in lines):
            raise self.broken("P2", f"book {book}: the index says {index}, the ledger has {len(lines)} lines")

    # -- SQL of its own ------------------------------------------------------------------------------------------------------

    def _all(self, sql: str, *values: str | int) -> list[Any]:
        return self.machine.rows(sql, *values)

    def _one(self, sql: str, *values: str | int) -> Any:
        rows = self._all(sql, *values)
        return rows[0][0] if rows else None


__all__ = ["START_WALL_MS", "Auditor", "Broken"]
