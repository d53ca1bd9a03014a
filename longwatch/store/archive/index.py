"""The side index: which frames may hold what is looked for, and sums by agent and day. Made anew whenever it is not right.

Tasks and ids stand in it as hashes, so that it stays small beside the segments and keeps nothing of what is redacted; a
frame that a hash leads to in vain costs a millisecond. It is a file of SQLite of its own and never part of a state.
"""

import hashlib
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from longwatch.db.connection import Clock, Value
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase, SqliteTransaction
from longwatch.db.statements import Migration, split
from longwatch.errors import StoreUnavailable
from longwatch.policy.recall import LONGEST
from longwatch.policy.words import terms
from longwatch.store.archive.entry import Entry, day_number
from longwatch.store.archive.frames import Frame
from longwatch.store.archive.grams import Needed, grams_of, words_of
from longwatch.store.archive.manifest import Manifest, Segment

KINDS: dict[str, int] = {"journal": 1, "task": 2, "call": 4, "record": 8, "log": 16}
TRIES = 20
ENDINGS = ("", "-wal", "-shm")

encode = msgspec.json.Encoder().encode


class Cost(msgspec.Struct, frozen=True):
    """What an agent's calls came to on a day. day: "2026-11-29", in UTC. currency: "" of what had no cost."""

    day: str
    agent: str
    currency: str
    cost_micros: int
    calls: int
    errors: int


decode_costs = msgspec.json.Decoder(list[Cost]).decode


class Facts(NamedTuple):
    """What the index keeps of a frame. sums: by day, agent and currency, of cost, calls and errors. places: by agent, the
    first and the last of its records. grams, words: bits, see grams.py."""

    frame: Frame
    kinds: int
    agents: list[str]
    tasks: list[int]
    ids: bytes
    sums: dict[tuple[int, str, str], list[int]]
    places: dict[str, tuple[int, int]]
    grams: bytes
    words: bytes


class Spot(NamedTuple):
    """A frame that may hold what is looked for."""

    name: str
    start: int
    size: int
    from_ms: int
    to_ms: int
    kinds: int


class Worded(NamedTuple):
    """A frame with records. bits: of their words. number: of its segment: the greatest was added last."""

    spot: Spot
    entries: int
    bits: bytes
    number: int


def hash_of(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def number_of(name: str) -> int:
    return int.from_bytes(hash_of(name), signed=True)


class Said(msgspec.Struct):
    """A record, as far as its words go."""

    kind: str
    body: str
    author: str | None = None


class Keyed(msgspec.Struct):
    """A task, as far as its key goes. batch: its key is made of the batch's name, and nobody asks for it."""

    key: str | None = None
    batch: str | None = None


decode_keyed = msgspec.json.Decoder(Keyed).decode


def key_of(entry: Entry) -> str | None:
    """What a task was given by whoever submitted it; None of all else."""
    if entry.kind != "task":
        return None
    try:
        task = decode_keyed(entry.body)
    except msgspec.ValidationError:
        return None  # the archive takes any object
    return task.key if task.batch is None else None


def hash_of_key(key: str) -> bytes:
    """Apart from those of ids."""
    return hash_of(f"key\0{key}")[:4]


decode_said = msgspec.json.Decoder(Said).decode


def facts_of(frame: Frame, entries: Sequence[Entry], raw: bytes) -> Facts:
    sums: defaultdict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    kinds, places, words = 0, dict[str, tuple[int, int]](), set[str]()
    for entry in entries:
        kinds |= KINDS[entry.kind]
        if entry.place:
            first, last = places.get(entry.agent, (entry.place, entry.place))
            places[entry.agent] = min(first, entry.place), max(last, entry.place)
            words |= _words_of(decode_said(entry.body))
        if entry.kind == "call" or entry.cost_micros or entry.error:
            into = sums[day_number(entry.at_ms), entry.agent, entry.currency]
            into[0] += entry.cost_micros
            into[1] += entry.kind == "call"
            into[2] += entry.error
    tasks = {number_of(task) for task in {entry.task for entry in entries} if task}
    keys = filter(None, map(key_of, entries))
    ids = b"".join((*(hash_of(entry.id)[:4] for entry in entries), *map(hash_of_key, keys)))
    return Facts(
        frame,
        kinds,
        sorted({entry.agent for entry in entries}),
        sorted(tasks),
        ids,
        dict(sums),
        places,
        grams_of(raw),
        words_of(words),
    )


def _words_of(said: Said) -> set[str]:
    """As recall compares them; what calls say is no text."""
    return set() if said.kind == "call" else {*terms(said.body[:LONGEST]), *terms(said.author or "")}


class Index:
    """path: of its file, which is made if it is not there, and made anew if it is no index of this code. Where its folder can
    only be read, it is in a temporary one, until it is closed."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._database: SqliteDatabase | None = None
        self._apart: tempfile.TemporaryDirectory[str] | None = None
        self._guard = threading.Lock()

    def close(self) -> None:
        with self._guard:
            self._close()

    def remove(self) -> None:
        """The file; the next use makes it anew."""
        with self._guard:
            self._close()
            self._remove()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._apart is not None:
            self._apart.cleanup()
            self._apart = None

    def _remove(self) -> None:
        for ending in ENDINGS if self._apart is None else ():
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    def head(self) -> tuple[int, str] | None:
        """Number and chain of the last move that was taken in."""
        with self._opened().read() as tx:
            return _head(tx)

    def take_in(self, manifest: Manifest, read: Callable[[Segment], Iterable[Facts]]) -> None:
        """Whatever the manifest says that is not in it yet. read: the facts of a segment that is not.

        A manifest that ends before what it has seen is not followed: it was read before somebody wrote, or it lost its end,
        which verify tells of.
        """
        for _ in range(TRIES):
            if self._taken_in(manifest, read):
                return
        raise StoreUnavailable(f"others keep writing the side index {self._path}", hint="Ask again.", retry_after=1)

    def _taken_in(self, manifest: Manifest, read: Callable[[Segment], Iterable[Facts]]) -> bool:
        """Or another process has taken in something meanwhile: what it had seen is looked at in each transaction."""
        with self._opened().read() as tx:
            seen = _head(tx)
            known = {str(name): cast("int", number) for number, name in tx.plain(_sql()["index.segments"])}
        if seen is not None and (seen == manifest.head or seen[0] > manifest.head[0]):
            return True
        standing = {segment.name: segment for segment in manifest.standing}
        for name in known.keys() - standing.keys():
            if not self._change(seen, partial(_forget, number=known[name])):
                return False
        for segment in [segment for name, segment in standing.items() if name not in known]:
            facts = list(read(segment))
            if not self._change(seen, partial(_replace, segment=segment, facts=facts)):
                return False
        follows = seen is None or seen in [(move.n, move.chain) for move in manifest.moves]
        return not follows or self._change(seen, partial(_set_head, head=manifest.head))

    def _change(self, seen: tuple[int, str] | None, change: Callable[[SqliteTransaction], None]) -> bool:
        with self._opened().transaction(durable=False) as tx:
            if _head(tx) != seen:
                return False
            change(tx)
            return True

    def names(self) -> set[str]:
        return {str(name) for _, name in self._rows("segments")}

    def short(self) -> list[tuple[str, int]]:
        """Segments of which so many entries could not be read when they were taken in."""
        return cast("list[tuple[str, int]]", self._rows("short"))

    def of_task(self, task: str) -> list[Spot]:
        return self._spots("frames_of_task", number_of(task))

    def of_agent(self, agent: str) -> list[Spot]:
        return self._spots("frames_of_agent", agent)

    def of_id(self, name: str) -> list[Spot]:
        return self._spots("frames_of_id", hash_of(name)[:4])

    def of_key(self, key: str) -> list[Spot]:
        return self._spots("frames_of_id", hash_of_key(key))

    def of_places(self, agent: str, first: int, last: int) -> list[Spot]:
        """Where records of an agent between two places may be; what was archived last comes last."""
        return self._spots("frames_of_places", agent, first, last)

    def of_words(self, agent: str) -> list[Worded]:
        """Every frame with records of an agent."""
        rows = cast("list[tuple[str, int, int, int, int, int, int, bytes, int]]", self._rows("words", agent))
        return [Worded(Spot(*row[:6]), *row[6:]) for row in rows]

    def without(self, needed: Needed) -> set[tuple[str, int]]:
        """Frames that cannot hold it: the names of their segments, and where they start."""
        found: set[tuple[str, int]] = set()
        for number, name in cast("list[tuple[int, str]]", self._rows("segments")):
            rows = cast("list[tuple[int, bytes]]", self._rows("grams", number))
            found |= {(name, start) for start, bits in rows if not needed.may_be_in(bits)}
        return found

    def all(self) -> list[Spot]:
        return self._spots("frames")

    def costs(self, *, first_day: int, last_day: int) -> list[Cost]:
        """By day, agent and currency, in this order. The days are counted since 1 January 1970, in UTC."""
        rows = self._rows("costs", first_day, last_day)
        return [cost for (text,) in rows for cost in decode_costs(cast("str", text))]

    # -- the file ----------------------------------------------------------------------------------------------------------

    def _spots(self, statement: str, *values: Value) -> list[Spot]:
        return [Spot(*cast("tuple[str, int, int, int, int, int]", row)) for row in self._rows(statement, *values)]

    def _rows(self, statement: str, *values: Value) -> list[tuple[Value, ...]]:
        with self._opened().read() as tx:
            return tx.plain(_sql()[f"index.{statement}"], *values)

    def _opened(self) -> SqliteDatabase:
        """Errors: StoreUnavailable when it can neither be read nor made anew."""
        with self._guard:
            if self._database is None:
                try:
                    self._database = self._open()
                except StoreUnavailable:
                    self._remove()
                    self._database = self._open()
            return self._database

    def _open(self) -> SqliteDatabase:
        path = self._path
        if not os.access(path.parent, os.W_OK):
            self._apart = tempfile.TemporaryDirectory(prefix="longwatch-index-")
            path = Path(self._apart.name) / path.name
        database = SqliteDatabase(str(path), self._clock, syncs=False)
        try:
            migrate(database, known=_migrations())
        except BaseException:
            database.close()
            raise
        return database


@cache
def _sql() -> dict[str, str]:
    return split(
        files("longwatch.store.archive").joinpath("sql").joinpath("index.sql").read_text("utf-8"), prefix="index"
    )


@cache
def _migrations() -> tuple[Migration, ...]:
    """A file NNNN_name.sql each."""
    found: list[Migration] = []
    for file in sorted(files("longwatch.store.archive").joinpath("sql").iterdir(), key=lambda file: file.name):
        digits, _, name = file.name.removesuffix(".sql").partition("_")
        if digits.isdigit():
            found.append(Migration(int(digits), name, file.read_text("utf-8")))
    return tuple(found)


def _head(tx: SqliteTransaction) -> tuple[int, str] | None:
    rows = tx.plain(_sql()["index.head"])
    return cast("tuple[int, str]", rows[0]) if rows else None


def _set_head(tx: SqliteTransaction, head: tuple[int, str]) -> None:
    tx.plain(_sql()["index.set_head"], *head)


def _replace(tx: SqliteTransaction, segment: Segment, facts: Sequence[Facts]) -> None:
    """Another process may have added it meanwhile."""
    _forget(tx, segment.number)
    _add(tx, segment, facts)


def _add(tx: SqliteTransaction, segment: Segment, facts: Sequence[Facts]) -> None:
    sql = _sql()
    unread = segment.count - sum(each.frame.entries for each in facts)
    tx.plain(sql["index.add_segment"], segment.number, segment.name, unread)
    sums: defaultdict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for each in facts:
        frame = each.frame
        values = (segment.number, frame.start, frame.size, frame.entries, frame.from_ms, frame.to_ms, each.kinds)
        ((made,),) = tx.plain(sql["index.add_frame"], *values)
        tx.plain(sql["index.add_agents"], made, encode(each.agents).decode())
        tx.plain(sql["index.add_tasks"], made, encode(each.tasks).decode())
        tx.plain(sql["index.add_ids"], made, each.ids)
        for agent, (first, last) in each.places.items():
            tx.plain(sql["index.add_places"], agent, first, made, last)
        tx.plain(sql["index.add_bits"], made, each.grams, each.words)
        for key, amounts in each.sums.items():
            sums[key] = [a + b for a, b in zip(sums[key], amounts, strict=True)]
    for key, amounts in sums.items():
        tx.plain(sql["index.add_sum"], segment.number, *key, *amounts)
    _sum_up(tx, {day for day, _, _ in sums})


def _forget(tx: SqliteTransaction, number: int) -> None:
    days = {cast("int", day) for (day,) in tx.plain(_sql()["index.days"], number)}
    for what in ("agents", "tasks", "ids", "places", "bits", "sums", "frames", "segment"):
        tx.plain(_sql()[f"index.forget_{what}"], number)
    _sum_up(tx, days)


def _sum_up(tx: SqliteTransaction, days: set[int]) -> None:
    """Over all segments: whoever asks gets a day in one piece."""
    changed = encode(sorted(days)).decode()
    tx.plain(_sql()["index.forget_costs"], changed)
    tx.plain(_sql()["index.add_costs"], changed)
