"""Entries of the archive as rows again: a task with its runs, steps, needs, calls and what the journal told of it.

The archive keeps its copy. The rows have the places that they had, so that whatever is told by the order of rows still is;
after a while they go again, and where nothing was changed no second copy is made of them.
"""

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from longwatch.db.connection import Transaction
from longwatch.errors import KeyConflict, LongwatchError
from longwatch.store import taken
from longwatch.store.archive import Entry
from longwatch.store.retire import Retirement

decode = msgspec.json.Decoder(dict[str, Any]).decode
encode = msgspec.json.Encoder().encode
KINDS = ("task", "call", "journal")  # what a task is of; what is remembered of it is memory's
Found = Iterable[tuple[str, Entry]]
"""Entries, each with the name of the segment that it is in."""


class Restored(msgspec.Struct, frozen=True):
    """tasks: ids of those that were brought back. here: of those that were here already. rows: what was written in all.

    passed: entries of the journal that were left out, because their places are those of others by now.
    """

    tasks: list[str]
    here: list[str]
    rows: int
    passed: int = 0


class Written(NamedTuple):
    """Of one task. rows: 0 of one that is here, or not among the entries. passed: entries whose places are taken."""

    rows: int
    passed: int = 0


def restore(
    retirement: Retirement, found: Found, *, keep_ms: int, told: Callable[[Transaction, str], None]
) -> Restored:
    """Bring tasks back with all that belongs to them; twice does no harm. keep_ms: how long they stay at least.

    told: called in the transaction of each task that is brought back. Errors: KeyConflict, LongwatchError when a task of a
    state that was replaced has lost its key or its place to another one; those before it are back then.
    """
    by_task: dict[str, list[tuple[str, Entry]]] = {}
    for segment, entry in found:
        if entry.task and entry.kind in KINDS:
            by_task.setdefault(entry.task, []).append((segment, entry))
    tasks: list[str] = []
    here: list[str] = []
    rows = passed = 0
    for task, entries in by_task.items():
        with retirement.database.transaction() as tx:
            written = _one(tx, retirement, task, entries, keep_ms)
            if written.rows:
                told(tx, task)
        (tasks if written.rows else here).append(task)
        rows, passed = rows + written.rows, passed + written.passed
    return Restored(tasks, here, rows, passed)


def _one(tx: Transaction, retirement: Retirement, task: str, entries: list[tuple[str, Entry]], keep_ms: int) -> Written:
    head = max((entry for _, entry in entries if entry.kind == "task"), key=lambda entry: entry.at_ms, default=None)
    if head is None or tx.one("tasks.by_id", id=task) is not None:
        return Written(0)
    body = decode(head.body)
    _refuse(tx, body)
    written, passed = _task(tx, body), 0
    for _, entry in entries:
        if entry.kind == "call":
            written += _call(tx, retirement, decode(entry.body), body["kind"])
        elif entry.kind == "journal":
            told = decode(entry.body)
            fresh = tx.count("retire.restore_entry", **told | {"data": encode(told["data"]).decode()})
            written, passed = written + fresh, passed + int(not fresh and _is_of_another(tx, told))
    if body["key"] is not None and body["batch"] is None:
        taken.free(tx, body["key"])
    for segment in sorted({segment for segment, _ in entries}):
        tx.count("retire.keep_restored", task=task, segment=segment, keep_ms=keep_ms)
    return Written(written, passed)


def _is_of_another(tx: Transaction, told: Mapping[str, Any]) -> bool:
    """Whether the place of an entry is that of another one, as after the state was restored from an older backup."""
    there = tx.one("retire.entry_at", seq=told["seq"])
    return there is None or (there.at_ms, there.kind, there.subject) != (told["at_ms"], told["kind"], told["subject"])


def unmet(head: Entry) -> list[str]:
    """What a task needed and did not get: it stays ended until that is retried."""
    return [need["needs"] for need in decode(head.body)["needs"] if not need["met"]]


def _refuse(tx: Transaction, body: Mapping[str, Any]) -> None:
    """Errors: KeyConflict when its key is another task's by now; LongwatchError when its place is."""
    hint = f"longwatch archive show {body['id']} tells what came of it."
    if body["key"] is not None and (found := tx.one("tasks.by_key", key=body["key"])) is not None:
        raise KeyConflict(f"the key {body['key']!r} of {body['id']} is that of {found.id} by now", hint=hint)
    if (found := tx.one("retire.at_place", seq=body["seq"])) is not None:
        said = f"{body['id']} is of a state that was replaced by an older one: its place is that of {found.id} by now"
        raise LongwatchError(said, hint=hint)


def _task(tx: Transaction, body: Mapping[str, Any]) -> int:
    belongs = ("runs", "steps", "needs", "caps", "of_batch")
    written = tx.count("retire.restore_task", **{name: value for name, value in body.items() if name not in belongs})
    for run in body["runs"]:
        written += tx.count("retire.restore_run", **run)
    for step in body["steps"]:
        written += tx.count("retire.restore_step", **step)
    for need in body["needs"]:
        written += tx.count("retire.restore_need", **need)
    for cap in body["caps"]:
        written += tx.count("retire.restore_cap", **cap)
    if body["of_batch"] is not None:
        written += tx.count("retire.restore_batch", **body["of_batch"])
    return written


def _call(tx: Transaction, retirement: Retirement, body: Mapping[str, Any], kind: str) -> int:
    """Its cost is no more that of an archived call."""
    values = {name: value for name, value in body.items() if name != "currency"}
    if tx.count("retire.restore_call", **values) == 0:
        if tx.one("call.by_id", id=values["id"]) is None:
            said = f"the place of {values['id']} is another call's by now: it is of a state that was replaced by an older one"
            raise LongwatchError(said, hint=f"longwatch archive show {values['task']} tells what came of its task.")
        return 0
    retirement.cost(tx, [(SimpleNamespace(**values), kind)], sign=-1)
    return 1
