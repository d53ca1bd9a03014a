"""Faults that somebody could make in the ledger, the leases and the edits, each planted for the length of a block:
conformance has to find them all. (Those of admission: mutants_admission.py.)

A mutant changes the text of one named statement, or one function where the store calls it. The model keeps the rule.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from longwatch.db import statements
from longwatch.db.connection import Row, Transaction
from longwatch.policy import task as policy
from longwatch.store import dependants, moves, runs, tasks
from longwatch.store.journal import Journal
from longwatch.store.moves import Run, Task, move, read_task, task_of


@dataclass(frozen=True)
class Mutant:
    """name: what is wrong, in a few words. family: of the programs that find it."""

    name: str
    plant: Callable[[], AbstractContextManager[None]]
    family: str = "ledger"


def statement(name: str, right: str, wrong: str) -> Callable[[], AbstractContextManager[None]]:
    """In every dialect the statement says `wrong` where it says `right`."""

    @contextlib.contextmanager
    def planted() -> Generator[None]:
        texts = [statements.load(dialect) for dialect in statements.DIALECTS]
        before = [text[name] for text in texts]
        assert all(right in text for text in before), f"{name} does not say {right!r}"
        for text in texts:
            text[name] = text[name].replace(right, wrong)
        try:
            yield
        finally:
            for text, old in zip(texts, before, strict=True):
                text[name] = old

    return planted


def function(owners: Iterable[object], name: str, wrong: Any) -> Callable[[], AbstractContextManager[None]]:
    """Each of the owners (modules, classes) calls `wrong` by this name."""

    @contextlib.contextmanager
    def planted() -> Generator[None]:
        before = [(owner, getattr(owner, name)) for owner in owners]
        for owner, _ in before:
            setattr(owner, name, wrong)
        try:
            yield
        finally:
            for owner, old in before:
                setattr(owner, name, old)

    return planted


def by_policy(owner: object, **wrong: object) -> Callable[[], AbstractContextManager[None]]:
    """The owner asks another policy; the model still asks the real one."""
    return function([owner], "policy", SimpleNamespace(**(vars(policy) | wrong)))


# -- what the planted functions do -----------------------------------------------------------------------------------------


def tell_nobody(tx: Transaction, journal: Journal, ended: Task) -> int:
    return 0


def tell_one_level(tx: Transaction, journal: Journal, ended: Task) -> int:
    told = [dependants._tell(tx, journal, ended, row) for row in tx.all("tasks.dependants", needs=ended.id)]
    return sum(task is not None and task.state == "scheduled" for task in told)


def revive_one_level(tx: Transaction, journal: Journal, again: Task) -> None:
    for row in tx.all("tasks.dependants", needs=again.id):
        if row.cause is not None and tx.one("tasks.bad_need", task=row.task) is None:
            dependants.run_again(tx, journal, read_task(tx, row.task))


def crash_as_failure(tx: Transaction, journal: Journal, task: Task, verdict: str, once: str | None) -> Task:
    tx.count("tasks.end_run", fence=task.fence, outcome=verdict, error=verdict)
    ended = verdict != "crash"
    return move(tx, journal, task, verdict, error="crash", failures=task.failures + 1, ended=ended)


def claimed_as_crash(self: runs.Runs, tx: Transaction, row: Row) -> None:
    task = task_of(row)
    if task.state == "claimed":
        move(tx, self.journal, task, "expire", crashes=task.crashes + 1)
    else:
        REAL_FREE(self, tx, row)


def finish_once(self: runs.Runs, tx: Transaction, run: Run, outcome: policy.Outcome) -> policy.State:
    raise runs.lost(run)


def leave_running(self: tasks.Tasks, task: str) -> Task:
    found = self.get(task)
    return found if found.state == "running" else REAL_CANCEL(self, task)


def forgive_nothing(tx: Transaction, journal: Journal, ended: Task) -> Task:
    name = "retry" if tx.one("tasks.open_need", task=ended.id) is None else "revive"
    return move(tx, journal, ended, name)


def start_at_once(tx: Transaction, journal: Journal, ended: Task) -> Task:
    return move(tx, journal, ended, "retry", failures=0, crashes=0)


def forget_failures(self: Journal, tx: Transaction, kind: str, subject: str, **facts: Any) -> None:
    if kind != "task.failed":
        REAL_APPEND(self, tx, kind, subject, **facts)


def fail_as_cancel(fate: policy.Fate, state: policy.State) -> str | None:
    verdict = policy.fate_move(fate, state)
    return "need_failed_cancel" if verdict == "need_failed_fail" else verdict


def one_crash_more(*, crashes: int, limit: int, open_once: bool) -> str:
    return policy.after_crash(crashes=crashes - 1, limit=limit, open_once=open_once)


def one_retry_less(*, failures: int, retries: int, final: bool) -> str:
    return policy.after_failure(failures=failures + 1, retries=retries, final=final)


def store_nothing(self: runs.Runs, tx: Transaction, run: Run, last: policy.LastStep) -> None:
    pass


REAL_FREE, REAL_CANCEL, REAL_APPEND = runs.Runs._free, tasks.Tasks.cancel, cast("Any", Journal.append)

FENCE, ALIVE = " and fence = :fence", " and until_ms > :now_ms"


def leases(name: str, text: str, right: str, wrong: str) -> Mutant:
    return Mutant(f"leases: {name}", statement(text, right, wrong), "leases")


MUTANTS: tuple[Mutant, ...] = (
    Mutant("no fence check when a run ends well", statement("tasks.finish", FENCE, "")),
    Mutant("no fence check when a run is given up", statement("tasks.held", FENCE, "")),
    Mutant("a run ends well after its lease", statement("tasks.finish", ALIVE, "")),
    Mutant("a run is given up after its lease", statement("tasks.held", ALIVE, "")),
    Mutant("a run starts after its lease", statement("tasks.start", ALIVE, "")),
    Mutant("a run starts under another's fence", statement("tasks.start", FENCE, "")),
    Mutant("finish is not idempotent", function([runs.Runs], "_concluded_before", finish_once)),
    Mutant("a beat revives what has run out", statement("tasks.beat", ALIVE, "")),
    Mutant("anybody may beat", statement("tasks.beat", "owner = :owner and", "")),
    Mutant("leases end a second early", statement("tasks.expired", "<= :now_ms", "<= :now_ms + 1000")),
    Mutant("dependants are not told", function([runs, tasks], "tell_dependants", tell_nobody)),
    Mutant("dependants are told one level deep", function([runs, tasks], "tell_dependants", tell_one_level)),
    Mutant("revived one level deep", function([tasks], "revive_dependants", revive_one_level)),
    Mutant("a retry starts before its needs", function([tasks, dependants], "run_again", start_at_once)),
    Mutant("a retry does not forgive", function([tasks, dependants], "run_again", forgive_nothing)),
    Mutant("a retry ignores a failed need", statement("tasks.bad_need", "'failed', 'cancelled'", "'nothing'")),
    Mutant("a key is ignored", statement("tasks.by_key", "key = :key", "key = :key and 1 = 0")),
    Mutant("a crash counts as a failure", function([runs], "crashed", crash_as_failure)),
    Mutant("one crash more than the limit", by_policy(runs, after_crash=one_crash_more)),
    Mutant("one retry less than allowed", by_policy(moves, after_failure=one_retry_less)),
    Mutant("a claimed task counts a crash", function([runs.Runs], "_free", claimed_as_crash)),
    Mutant("an open effect is forgotten", statement("tasks.open_once", "state = 'started'", "state = 'lost'")),
    Mutant("an effect from before a restore is repeated", statement("tasks.predates_restore", "epoch <", "0 >")),
    Mutant("a step is stored under another's fence", statement("tasks.store_step", FENCE, "")),
    Mutant("a step is stored after the lease", statement("tasks.store_step", ALIVE, "")),
    Mutant("a step is stored twice", statement("tasks.store_step", " where step.state = 'started'", "")),
    Mutant("a step left for the end is forgotten", function([runs.Runs], "_store_last", store_nothing)),
    Mutant("a need counts as met", statement("tasks.insert_need", ":met", "1")),
    Mutant("one need is enough", statement("tasks.open_need", "met = 0", "met = 2")),
    Mutant("cancel leaves a running one alone", function([tasks.Tasks], "cancel", leave_running)),
    Mutant("lanes are reversed", statement("tasks.ready_of_kind", "order by lane", "order by lane desc")),
    Mutant("due before its instant", statement("tasks.come_due", "ready_ms <= :now_ms", "1 = 1")),
    Mutant("nothing comes due", statement("tasks.due", "ready_ms <= :now_ms", "1 = 0")),
    Mutant("a restore keeps the epoch", statement("backup.set_epoch", "epoch = :epoch, fence = 0", "fence = 0 * :epoch")),
    Mutant("a reboot leaves leases", statement("tasks.end_all_leases", "until_ms = 0", "until_ms = until_ms")),
    Mutant("a fence is given twice", statement("fleet.take_fences", "fence + :amount", "fence + 1")),
    Mutant("a lost claim is not found again", statement("tasks.owned", "owner = :owner", "owner = :owner and 1 = 0")),
    Mutant("steps of an earlier run are overlooked", statement("tasks.claim", "step.task = task.id", "1 = 0")),
    Mutant("a fate is mistaken", by_policy(dependants, fate_move=fail_as_cancel)),
    Mutant("the journal forgets failures", function([Journal], "append", forget_failures)),

    leases("renewed after its end", "leases.renew", ALIVE, ""),
    leases("renewed by anybody", "leases.renew", " and owner = :owner", ""),
    leases("a commit under an old fence", "leases.current", FENCE, ""),
    leases("a commit after the lease's end", "leases.current", ALIVE, ""),
    leases("the line is passed", "leases.ahead", "where asked_ms", "where 1 = 0 and asked_ms"),
    leases("the silent hold the line up", "leases.ahead", "where asked_ms > :now_ms - :silent_ms", "where 1 = 1"),
    leases("outlives its boot", "leases.held", "and l.boot_id = (select boot_id from fleet) as", "as"),
    leases("only one name is taken", "leases.take_on", "json_each(:resources)", "json_each(:resources) limit 1"),
    leases("a dead owner keeps its leases", "leases.of_owner", "owner = :owner", "owner = :owner and 1 = 0"),
    leases("a commit is written twice", "edits.by_id", "id = :id", "id = :id and 1 = 0"),
    leases("a commit is never put in place", "edits.apply", "id = :id", "id = :id and 1 = 0"),
)  # fmt: skip
