"""Leases and the line before them. Everything is judged at the transaction's own instant, under the state's write lock."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import LeaseLost
from longwatch.policy.lease import SILENT_MS, Claim, Holder, blocking
from longwatch.store.fleet import take_fences
from longwatch.store.journal import Journal

Names = tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """A lease from now until `until_ms`, epoch milliseconds on the fleet's steady clock."""

    id: str
    fence: int
    until_ms: int


@dataclass(frozen=True)
class Busy:
    """Somebody else has it. place: how many stand in line before this one (0: only the holder is in the way)."""

    by: Claim
    place: int


@dataclass(frozen=True)
class Listed:
    """A live lease as listings show it. edit: the edit it is for."""

    id: str
    fence: int
    owner: str
    agent: str
    task: str | None
    edit: str | None
    names: Names
    until_ms: int


@dataclass(frozen=True)
class LeaseStore:
    database: Database
    journal: Journal

    def take(self, lease: str, names: Names, *, holder: Holder, ttl_ms: int, edit: str | None = None) -> Taken | Busy:
        """Take all of `names` or none, or confirm a place in line. Repeated with one id it is the same lease.

        lease: an id made by the caller. edit: the edit that the lease is for.
        """
        with self.database.transaction() as tx:
            if mine := tx.one("leases.live_by_id", id=lease):
                return Taken(mine.id, mine.fence, mine.until_ms)
            held, over = _held(tx, names)
            if busy := _blocked(tx, lease, names, held):
                tx.count("leases.clear_line", silent_ms=SILENT_MS)
                tx.count("leases.stand_in_line", id=lease, resources=_json(names), **_who(holder))
                return busy
            for old in over:
                self._end(tx, old, "lease.overtaken", by=lease)
            return self._take(tx, lease, names, holder, ttl_ms, edit)

    def _take(self, tx: Transaction, lease: str, names: Names, holder: Holder, ttl_ms: int, edit: str | None) -> Taken:
        self._end(tx, lease, "lease.expired")  # an earlier life of the same id that has run out
        fence = take_fences(tx)[0]
        tx.count("leases.take", id=lease, fence=fence, edit=edit, ttl_ms=ttl_ms, **_who(holder))
        tx.count("leases.take_on", id=lease, resources=_json(names))
        tx.count("leases.leave_line", id=lease)
        self.journal.append(
            tx, "lease.taken", lease, agent=holder.agent, task=holder.task, names=names, fence=fence, ttl_ms=ttl_ms
        )
        return Taken(lease, fence, tx.now_ms + ttl_ms)

    def blocked(self, lease: str, names: Names) -> Busy | None:
        """Whether `take` would have to wait, without waiting for writers; nothing is written."""
        with self.database.read() as tx:
            return _blocked(tx, lease, names, _held(tx, names)[0])

    def renew(self, leases: Sequence[str], *, owner: str) -> dict[str, int]:
        """Push leases on, each by its own length. The new end by id; what is missing has been lost."""
        with self.database.transaction(durable=False) as tx:  # after a power cut every lease is over anyway
            return {row.id: row.until_ms for row in tx.all("leases.renew", ids=_json(leases), owner=owner)}

    def release(self, lease: str) -> None:
        """Give the lease back, or the place in line. Repeated, or too late, it does nothing."""
        with self.database.transaction(durable=False) as tx:
            self.release_in(tx, lease)

    def release_in(self, tx: Transaction, lease: str) -> None:
        """As `release`, in an open transaction."""
        tx.count("leases.leave_line", id=lease)
        self._end(tx, lease, "lease.released")

    def until(self, lease: str, *, fence: int) -> int | None:
        """When the lease ends, or None: it is lost."""
        with self.database.read() as tx:
            row = tx.one("leases.current", id=lease, fence=fence)
        return None if row is None else row.until_ms

    def expire(self, *, limit: int) -> int:
        """Drop up to `limit` leases that have run out, or that another boot left behind; how many."""
        return self._end_all("leases.over", limit=limit)

    def bury(self, owner: str) -> int:
        """The owner is confirmed dead: its leases end now, its places in line are free; how many leases."""
        return self._end_all("leases.of_owner", owner=owner)

    def _end_all(self, which: str, **values: str | int) -> int:
        with self.database.transaction() as tx:
            if "owner" in values:
                tx.count("leases.clear_line_of", owner=values["owner"])
            found = tx.all(which, **values)
            for row in found:
                self._end(tx, row.id, "lease.expired", **({"reason": "owner dead"} if "owner" in values else {}))
        return len(found)

    def live(self) -> list[Listed]:
        """Every live lease, the soonest to end first."""
        with self.database.read() as tx:
            rows = tx.all("leases.live")
        found: dict[str, Listed] = {}
        for row in rows:
            known = found.get(row.id) or Listed(
                row.id, row.fence, row.owner, row.agent, row.task, row.edit, (), row.until_ms
            )
            found[row.id] = replace(known, names=(*known.names, row.resource)) if row.resource else known
        return list(found.values())

    def _end(self, tx: Transaction, lease: str, kind: str, **data: object) -> None:
        ended = tx.one("leases.end", id=lease)
        if ended is None:
            return
        names = [row.resource for row in tx.all("leases.end_on", lease=lease)]
        self.journal.append(tx, kind, lease, agent=ended.agent, task=ended.task, names=names, fence=ended.fence, **data)


def check(tx: Transaction, lease: str, *, fence: int) -> None:
    """Errors: LeaseLost unless the lease is still the one with this fence and has not run out at this instant."""
    if tx.one("leases.current", id=lease, fence=fence) is None:
        raise lost(lease)


def lost(lease: str) -> LeaseLost:
    hint = "Nothing was written. Start again from what is there now; a longer ttl= outlasts longer pauses."
    return LeaseLost(f"the lease {lease} ran out or passed to somebody else", hint=hint)


def _held(tx: Transaction, names: Names) -> tuple[list[Claim], list[str]]:
    """The live leases on any of these names, and the ids of those that are over."""
    rows = tx.all("leases.held", resources=_json(names))
    over = dict.fromkeys(row.id for row in rows if not row.live)
    return _claims(rows, lambda row: bool(row.live)), list(over)


def _claims(rows: Iterable[Row], when: Callable[[Row], bool]) -> list[Claim]:
    return [Claim(row.id, row.agent, row.task, (row.resource,), row.until_ms) for row in rows if when(row)]


def _blocked(tx: Transaction, lease: str, names: Names, held: list[Claim]) -> Busy | None:
    line = [_in_line(row) for row in tx.all("leases.ahead", id=lease, silent_ms=SILENT_MS)]
    before = [other for other in line if blocking(names, [other])]
    by = blocking(names, held) or next(iter(before), None)
    return Busy(by, len(before)) if by else None


def _in_line(row: Row) -> Claim:
    names = msgspec.json.decode(row.resources, type=tuple[str, ...])
    return Claim(row.id, row.agent, row.task, names, row.asked_ms + SILENT_MS)


def _who(holder: Holder) -> dict[str, str | None]:
    return {"owner": holder.owner, "agent": holder.agent, "task": holder.task}


def _json(names: Sequence[str]) -> str:
    return msgspec.json.encode(names).decode()
