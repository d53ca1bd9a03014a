"""Takes a record's text out of memory and of the state, in all places where it is kept, and what is left of it on the disk.

The digests of the snapshots that it is in are made anew; a receipt tells who did it, when, why, and which digests changed, so
that what `verify` finds in order can be told from what it found before. Its place stays, so that nothing seems lost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from longwatch.db.connection import Database, Transaction
from longwatch.policy.authoring import without_claims
from longwatch.policy.memory import Record
from longwatch.policy.snapshot import Shape, digest_of, range_digest, summarise, without
from longwatch.store.left import Range, ranges
from longwatch.store.memory import encode, find, record_of
from longwatch.store.rewriting import refold
from longwatch.store.snapshots import OFFLINE, Snapshot

TABLES = ("memory_record", "memory_receipt", "memory_snapshot", "memory_charter")
decode = msgspec.json.Decoder(dict[str, Any]).decode
OF_THE_STATE = ("record", "task", "step", "run")


@dataclass(frozen=True)
class Redaction:
    """memory: its database. state: the fleet's; the same one on a server. away: reads places that have left."""

    memory: Database
    state: Database
    away: Callable[[str, Sequence[Range]], Sequence[Record]] = lambda agent, left: ()

    def redact(self, agent: str, ref: str, reason: str, *, who: str, told: Sequence[str] = ()) -> Record:
        """Twice does no harm, and finishes what was left half done. told: what else was done, for the receipt.

        Errors: NotFound.
        """
        with self.memory.read() as tx:
            record = find(tx, agent, ref)
        self._of_state(record)
        with self.memory.transaction(part="memory") as tx:
            found = find(tx, agent, ref)
            if found.state != "redacted":
                self._of_memory(tx, found, reason, who, told)
            found = find(tx, agent, ref)
        for database, tables in ((self.memory, TABLES), (self.state, OF_THE_STATE)):
            cast("Any", database).scrub(tables)
        return found

    def add_receipt(self, record: Record, told: Sequence[str], *, who: str) -> None:
        with self.memory.transaction(part="memory") as tx:
            about = {"action": "redact", "agent": record.agent, "subject": record.id}
            tx.count("memory.add_receipt", who=who, note="; ".join(told), **about)

    def _of_memory(self, tx: Transaction, record: Record, reason: str, who: str, told: Sequence[str]) -> None:
        tx.count("memory.redact_words", seq=record.seq)
        tx.count("memory.redact", seq=record.seq)
        tx.count("memory.redact_receipts", subject=record.id)
        for state, amount in ((record.state, -1), ("redacted", 1)):
            tx.count("memory.tally", agent=record.agent, kind=record.kind, state=state, amount=amount)
        changed = [self._rewritten(tx, snapshot, record.place) for snapshot in _holding(tx, record)]
        note = "; ".join([reason or "no reason given", *told, *changed])
        tx.count("memory.add_receipt", who=who, action="redact", agent=record.agent, subject=record.id, note=note)

    def _rewritten(self, tx: Transaction, snapshot: Snapshot, place: int) -> str:
        if snapshot.level == 1:
            first, last = snapshot.first_place, snapshot.last_place
            rows = tx.all(
                "memory.range", agent=snapshot.agent, first_place=first, last_place=last, limit=last - first + 1
            )
            left = ranges(tx, snapshot.agent, first, last)
            away = (
                each for each in self.away(snapshot.agent, left) if first <= each.place <= last
            )  # what left goes on
            found = {each.place: each for each in [*away, *map(record_of, rows)]}
            whole = len(found) == snapshot.records  # else a segment was dropped: nobody can make the digest any more
            digest = range_digest(found[each] for each in sorted(found)) if whole else snapshot.sha256
            shape = self._said_still(snapshot, place, [found[each] for each in sorted(found)] if whole else None)
        else:
            digest = digest_of(Snapshot(*row).sha256 for row in tx.all("memory.children", parent=snapshot.id))
            written = snapshot.author != OFFLINE
            shape = without((refold(tx, snapshot) if written else snapshot).shape, place)
        author = snapshot.author if snapshot.level > 1 else OFFLINE
        why = snapshot.why if author == snapshot.author else "a record of it was redacted"
        body = encode(shape).decode()
        tx.count("memory.rewrite", id=snapshot.id, body=body, sha=digest, author=author, why=why)
        return f"{snapshot.id} {snapshot.sha256[:16]} -> {digest[:16]}"

    def _said_still(self, snapshot: Snapshot, place: int, records: Sequence[Record] | None) -> Shape:
        """A model that read the record may have said it anywhere: all of its text goes. records: None, some are not there."""
        if snapshot.author == OFFLINE:
            return without(snapshot.shape, place)
        if records is None:
            return without(without_claims(snapshot.shape), place)
        return msgspec.structs.replace(summarise(records), numbers=snapshot.shape.numbers)

    def _of_state(self, record: Record) -> None:
        """A run's note stands in the journal too; a task's end is made of the task."""
        if record.task is None or record.source not in ("run", "task"):
            return
        with self.state.transaction() as tx:
            if record.source == "run":
                data = msgspec.json.encode({"record": record.id, "redacted": True}).decode()
                pattern = f"%{record.id.replace('_', '!_')}%"
                tx.count("memory.redact_journal", task=record.task, data=data, pattern=pattern)
                return
            tx.count("memory.redact_task", task=record.task)
            tx.count("memory.redact_steps", task=record.task)
            tx.count("memory.redact_runs", task=record.task)
            tx.count("memory.redact_told", task=record.task)


def _holding(tx: Transaction, record: Record) -> list[Snapshot]:
    return [Snapshot(*row) for row in tx.all("memory.holding", agent=record.agent, place=record.place)]
