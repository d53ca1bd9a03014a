"""Who archives, and what is under way: one archivist per fleet, by a lease; whoever comes next takes up what was begun.

A source names a segment before there is one, so that whoever finds it begun asks the archive whether it is whole: if so its
rows are dropped, and if not it is written again, from the rows, which are all still here.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from longwatch.db.connection import Database, Transaction
from longwatch.errors import LeaseLost
from longwatch.store import taken
from longwatch.store.journal import Journal

Sort = Literal["tasks", "calls", "spends", "journal", "records", "logs"]
SORTS: tuple[Sort, ...] = get_args(Sort)
SINCE = 13  # the migration before which code does not know what an archive is


class Begun(msgspec.Struct, frozen=True):
    """A source that is not finished. segment: its name once it is whole and listed, else None."""

    source: str
    sort: Sort
    segment: str | None
    begun_ms: int


class Standing(msgspec.Struct, frozen=True):
    holder: str
    fence: int
    until_ms: int
    closed_ms: int
    number: int


class Failing(msgspec.Struct, frozen=True):
    """at_ms: by the calendar, when it was written down last; steady_ms: by the fleet's clock. why, hint: as in an error."""

    at_ms: int
    steady_ms: int
    why: str
    hint: str


class Hot(msgspec.Struct, frozen=True):
    """What the hot state holds. oldest_ms: of the journal, None: there is none."""

    tasks: int
    entries: int
    calls: int
    oldest_ms: int | None


@dataclass(frozen=True)
class Archivists:
    """Safe in threads."""

    database: Database
    journal: Journal

    def take(self, holder: str, *, lease_ms: int) -> int | None:
        """Become the archivist, with this fence; None: another one is at it, or a worker is of code that knows no archive."""
        with self.database.transaction() as tx:
            if tx.all("tasks.older_workers", schema=SINCE, silent_ms=lease_ms):
                return None
            row = tx.one("retire.take", holder=holder, lease_ms=lease_ms)
            return None if row is None else int(row.fence)

    def renew(self, fence: int, *, lease_ms: int) -> None:
        """Errors: LeaseLost when another one has begun."""
        with self.database.transaction(durable=False) as tx:
            if tx.count("retire.renew", fence=fence, lease_ms=lease_ms) == 0:
                raise LeaseLost(
                    "another process archives now: this one was silent for too long", hint="Nothing is lost."
                )

    def give_back(self, fence: int) -> None:
        with self.database.transaction(durable=False) as tx:
            tx.count("retire.give_back", fence=fence)

    def close(self, fence: int) -> None:
        """A round has ended."""
        with self.database.transaction() as tx:
            tx.count("retire.close", fence=fence)

    def failed(self, why: str, *, hint: str, again_ms: int) -> None:
        """A round has failed. It is written down when it is news, or again_ms after it was last."""
        with self.database.transaction() as tx:
            known = _failing(tx)
            if known is None or known.hint != hint or tx.now_ms - known.steady_ms >= again_ms:
                self.journal.append(tx, "archive.failed", "archive", why=why, hint=hint, steady_ms=tx.now_ms)

    def failing(self) -> Failing | None:
        """Why rounds fail; None: the last one ended well, or nobody has tried."""
        with self.database.read() as tx:
            return _failing(tx)

    def begin(self, sort: Sort, fence: int) -> Begun:
        """Write down that a segment is to be made. Errors: LeaseLost."""
        with self.database.transaction() as tx:
            row = tx.one("retire.number", fence=fence)
            if row is None:
                raise LeaseLost("another process archives now", hint="Nothing is lost.")
            source = f"{sort}/{row.epoch}/{row.number}/{row.holder}"  # other fleets may have the same archive
            tx.count("retire.begin", source=source, sort=sort)
            return Begun(source, sort, None, tx.now_ms)

    def listed(self, source: str, segment: str) -> None:
        with self.database.transaction() as tx:
            tx.count("retire.listed", source=source, segment=segment)

    def finish(self, source: str, segment: str | None = None, **facts: object) -> None:
        """Nothing is left to be done about it. segment: it was made, with these facts; None: there was nothing to be made."""
        with self.database.transaction() as tx:
            if tx.count("retire.finish", source=source) and segment is not None:
                self.journal.append(tx, "archive.closed", segment, agent=None, task=None, source=source, **facts)

    def dropped(self, segment: str, why: str, *, who: str, entries: int, keys_before_ms: int) -> None:
        """A segment was dropped for good. keys_before_ms: keys of tasks that ended before it are free again."""
        with self.database.transaction() as tx:
            taken.forget(tx, before_ms=keys_before_ms)
            self.journal.append(tx, "archive.dropped", segment, why=why, who=who, entries=entries)

    def overstayed(self) -> list[str]:
        """Segments of which tasks were brought back, and have stayed for long enough."""
        with self.database.read() as tx:
            return [row.segment for row in tx.all("retire.over")]

    def went_back(self, segment: str) -> None:
        """Those that did not change are gone again; what did is archived anew."""
        with self.database.transaction() as tx:
            tx.count("retire.forget_restored", segment=segment)

    def begun(self) -> list[Begun]:
        """What was begun and not finished, oldest first."""
        with self.database.read() as tx:
            return [Begun(*row) for row in tx.all("retire.begun")]

    def standing(self) -> Standing:
        with self.database.read() as tx:
            row = tx.one("retire.standing")
            assert row is not None
            return Standing(*row)

    def hot(self) -> Hot:
        with self.database.read() as tx:
            row = tx.one("retire.hot")
            assert row is not None
            return Hot(*row)


def _failing(tx: Transaction) -> Failing | None:
    row = tx.one("retire.failing")
    if row is None:
        return None
    found = msgspec.convert({"at_ms": row.at_ms, **msgspec.json.decode(row.data)}, Failing)
    return found if found.steady_ms > row.closed_ms else None
