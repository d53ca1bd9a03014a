"""Snapshots whose text is written anew: by a model, in place of the offline summary, or because of what was redacted.

What a snapshot covers, its id and its digest stay. Only one process asks a model, under a fence of its own, so that nobody
who makes snapshots waits for it. A text takes another one's place only while that is as it was when its records were read, and
what snapshots are made of it is made anew in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import LeaseLost
from longwatch.policy.snapshot import Shape, fold, places_of
from longwatch.store.memory import encode
from longwatch.store.snapshots import Snapshot, author_of

CHANGED = "it was changed while it was written"


class Turn(NamedTuple):
    """The right to ask. failures: asked in a row without an answer."""

    fence: int
    failures: int


class Pause(NamedTuple):
    """pauses: nobody asks yet, because of `why`. asks: somebody does now."""

    pauses: bool
    asks: bool
    why: str | None


@dataclass(frozen=True)
class Rewriting:
    database: Database

    # -- who asks ----------------------------------------------------------------------------------------------------------

    def take(self, holder: str, *, lease_ms: int) -> Turn | None:
        """None: somebody else does, or nobody may yet."""
        with self.database.transaction(part="memory", durable=False) as tx:
            row = tx.one("memory.take_writer", holder=holder, lease_ms=lease_ms)
            return None if row is None else Turn(int(row.fence), int(row.failures))

    def begin(self, turn: Turn, snapshot: str, *, lease_ms: int, delay_ms: int) -> None:
        """A model is about to be asked for the snapshot: should no answer come, nobody asks for so long. Errors: LeaseLost."""
        with self.database.transaction(part="memory") as tx:
            about: dict[str, int | str] = {
                "lease_ms": lease_ms,
                "delay_ms": delay_ms,
                "why": "whoever asked before gave no answer",
            }
            if not tx.count("memory.begin_writer", fence=turn.fence, **about):
                raise overtaken(turn)
            tx.count("memory.try_snapshot", id=snapshot)

    def give_back(self, turn: Turn) -> None:
        with self.database.transaction(part="memory", durable=False) as tx:
            tx.count("memory.drop_writer", fence=turn.fence)

    def pause(self) -> Pause:
        with self.database.read() as tx:
            row = tx.one("memory.writer")
            return Pause(False, False, None) if row is None else Pause(bool(row.pauses), bool(row.asks), row.why)

    # -- what is to be written -----------------------------------------------------------------------------------------------

    def next(self, agent: str | None = None) -> Snapshot | None:
        """The offline one that was asked for the least often, the newest of those; agent: of whom."""
        with self.database.read() as tx:
            row = tx.one("memory.unwritten") if agent is None else tx.one("memory.unwritten_of", agent=agent)
            return None if row is None else Snapshot(*row)

    def write(
        self,
        snapshot: Snapshot,
        shape: Shape,
        turn: Turn,
        *,
        author: str,
        micros: int,
        dropped: int,
        lease_ms: int,
        batch: str | None = None,
    ) -> bool:
        """The model's text in place of the offline one, there and in whatever it is part of.

        batch: the request of a batch that is over with it. False: that was changed meanwhile, and stays. Errors: LeaseLost.
        """
        body = encode(shape).decode()
        about: dict[str, int | str] = {
            "author": author,
            "micros": micros,
            "dropped": dropped,
            "changes": snapshot.changes,
        }
        with self.database.transaction(part="memory") as tx:
            if not tx.count("memory.push_writer", fence=turn.fence, lease_ms=lease_ms):
                raise overtaken(turn)
            tx.count("memory.ease_writer", fence=turn.fence)
            _over(tx, snapshot, batch)
            if not tx.count("memory.write_snapshot", id=snapshot.id, body=body, **about):
                leave(tx, snapshot.id, CHANGED, micros=micros, dropped=dropped, stands=0)
                return False
            note = f"{micros} micros, {dropped} claims dropped"
            receipt = {"action": "write", "agent": snapshot.agent, "subject": snapshot.id, "note": note}
            tx.count("memory.add_receipt", who=author, **receipt)
            _refold_over(tx, _one(tx, snapshot.id))
            return True

    def throw_away(self, snapshot: Snapshot, turn: Turn, *, micros: int, batch: str) -> None:
        """The answer in the batch is of what the snapshot was before: it stays offline, and is asked for again."""
        with self.database.transaction(part="memory") as tx:
            tx.count("memory.ease_writer", fence=turn.fence)
            if _over(tx, snapshot, batch):
                leave(tx, snapshot.id, CHANGED, micros=micros, dropped=snapshot.dropped, stands=0)

    def leave(
        self, snapshot: Snapshot, turn: Turn, why: str, *, micros: int = 0, dropped: int = 0, batch: str | None = None
    ) -> None:
        """It stays offline for good: its answer is no good, or there is nothing to ask. batch: as `write`."""
        with self.database.transaction(part="memory") as tx:
            tx.count("memory.ease_writer", fence=turn.fence)
            if _over(tx, snapshot, batch):
                leave(tx, snapshot.id, why, micros=micros, dropped=dropped, stands=1)

    def put_off(self, snapshot: Snapshot, turn: Turn, why: str, *, micros: int, batch: str | None = None) -> None:
        """It stays offline for now; the pause that was begun goes on. batch: as `write`."""
        with self.database.transaction(part="memory") as tx:
            tx.count("memory.note_writer", fence=turn.fence, why=why)
            if _over(tx, snapshot, batch):
                leave(tx, snapshot.id, why, micros=micros, dropped=snapshot.dropped, stands=0)


def _over(tx: Transaction, snapshot: Snapshot, batch: str | None) -> bool:
    """False: it was over before, and what came of it is written down."""
    return batch is None or bool(tx.count("memory_batches.over", snapshot=snapshot.id, custom_id=batch))


def refold(tx: Transaction, parent: Snapshot) -> Snapshot:
    """A snapshot of others, made of them as they are now; its digest stays."""
    children = [Snapshot(*row) for row in tx.all("memory.children", parent=parent.id)]
    shapes = [each.shape for each in children]
    body = encode(fold(shapes, gone=_gone(tx, parent.agent, shapes))).decode()
    author = author_of(children)
    tx.count("memory.refold", id=parent.id, body=body, author=author)
    return msgspec.structs.replace(parent, body=body, author=author)


def _refold_over(tx: Transaction, snapshot: Snapshot) -> None:
    while snapshot.parent is not None:
        snapshot = refold(tx, _one(tx, snapshot.parent))


def _one(tx: Transaction, id: str) -> Snapshot:
    row: Row | None = tx.one("memory.snapshot", id=id)
    assert row is not None, f"{id} is not there"
    return Snapshot(*row)


def _gone(tx: Transaction, agent: str, shapes: Sequence[Shape]) -> set[int]:
    listed = sorted(set[int]().union(*(places_of(shape) for shape in shapes)))
    return {row.place for row in tx.all("memory.gone", agent=agent, listed=encode(listed).decode())}


def leave(tx: Transaction, snapshot: str, why: str, *, micros: int, dropped: int, stands: int) -> None:
    tx.count("memory.leave_snapshot", id=snapshot, why=why, micros=micros, dropped=dropped, stands=stands)


def overtaken(turn: Turn) -> LeaseLost:
    return LeaseLost(
        f"another process asks for snapshots now (fence {turn.fence} was overtaken)", hint="Stop; nothing was written."
    )
