"""Records of memory: one method, one transaction, in memory's own tables.

Memory is a database of its own: a file beside the state, so that its upkeep keeps nobody from being admitted; on a server
its own tables, under a lock of their own. What the state tells of (task results, `run.record`) reaches it through the
journal, which is its outbox: `feed` adds the records and says how far the journal was read, in one transaction.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import KeyConflict, NotFound, Refused
from longwatch.policy.memory import ENDS, MOVES, Record, charter_digest, place_of, plain
from longwatch.policy.redact import Redactor
from longwatch.store import taken

encode = msgspec.json.Encoder().encode
MOST = 1_000  # records of one transaction
LAST = 1 << 60  # a place behind every other


class NewRecord(msgspec.Struct, frozen=True):
    """A record to be written. id: made by the caller, so that a repetition finds it. at_ms: None for now. data: JSON."""

    id: str
    kind: str
    body: str
    trust: str = "own"
    source: str = "program"
    at_ms: int | None = None
    task: str | None = None
    thread: str | None = None
    author: str | None = None
    key: str | None = None
    data: str | None = None
    supersedes: str | None = None


class Remembering(msgspec.Struct, frozen=True):
    """How much an agent remembers. places: of the last record. compacted: the last place in a snapshot."""

    agent: str
    places: int
    tasks: int
    compacted: int
    compacted_tasks: int


class ReadSoFar(msgspec.Struct, frozen=True):
    """Of a log. done: bytes."""

    done: int
    lines: int


class Charter(msgspec.Struct, frozen=True):
    version: int
    body: str
    sha256: str
    at_ms: int
    who: str


class Receipt(msgspec.Struct, frozen=True):
    """Who did what to memory. at_ms: epoch milliseconds. subject: a record, a snapshot or an agent."""

    at_ms: int
    who: str
    action: str
    agent: str
    subject: str
    note: str


@dataclass(frozen=True)
class MemoryStore:
    """Safe in threads."""

    database: Database
    redactor: Redactor

    # -- writing -----------------------------------------------------------------------------------------------------------

    def add(self, agent: str, new: Sequence[NewRecord], *, who: str) -> list[Record]:
        """Write up to MOST records of one agent down, all or none, and give them back as they are kept.

        One whose id or key is there already is that one. Errors: KeyConflict when it says something else; NotFound and
        Refused for a record to be superseded that is not there, or is not live any more.
        """
        with self.database.transaction(part="memory") as tx:
            return self._add(tx, agent, new, who)

    def _add(
        self, tx: Transaction, agent: str, new: Sequence[NewRecord], who: str, *, lenient: bool = False
    ) -> list[Record]:
        """lenient: what cannot be superseded any more is left as it is."""
        clean = [self._cleaned(each) for each in new]
        known = self._known(tx, agent, clean)
        fresh = [each for each in _without_twins(clean) if _found(known, each) is None]
        if fresh:
            _refuse_left(tx, agent, fresh)
            self._insert(tx, agent, fresh)
            known |= self._known(tx, agent, fresh)
        kept = [_same(_found(known, each), each) for each in clean]
        added = {each.id for each in fresh}
        for each, record in zip(clean, kept, strict=True):
            if each.supersedes is not None and record.id in added:
                with contextlib.suppress(*((NotFound, Refused) if lenient else ())):
                    self._supersede(tx, each.supersedes, record, who)
        return kept

    def _insert(self, tx: Transaction, agent: str, fresh: Sequence[NewRecord]) -> None:
        ends = sum(each.kind in ENDS and each.task is not None for each in fresh)
        taken = tx.one("memory.take_places", agent=agent, amount=len(fresh), tasks_total=ends)
        assert taken is not None
        place = int(taken.places) - len(fresh)
        for kind, amount in Counter(each.kind for each in fresh).items():
            tx.count("memory.tally", agent=agent, kind=kind, state="live", amount=amount)
        rows = [_row(each, tx.wall_ms) for each in fresh]
        tx.count("memory.add", agent=agent, place=place, rows=encode(rows).decode())
        tx.count(
            "memory.add_words", agent=agent, tag=tag_of(agent), first_place=place + 1, last_place=place + len(fresh)
        )

    def _known(self, tx: Transaction, agent: str, new: Sequence[NewRecord]) -> dict[str, Record]:
        """By id, and by key behind a NUL."""
        ids = encode([each.id for each in new]).decode()
        keys = encode([each.key for each in new if each.key is not None]).decode()
        found: dict[str, Record] = {}
        for row in tx.all("memory.known", ids=ids, agent=agent, keys=keys):
            record = record_of(row)
            found[record.id] = record
            if record.key is not None and record.agent == agent:
                found["\0" + record.key] = record
        return found

    def _cleaned(self, new: NewRecord) -> NewRecord:
        body, data = self.redactor.clean(plain(new.body)), None if new.data is None else self.redactor.clean(new.data)
        return new if (body, data) == (new.body, new.data) else msgspec.structs.replace(new, body=body, data=data)

    def feed(self, taken: Sequence[tuple[str, NewRecord]], *, epoch: int, seq: int, before: tuple[int, int]) -> bool:
        """Add what was made of the journal, (agent, record), and say how far it was read; False: somebody else was faster.

        before: how far it had been read (epoch, seq) when they were made.
        """
        with self.database.transaction(part="memory") as tx:
            if self._fed(tx) != before:
                return False
            for agent in dict.fromkeys(agent for agent, _ in taken):
                mine = [new for owner, new in taken if owner == agent]
                known, left = self._known(tx, agent, mine), keys_left(tx, agent, [new.key for new in mine])
                new = [each for each in mine if _found(known, each) is None and each.key not in left]
                self._add(tx, agent, new, agent, lenient=True)
            tx.count("memory.keep_feed", epoch=epoch, seq=seq)
            return True

    def take_import(self, agent: str, file: str, new: Sequence[NewRecord], *, done: int, lines: int, who: str) -> int:
        """Add what is not known yet of these, and say how far the file was read; how many were added."""
        with self.database.transaction(part="memory") as tx:
            known, left = self._known(tx, agent, new), keys_left(tx, agent, [each.key for each in new])
            fresh = [each for each in _without_twins(new) if _found(known, each) is None and each.key not in left]
            for start in range(0, len(fresh), MOST):
                self._add(tx, agent, fresh[start : start + MOST], who)
            tx.count("memory.keep_import", agent=agent, file=file, upto=done, lines=lines)
            return len(fresh)

    def imported(self, agent: str, file: str) -> "ReadSoFar | None":
        """How far the file was read before."""
        with self.database.read() as tx:
            row = tx.one("memory.imported", agent=agent, file=file)
            return None if row is None else ReadSoFar(row.done, row.lines)

    def fed(self) -> tuple[int, int]:
        """Up to where the journal was read: (epoch, seq)."""
        with self.database.read() as tx:
            return self._fed(tx)

    def _fed(self, tx: Transaction) -> tuple[int, int]:
        row = tx.one("memory.feed")
        return (0, 0) if row is None else (int(row.epoch), int(row.seq))

    # -- what becomes of a record ------------------------------------------------------------------------------------------

    def close(self, agent: str, ref: str, note: str, *, who: str) -> Record:
        """The commitment was kept, the goal reached. Twice does no harm. Errors: NotFound; Refused for one superseded."""
        with self.database.transaction(part="memory") as tx:
            return self._move(tx, find(tx, agent, ref), "close", who, note)

    def pin(self, agent: str, ref: str, *, pinned: bool, who: str) -> Record:
        """Keep it from deletion, or no longer."""
        with self.database.transaction(part="memory") as tx:
            record = find(tx, agent, ref)
            if bool(record.pinned) != pinned:
                tx.count("memory.pin", seq=record.seq, pinned=int(pinned))
                self._receipt(tx, who, "pin" if pinned else "unpin", record.agent, record.id, "")
            return msgspec.structs.replace(record, pinned=int(pinned))

    def _supersede(self, tx: Transaction, ref: str, successor: Record, who: str) -> None:
        old = find(tx, successor.agent, ref)
        self._move(tx, old, "supersede", who, f"by {successor.id}", successor=successor.id)

    def _move(
        self, tx: Transaction, record: Record, name: str, who: str, note: str, *, successor: str | None = None
    ) -> Record:
        state = MOVES[name].get(record.state)  # type: ignore[call-overload]
        if state is None:
            if record.state == MOVES[name]["live"] and record.successor == successor:
                return record
            raise Refused(
                f"{record.id} cannot {name}: it is {record.state}"
                + (f" by {record.successor}" if record.successor else ""),
                hint="longwatch memory show tells what became of it.",
            )
        successor = successor or record.successor
        changed = tx.count("memory.move", seq=record.seq, state=state, was=record.state, successor=successor)
        assert changed == 1, f"{record.id} was no longer {record.state}"
        for moved, amount in ((record.state, -1), (state, 1)):
            tx.count("memory.tally", agent=record.agent, kind=record.kind, state=moved, amount=amount)
        self._receipt(tx, who, name, record.agent, record.id, self.redactor.clean(plain(note)))
        return msgspec.structs.replace(record, state=state, successor=successor)

    def _receipt(self, tx: Transaction, who: str, action: str, agent: str, subject: str, note: str) -> None:
        tx.count("memory.add_receipt", who=who, action=action, agent=agent, subject=subject, note=note)

    # -- charters ------------------------------------------------------------------------------------------------------------

    def charter(self, agent: str) -> Charter | None:
        with self.database.read() as tx:
            return charter_of(tx, agent)

    def set_charter(self, agent: str, text: str, *, who: str, only_first: bool = False) -> Charter:
        """The agent's charter from now on. only_first: unless it has one. The same text again changes nothing."""
        text = self.redactor.clean(plain(text))
        with self.database.transaction(part="memory") as tx:
            found = charter_of(tx, agent)
            if found is not None and (only_first or found.body == text):
                return found
            version = 1 if found is None else found.version + 1
            tx.count("memory.add_charter", agent=agent, version=version, body=text, sha=charter_digest(text), who=who)
            self._receipt(tx, who, "charter", agent, agent, f"version {version}, sha256 {charter_digest(text)}")
            made = charter_of(tx, agent)
            assert made is not None
            return made

    # -- reading -------------------------------------------------------------------------------------------------------------

    def get(self, agent: str, ref: str) -> Record:
        """By id, or by the short name that briefs use. Errors: NotFound."""
        with self.database.read() as tx:
            return find(tx, agent, ref)

    def by_key(self, agent: str, key: str) -> Record | None:
        with self.database.read() as tx:
            row = tx.one("memory.by_key", agent=agent, key=key)
            return None if row is None else record_of(row)

    def keys_left(self, agent: str, keys: Sequence[str | None]) -> dict[str, int]:
        """Which of these keys are of records in the archive, and their places."""
        with self.database.read() as tx:
            return keys_left(tx, agent, keys)

    def receipts(self, subject: str) -> list[Receipt]:
        with self.database.read() as tx:
            return [Receipt(*row) for row in tx.all("memory.receipts", subject=subject)]

    def newest(
        self, agent: str, *, limit: int, kind: str | None = None, state: str | None = None, before: int = LAST
    ) -> list[Record]:
        """The newest records before a place, newest first; of one kind, they are of one state too: live, unless said."""
        with self.database.read() as tx:
            if kind is None:
                rows = tx.all("memory.newest", agent=agent, before=before, limit=limit)
            else:
                rows = tx.all(
                    "memory.newest_of", agent=agent, kind=kind, state=state or "live", before=before, limit=limit
                )
            return [record_of(row) for row in rows]

    def range(self, agent: str, first: int, last: int, *, limit: int = MOST) -> list[Record]:
        """Records from one place to another, in their order."""
        with self.database.read() as tx:
            rows = tx.all("memory.range", agent=agent, first_place=first, last_place=last, limit=limit)
            return [record_of(row) for row in rows]

    def at_places(self, agent: str, places: Iterable[int]) -> list[Record]:
        with self.database.read() as tx:
            listed = encode(sorted(set(places))).decode()
            return [record_of(row) for row in tx.all("memory.by_places", agent=agent, listed=listed)]

    def agents(self) -> list[Remembering]:
        with self.database.read() as tx:
            return [Remembering(*row) for row in tx.all("memory.agents")]

    def agent(self, agent: str) -> Remembering:
        with self.database.read() as tx:
            row = tx.one("memory.agent", agent=agent)
            return Remembering(agent, 0, 0, 0, 0) if row is None else Remembering(*row)


def tag_of(agent: str) -> str:
    """The word by which an agent's records are found, as no text has it."""
    return "qqa" + charter_digest(agent)[:16].translate(LETTERS)


LETTERS = str.maketrans("0123456789", "ghijklmnop")


def find(tx: Transaction, agent: str, ref: str) -> Record:
    """By id, or by the short name that briefs use. Errors: NotFound."""
    place = place_of(ref)
    if place is None:
        row = tx.one("memory.by_id", id=ref)
    else:
        rows = tx.all("memory.by_places", agent=agent, listed=encode([place]).decode())
        row = rows[0] if rows else None
    if row is None:
        named = f"{agent} has no record {ref}" if place is not None else f"there is no record {ref}"
        raise NotFound(named, hint="longwatch memory list shows an agent's records.")
    return record_of(row)


def record_of(row: Row) -> Record:
    return Record(*row)


def keys_left(tx: Transaction, agent: str, keys: Sequence[str | None]) -> dict[str, int]:
    short = {taken.short(agent, key): key for key in keys if key is not None}
    rows = tx.all("left.keys", listed=encode(sorted(short)).decode()) if short else []
    return {short[row.short]: int(row.place) for row in rows}


def _refuse_left(tx: Transaction, agent: str, fresh: Sequence[NewRecord]) -> None:
    """Errors: KeyConflict."""
    for key, place in keys_left(tx, agent, [each.key for each in fresh]).items():
        raise KeyConflict(
            f"the key {key!r} is of r{place}, which is in the archive",
            hint="Do it again: it is looked up there, unless its segment was dropped. Use another key for something else.",
        )


def charter_of(tx: Transaction, agent: str) -> Charter | None:
    row = tx.one("memory.charter", agent=agent)
    return None if row is None else Charter(*row)


def _row(new: NewRecord, now_ms: int) -> tuple[object, ...]:
    at_ms = now_ms if new.at_ms is None else new.at_ms
    about = (new.id, new.kind, at_ms, new.task, new.thread or new.task, new.author)
    return (*about, new.source, new.trust, new.key, new.body, new.data)


def _found(known: dict[str, Record], new: NewRecord) -> Record | None:
    return known.get(new.id) or (None if new.key is None else known.get("\0" + new.key))


def _same(found: Record | None, new: NewRecord) -> Record:
    assert found is not None
    if (found.kind, found.body, found.data) != (new.kind, new.body, new.data) and found.state != "redacted":
        raise KeyConflict(
            f"the key {new.key!r} is of {found.id}, which says something else",
            hint="Use another key; supersedes= puts a new record in the place of an old one.",
        )
    return found


def _without_twins(new: Sequence[NewRecord]) -> list[NewRecord]:
    """The first of those that have one id or one key."""
    seen: set[str] = set()
    found: list[NewRecord] = []
    for each in new:
        names = {each.id} if each.key is None else {each.id, "\0" + each.key}
        if not names & seen:
            found.append(each)
        seen |= names
    return found
