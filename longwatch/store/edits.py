"""The redo record of file commits: written with the fence check, read by whoever has to finish one."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Database, Transaction
from longwatch.policy.edit import Item
from longwatch.policy.lease import Holder
from longwatch.store.journal import Journal
from longwatch.store.leases import LeaseStore, check

Also = Callable[[Transaction], None]
"""What else stands or falls with a commit: the result of the step that the edit was part of."""

Fences = Sequence[tuple[str, int]]
"""(lease, fence) of everything a commit writes to."""

KEEP_MS = 600_000  # how long the record of a finished commit answers a repeated one


@dataclass(frozen=True)
class Pending:
    """A commit that was written down and not put in place to the end. items: as they were committed."""

    id: str
    agent: str
    task: str | None
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Position:
    """seq: changes with every commit; pending: how many of the root's commits are not in place yet."""

    seq: int
    pending: int


@dataclass(frozen=True)
class EditStore:
    database: Database
    journal: Journal
    leases: LeaseStore

    def commit(
        self, edit: str, items: tuple[Item, ...], *, root: str, holder: Holder, fences: Fences, also: Also
    ) -> None:
        """Write down what is to be put in place, together with `also`. Repeated with one id it is the same commit.

        Errors: LeaseLost when one of the fences is no longer current; whatever `also` raises. Nothing is written then.
        """
        with self.database.transaction() as tx:
            if tx.one("edits.by_id", id=edit) is not None:
                return
            for lease, fence in fences:
                check(tx, lease, fence=fence)
            tx.count("edits.commit", id=edit, root=root, items=_encode(items), **_who(holder))
            also(tx)
            files = {item.target: item.sha256 for item in items}
            self.journal.append(tx, "edit.committed", edit, agent=holder.agent, task=holder.task, files=files)

    def mark(self) -> str:
        """Eight characters that tell this state's folders from another's."""
        with self.database.read() as tx:
            row = tx.one("fleet.found")
        assert row is not None
        return hashlib.sha256(f"{row.created_ms} {row.redaction_key}".encode()).hexdigest()[:8]

    def landed(self, edit: str) -> bool:
        """Whether the commit is written down."""
        with self.database.read() as tx:
            return tx.one("edits.by_id", id=edit) is not None

    def apply(self, edit: str, *, agent: str, task: str | None, release: Sequence[str]) -> None:
        """Everything is in place; the leases go back. Not synced: after a power cut putting in place is repeated."""
        with self.database.transaction(durable=False) as tx:
            if tx.count("edits.apply", id=edit):
                self.journal.append(tx, "edit.applied", edit, agent=agent, task=task)
            for lease in release:
                self.leases.release_in(tx, lease)

    def pending(self, root: str) -> list[Pending]:
        """The root's commits that somebody has to finish, oldest first."""
        with self.database.read() as tx:
            rows = tx.all("edits.pending", root=root)
        return [Pending(row.id, row.agent, row.task, _decode(row.items)) for row in rows]

    def position(self, root: str) -> Position:
        """Equal before and after, with nothing pending: no commit happened in between."""
        with self.database.read() as tx:
            row = tx.one("edits.position", root=root)
        assert row is not None
        return Position(row.seq, row.pending)

    def live(self) -> set[str]:
        """Edits whose lease has not ended: their folders are in use."""
        with self.database.read() as tx:
            return {row.id for row in tx.all("edits.live")}

    def forget(self, *, limit: int) -> int:
        """Drop the records of commits finished long ago; how many."""
        with self.database.transaction(durable=False) as tx:
            return tx.count("edits.forget", keep_ms=KEEP_MS, limit=limit)

    def killed(self, pids: Sequence[int]) -> None:
        """Processes that stood still while they held the root's lock were ended, so that the others could go on."""
        with self.database.transaction(durable=False) as tx:
            for pid in pids:
                self.journal.append(tx, "process.killed", f"pid {pid}", reason="stopped while it held the root's lock")


def _encode(items: tuple[Item, ...]) -> str:
    return msgspec.json.encode(items).decode()


def _decode(text: str) -> tuple[Item, ...]:
    return msgspec.json.decode(text, type=tuple[Item, ...])


def _who(holder: Holder) -> dict[str, str | None]:
    return {"owner": holder.owner, "agent": holder.agent, "task": holder.task}
