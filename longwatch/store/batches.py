"""Requests for snapshots that a provider has as batches: written down before they are made, and until their answer is taken.

Whoever is killed leaves a row behind: without a name there may be a batch or not, with one there is. It goes in the transaction
that puts the answer into the snapshot, or leaves that offline (rewriting.py).
"""

from dataclasses import dataclass
from typing import NamedTuple

from longwatch.db.connection import Database
from longwatch.store.rewriting import Turn, leave, overtaken
from longwatch.store.snapshots import Snapshot

BEFORE = "whoever asked before gave no answer"


class Open(NamedTuple):
    """One request. batch: its batch's name, None: whether there is one is not known. call, owner: that pays for it.

    number: 2, the answer to the first one had not the shape. micros: what that one cost. changes: of the snapshot when its
    records were read. asked_ms: by the calendar.
    """

    snapshot: str
    custom_id: str
    batch: str | None
    call: str
    owner: str
    model: str
    number: int
    micros: int
    changes: int
    asked_ms: int = 0
    age_ms: int = 0


@dataclass(frozen=True)
class Batches:
    database: Database

    def ask(self, turn: Turn, request: Open, *, lease_ms: int, delay_ms: int) -> None:
        """A batch is about to be made: should that come to nothing, nobody asks for so long. Errors: LeaseLost."""
        with self.database.transaction(part="memory") as tx:
            about: dict[str, int | str] = {"lease_ms": lease_ms, "delay_ms": delay_ms, "why": BEFORE}
            if not tx.count("memory.begin_writer", fence=turn.fence, **about):
                raise overtaken(turn)
            tx.count("memory.try_snapshot", id=request.snapshot)
            facts = request._asdict()
            for name in ("batch", "asked_ms", "age_ms"):
                del facts[name]
            tx.count("memory_batches.ask", **facts)

    def made(self, turn: Turn, request: Open, batch: str, *, lease_ms: int, soon_ms: int) -> Open:
        """It was made, or found, and has this name; it is looked at after soon_ms. Errors: LeaseLost."""
        with self.database.transaction(part="memory") as tx:
            if not tx.count("memory.push_writer", fence=turn.fence, lease_ms=lease_ms):
                raise overtaken(turn)
            tx.count("memory.ease_writer", fence=turn.fence)
            named = {"snapshot": request.snapshot, "custom_id": request.custom_id, "batch": batch}
            tx.count("memory_batches.made", **named, soon_ms=soon_ms)
            why = f"{request.model} was asked for it in {batch}"
            leave(tx, request.snapshot, why, micros=0, dropped=0, stands=0)
            return request._replace(batch=batch)

    def look(self, turn: Turn, request: Open, *, lease_ms: int, poll_ms: int) -> None:
        """Somebody looks at it now, and nobody again before poll_ms. Errors: LeaseLost."""
        with self.database.transaction(part="memory") as tx:
            if not tx.count("memory.push_writer", fence=turn.fence, lease_ms=lease_ms):
                raise overtaken(turn)
            tx.count("memory_batches.later", snapshot=request.snapshot, custom_id=request.custom_id, poll_ms=poll_ms)

    def due(self, *, limit: int) -> list[Open]:
        """Those to look at, which longest were not."""
        with self.database.read() as tx:
            return [Open(*row) for row in tx.all("memory_batches.due", limit=limit)]

    def open(self) -> int:
        with self.database.read() as tx:
            row = tx.one("memory_batches.open")
            return 0 if row is None else int(row.batches)

    def names(self) -> set[str]:
        with self.database.read() as tx:
            return {row.batch for row in tx.all("memory_batches.names")}

    def snapshot(self, id: str) -> Snapshot | None:
        with self.database.read() as tx:
            row = tx.one("memory.snapshot", id=id)
            return None if row is None else Snapshot(*row)
