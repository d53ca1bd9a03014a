"""What leaves the hot state: pages of entries for the archive, and the rows they came from, dropped once these are verified.

A row is dropped in a transaction that reads it again: only if what is read is, byte for byte, what the archive has, and if it
may still leave. So nothing that changed meanwhile is lost, whoever drops, however late he is, and however often.

What may leave, and why: docs/internals/decisions/0035-what-leaves-the-hot-state.md.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from longwatch.db.connection import Database, Row, Transaction, Value
from longwatch.policy.window import DAY_MS, Window, window_of
from longwatch.store import taken
from longwatch.store.archive import Entry

PAGE = 200  # tasks, or rows of another sort, of one transaction
LAST = 1 << 60  # a place behind every other
FIRST_WINDOW = ("", 0, "", "")
encode = msgspec.json.Encoder().encode
Place = Any
"""Where a page begins and ends: numbers, or for windows the end of the last page."""


class Group(msgspec.Struct, frozen=True):
    """What leaves together: one row with what belongs to it. place: in the order of its sort. runs: ids, of a task."""

    place: Place
    entries: list[Entry]
    row: Any
    calls: list[Any] = []
    runs: list[str] = []


class Kept(NamedTuple):
    """What a segment has: digests of its entries, and between which places of their sort they are: beyond after, up to upto."""

    digests: set[bytes]
    after: Place
    upto: int


class Numbered(msgspec.Struct):
    """A body, as far as its place goes."""

    seq: int


decode_place = msgspec.json.Decoder(Numbered).decode


@dataclass(frozen=True)
class Retirement:
    """currency: of the fleet. zone: in which its days begin. Safe in threads."""

    database: Database
    currency: str
    zone: ZoneInfo

    # -- reading -------------------------------------------------------------------------------------------------------------

    def entries(self, sort: str, *, age_ms: int, fed: int = LAST) -> Iterator[list[Entry]]:
        """Everything of a sort that may leave, in pages. age_ms: what is younger stays. fed: place in the journal up to which
        memory has read it."""
        place: Place = FIRST_WINDOW if sort == "spends" else 0
        held = self._held(age_ms) if sort == "tasks" else ()
        while True:
            with self.database.read() as tx:
                page = self._page(tx, sort, after=place, upto=fed, age_ms=age_ms, held=held)
            if page:
                yield [entry for group in page for entry in group.entries]
                place = page[-1].place
            if len(page) < PAGE:
                return

    def _held(self, age_ms: int) -> Sequence[str]:
        """Batches that stay whole, asked for once: to find them takes a look at every task."""
        with self.database.read() as tx:
            return [row.batch for row in tx.all("retire.held", age_ms=age_ms)]

    def _page(
        self, tx: Transaction, sort: str, *, after: Place, upto: int, age_ms: int, held: Sequence[str] | None = None
    ) -> list[Group]:
        """held: batches that stay; None: of a part that was chosen already."""
        about: dict[str, Value] = {"age_ms": age_ms, "limit": PAGE}
        if sort == "spends":
            purse, ends_ms, dimension, per = after
            named = {"after_purse": purse, "after_ends_ms": ends_ms, "after_dimension": dimension, "after_per": per}
            return [_window(row) for row in tx.all("retire.spends", **named, **about)]
        if sort == "tasks":
            about |= {"held": encode(held or ()).decode(), "alone": int(held is None)}
            return self._tasks(tx, tx.all("retire.tasks", after=after, upto=upto, **about))
        if sort == "calls":
            return [
                Group(row.seq, [self._call(row)], row, [row])
                for row in tx.all("retire.calls", after=after, upto=upto, **about)
            ]
        assert sort == "journal"
        (fleet,) = tx.all("memory.epoch")
        return [
            Group(row.seq, [_told(row, fleet.epoch)], row)
            for row in tx.all("retire.journal", after=after, upto=upto, **about)
        ]

    def _tasks(self, tx: Transaction, rows: Sequence[Row]) -> list[Group]:
        if not rows:
            return []
        listed = encode([row.id for row in rows]).decode()
        batches = encode(sorted({row.batch for row in rows if row.batch})).decode()
        *parts, calls, batch = tx.several(
            ("retire.runs", {"ids": listed}),
            ("retire.steps", {"ids": listed}),
            ("retire.needs", {"ids": listed}),
            ("retire.caps", {"ids": listed}),
            ("retire.calls_of", {"ids": listed}),
            ("retire.batches", {"ids": batches}),
        )
        belongs = {name: _by_task(part) for name, part in zip(PARTS, parts, strict=True)}
        named, called = {row.id: row._asdict() for row in batch}, _by_task(calls)
        return [
            Group(
                row.seq,
                [
                    _task(row, {name: belongs[name].get(row.id, []) for name in PARTS}, named.get(row.batch)),
                    *(self._call(call) for call in called.get(row.id, [])),
                ],
                row,
                called.get(row.id, []),
                [run.id for run in belongs["runs"].get(row.id, [])],
            )
            for row in rows
        ]

    def _call(self, row: Row) -> Entry:
        body = encode(row._asdict() | {"currency": self.currency})
        cost = row.money if row.state == "settled" else 0
        return Entry("call", row.id, row.calendar_ms, row.agent, row.task or "", body, cost, self.currency)

    # -- dropping ------------------------------------------------------------------------------------------------------------

    def drop(self, sort: str, kept: "Kept", *, dropped: Callable[[int], None] = lambda _: None) -> int:
        """Drop the rows that the archive has; how many entries went. kept: what a verified segment says.

        dropped: told how many went, after each transaction, which is when somebody else may write.
        """
        gone, place, more = 0, kept.after, True
        while more:
            with self.database.transaction() as tx:
                page = self._page(tx, sort, after=place, upto=kept.upto, age_ms=0)
                same = [group for group in page if all(digest_of(each) in kept.digests for each in group.entries)]
                if same:
                    DROPS[sort](self, tx, same)
            gone += sum(len(group.entries) for group in same)
            place, more = page[-1].place if page else place, len(page) == PAGE
            dropped(gone)
        return gone

    def _drop_tasks(self, tx: Transaction, groups: Sequence[Group]) -> None:
        rows = [group.row for group in groups]
        listed = encode([row.id for row in rows]).decode()
        for row in rows:
            if row.key is not None and row.batch is None:
                taken.keep(tx, key=row.key, ended_ms=row.ended_ms)
        self._drop_calls(tx, groups)
        tx.count("retire.drop_runs", ids=encode([run for group in groups for run in group.runs]).decode())
        tx.count("retire.drop_steps", ids=listed)
        tx.count("retire.drop_needs", ids=listed)
        tx.count("retire.drop_caps", ids=listed)
        tx.count("retire.drop_tasks", ids=listed)
        batches = encode(sorted({row.batch for row in rows if row.batch})).decode()
        for batch in tx.all("retire.batches", ids=batches):
            taken.keep(tx, batch=batch.name, ended_ms=max(row.ended_ms for row in rows))
        tx.count("retire.drop_batches", ids=batches)
        tx.count("retire.drop_asides", ids=batches)

    def _drop_calls(self, tx: Transaction, groups: Sequence[Group]) -> None:
        self.cost(tx, [(call, getattr(group.row, "kind", "")) for group in groups for call in group.calls])
        ids = [call.id for group in groups for call in group.calls]
        if ids:
            tx.count("retire.drop_calls", ids=encode(ids).decode())

    def cost(self, tx: Transaction, calls: Iterable[tuple[Any, str]], *, sign: int = 1) -> None:
        """Remember what these calls, each with its task's kind, have cost, and who is charged. sign: -1 forgets it."""
        found: dict[tuple[Value, ...], list[int]] = {}
        calendar_ms = _calendar_ms(tx)
        for call, kind in calls:
            if call.state == "settled":
                part = self._part(call.calendar_ms, calendar_ms)
                about = (call.service, call.model or "", call.budget or "", call.agent, kind, call.away)
                sums = found.setdefault((*part, *about), [0, 0, 0, 0])
                for place, amount in enumerate((1, call.money, call.calls, call.tokens)):
                    sums[place] += sign * amount
        for key, sums in found.items():
            tx.count("retire.keep_cost", **dict(zip(COST, (*key, *sums), strict=True)))

    def _part(self, at_ms: int, calendar_ms: int) -> Window:
        """By what the cost of then is counted now: no longer than a window that may still be opened."""
        minute, hour, day = (window_of(at_ms, per, self.zone) for per in ("minute", "hour", "day"))
        if minute.ends_ms > calendar_ms:
            return minute
        return hour if day.ends_ms > calendar_ms - DAY_MS else day

    def name_kinds(self) -> None:
        """What was earned says what kind of task earned it, before the task goes."""
        with self.database.transaction() as tx:
            tx.count("retire.name_kinds")

    def add_up(self) -> None:
        """What was counted by the minute or the hour is counted by the day, once the day is over."""
        more = True
        while more:
            with self.database.transaction() as tx:
                hours = tx.all("retire.hours", before_ms=_calendar_ms(tx) - 2 * DAY_MS, limit=PAGE)
                for hour in hours:
                    day = window_of(hour.starts_ms, "day", self.zone)
                    tx.count("retire.keep_cost", **hour._asdict() | day._asdict())
                    tx.count("retire.drop_hour", **dict(zip(WHERE, hour, strict=False)))
            more = len(hours) == PAGE

    def _drop_spends(self, tx: Transaction, groups: Sequence[Group]) -> None:
        for group in groups:
            key = dict(zip(("purse", "ends_ms", "dimension", "per"), group.place, strict=True))
            tx.count("retire.drop_spend", **key)
            tx.count("retire.drop_allotment", **key)

    def _drop_journal(self, tx: Transaction, groups: Sequence[Group]) -> None:
        tx.count("retire.drop_journal", listed=encode([group.place for group in groups]).decode())


PARTS = ("runs", "steps", "needs", "caps")
WHERE = ("starts_ms", "ends_ms", "service", "model", "budget", "agent", "kind", "away")
COST = (*WHERE, "places", "money", "calls", "tokens")
DROPS: dict[str, Callable[[Retirement, Transaction, Sequence[Group]], None]] = {
    "tasks": Retirement._drop_tasks,  # pyright: ignore[reportPrivateUsage]
    "calls": Retirement._drop_calls,  # pyright: ignore[reportPrivateUsage]
    "spends": Retirement._drop_spends,  # pyright: ignore[reportPrivateUsage]
    "journal": Retirement._drop_journal,  # pyright: ignore[reportPrivateUsage]
}


def _calendar_ms(tx: Transaction) -> int:
    """Of the budgets; 0: it was never asked for, so that no window was ever opened."""
    found = tx.one("spend.calendar")
    return 0 if found is None else int(found.at_ms)


def _by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    ordered = sorted(rows, key=lambda row: row.task)  # stable: as they were, of each task
    return {task: list(part) for task, part in groupby(ordered, key=lambda row: row.task)}


def _task(row: Row, parts: dict[str, list[Row]], batch: dict[str, Value] | None) -> Entry:
    body = row._asdict() | {name: [each._asdict() for each in part] for name, part in parts.items()}
    text, failed = encode(body | {"of_batch": batch}), row.state == "failed"
    return Entry("task", row.id, row.ended_ms, row.agent, row.id, text, error=failed)


def _window(row: Row) -> Group:
    place = (row.purse, row.ends_ms, row.dimension, row.per)
    name = "spend:" + "/".join(map(str, place))
    body = encode({"kind": "spend.window", **row._asdict()})
    return Group(place, [Entry("journal", name, row.ends_ms, "", "", body)], row)


def _told(row: Row, epoch: int) -> Entry:
    body = encode(row._asdict() | {"data": msgspec.Raw(row.data.encode())})
    return Entry("journal", f"{epoch}/{row.seq}", row.at_ms, row.agent or "", row.task or "", body)


def kept_of(sort: str, entries: Iterable[Entry]) -> Kept:
    """What a segment has of the hot state, told by its entries, in whatever order they are."""
    digests: set[bytes] = set()
    after, upto = LAST, 0
    for entry in entries:
        digests.add(digest_of(entry))
        if sort != "spends" and (sort != "tasks" or entry.kind == "task"):
            seq = decode_place(entry.body).seq
            after, upto = min(after, seq - 1), max(upto, seq)
    return Kept(digests, FIRST_WINDOW if sort == "spends" else after, upto)


def digest_of(entry: Entry) -> bytes:
    head = f"{entry.kind}\0{entry.id}\0".encode()
    return hashlib.blake2b(head + entry.body, digest_size=16).digest()
