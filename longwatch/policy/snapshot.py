"""Snapshots: the records of about a thousand tasks in one fixed shape, and ten of a level in one of the next.

A snapshot covers the records from one place to another, without a gap, and carries the digest of that range, so that a loss
shows. Each item names the records it came from. Higher levels are made of items, never of prose made from prose: an item goes
up as it is, or not at all. What stands (goals, decisions, commitments, lessons) is in a snapshot while it is live; what a
brief says of it is read from the records themselves, so that nothing that was closed comes back, and nothing open is lost by
being summarised. Of two items that contradict each other the newer is kept, and points to the older.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from longwatch.policy.memory import ENDS, Record, digest
from longwatch.policy.salience import salient
from longwatch.policy.words import terms

TEN = 10  # snapshots of a level that become one of the next
PER_TASK = 5  # records to a task beyond which a snapshot is due by their number
BYTES = 8 << 20  # of text in one snapshot
OLD_MS, FEW = 7 * 86_400_000, 100  # so many records that are so old are due without a thousand tasks
LONGEST = 300  # characters of an item
REFS = 5  # records that an item names
MOST = {"goals": 40, "decisions": 100, "commitments": 100, "lessons": 60, "facts": 40, "failures": 15, "narrative": 12}
ALIKE = 0.5  # share of words from which on two facts that begin alike speak of the same thing
VARIES = re.compile(r"\b[0-9a-f]{8,}\b|\b\w*\d\w*\b")

SECTION = {"goal": "goals", "decision": "decisions", "commitment": "commitments", "lesson": "lessons", "fact": "facts"}


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One statement. ids, places: the records it came from, newest first, at most REFS. at_ms: of the newest.

    times: how many records say it. instead_of: places of older records that it contradicts.
    """

    text: str
    ids: tuple[str, ...]
    places: tuple[int, ...]
    at_ms: int
    trust: str = "own"
    times: int = 1
    instead_of: tuple[int, ...] = ()


class Numbers(msgspec.Struct, frozen=True):
    """kinds: records by kind. tasks: ended ones. work: by kind of task, (done, not done). micros: what calls cost."""

    records: int
    tasks: int
    calls: int
    micros: int
    kinds: dict[str, int]
    work: dict[str, tuple[int, int]]


class Shape(msgspec.Struct, frozen=True):
    """What every snapshot says, whoever wrote it. Items are oldest first; of the narrative too."""

    goals: tuple[Item, ...]
    decisions: tuple[Item, ...]
    commitments: tuple[Item, ...]
    lessons: tuple[Item, ...]
    facts: tuple[Item, ...]
    failures: tuple[Item, ...]
    narrative: tuple[Item, ...]
    numbers: Numbers


class Due(NamedTuple):
    """Make a snapshot of at most so many tasks, records and bytes of text."""

    tasks: int
    records: int
    bytes: int


def due(
    *, tasks: int, records: int, oldest_ms: int | None, now_ms: int, every: int, forced: bool = False
) -> Due | None:
    """Whether what no snapshot covers yet is enough for one. oldest_ms: the instant of its first record."""
    old = oldest_ms is not None and records >= FEW and now_ms - oldest_ms >= OLD_MS
    enough = tasks >= every or records >= every * PER_TASK or old or (forced and records > 0)
    return Due(every, every * PER_TASK, BYTES) if enough else None


def taken(records: Sequence[Record], limit: Due) -> list[Record]:
    """As many of them, from the first on, as one snapshot takes; one at least."""
    tasks = size = 0
    for number, record in enumerate(records):
        if number and (tasks >= limit.tasks or number >= limit.records or size >= limit.bytes):
            return list(records[:number])
        tasks += ended(record)
        size += len(record.body)
    return list(records)


def ended(record: Record) -> bool:
    """Whether the record is of the end of a task."""
    return record.kind in ENDS and record.task is not None


def range_digest(records: Iterable[Record]) -> str:
    return hashlib.sha256(b"".join(digest(record) for record in records)).hexdigest()


def digest_of(children: Iterable[str]) -> str:
    """Of a snapshot of snapshots, by theirs."""
    return hashlib.sha256("".join(children).encode()).hexdigest()


# -- one of records --------------------------------------------------------------------------------------------------------


def summarise(records: Sequence[Record]) -> Shape:
    """Without a model: what is typed as it is, statistics, and the sentences that stand for the others."""
    live = [record for record in records if record.state == "live"]
    told = [record for record in live if record.kind in ("result", "message", "tool_output")]
    chosen = sorted(salient([record.body for record in told], MOST["narrative"]))
    return Shape(
        **{
            section: RULES[section]([item_of(record) for record in live if record.kind == kind], MOST[section])
            for kind, section in SECTION.items()
        },
        failures=_failures([item_of(record) for record in live if record.kind == "failure"]),
        narrative=tuple(item_of(told[each.place]) for each in chosen),
        numbers=_counted(records),
    )


def item_of(record: Record) -> Item:
    return Item(cut(record.body), (record.id,), (record.place,), record.at_ms, record.trust)


def cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 1] + "…"


def standing(items: Iterable[Item], most: int) -> tuple[Item, ...]:
    """The newest `most`, oldest first. Two are one only when they say the same: whether one replaces another is not guessed."""
    kept: dict[str, Item] = {}
    for item in sorted(items, key=lambda each: -each.places[0]):
        kept[item.text] = _joined(kept[item.text], item) if item.text in kept else item
    return tuple(reversed(list(kept.values())[:most]))


def reconciled(items: Iterable[Item], most: int) -> tuple[Item, ...]:
    """As `standing`; of two facts that contradict each other the newer is kept, and points to the older.

    They do when they begin alike, with the same two words that say something, and share half of all. Only facts of one
    trust contradict each other: what a stranger wrote takes nothing away.
    """
    kept: list[Item] = []
    about: dict[tuple[str, ...], list[int]] = {}
    for item in sorted(items, key=lambda each: -each.places[0]):
        said = terms(item.text)
        near = about.setdefault((item.trust, *said[:2]), [])
        same = next((at for at in near if likeness(said, terms(kept[at].text)) >= ALIKE), None)
        if same is not None:
            kept[same] = merged(kept[same], item)
        elif len(kept) < most:
            near.append(len(kept))
            kept.append(item)
    return tuple(reversed(kept))


def likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """How much of their words two texts share, from 0 to 1."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first or second else 1.0


RULES = {section: reconciled if section == "facts" else standing for section in SECTION.values()}


def merged(newer: Item, older: Item) -> Item:
    """They say the same, or the newer contradicts the older: then it is told apart."""
    times, refs = newer.times + older.times, (newer.ids + older.ids)[:REFS]
    places = (newer.places + older.places)[:REFS]
    instead = newer.instead_of + older.instead_of
    if newer.text != older.text:
        return msgspec.structs.replace(newer, times=times, instead_of=(*instead, *older.places)[:REFS])
    return msgspec.structs.replace(newer, times=times, ids=refs, places=places, instead_of=instead[:REFS])


def _failures(items: Sequence[Item]) -> tuple[Item, ...]:
    """One for all that differ in numbers and identifiers only, the newest of them; the most frequent are kept."""
    kinds: dict[str, Item] = {}
    for item in sorted(items, key=lambda each: -each.places[0]):
        pattern = VARIES.sub("#", item.text)
        known = kinds.get(pattern)
        kinds[pattern] = item if known is None else _joined(known, item)
    chosen = sorted(kinds.values(), key=lambda each: (-each.times, -each.places[0]))[: MOST["failures"]]
    return tuple(sorted(chosen, key=lambda each: each.places[0]))


def _joined(newer: Item, older: Item) -> Item:
    ids, places = (newer.ids + older.ids)[:REFS], (newer.places + older.places)[:REFS]
    return msgspec.structs.replace(newer, ids=ids, places=places, times=newer.times + older.times)


def _counted(records: Sequence[Record]) -> Numbers:
    kinds: dict[str, int] = {}
    work: dict[str, tuple[int, int]] = {}
    micros = 0
    for record in records:
        kinds[record.kind] = kinds.get(record.kind, 0) + 1
        if ended(record):
            name = record.body.partition("(")[0][:40]
            done, other = work.get(name, (0, 0))
            work[name] = (done + (record.kind == "result"), other + (record.kind == "failure"))
        elif record.kind == "call" and record.data is not None:
            micros += int(msgspec.json.decode(record.data).get("money") or 0)
    tasks = sum(done + other for done, other in work.values())
    return Numbers(len(records), tasks, kinds.get("call", 0), micros, kinds, _busiest(work))


def _busiest(work: dict[str, tuple[int, int]], most: int = 20) -> dict[str, tuple[int, int]]:
    return dict(sorted(work.items(), key=lambda each: (-sum(each[1]), each[0]))[:most])


# -- one of snapshots ------------------------------------------------------------------------------------------------------


def fold(shapes: Sequence[Shape], *, gone: Collection[int] = ()) -> Shape:
    """Ten of one level, in their order, as one of the next. gone: places of records that are not live any more."""
    ended_since = frozenset(gone)
    told = [item for shape in shapes for item in shape.narrative if not ended_since.intersection(item.places)]
    chosen = sorted(salient([item.text for item in told], MOST["narrative"]))
    return Shape(
        **{
            section: RULES[section](_living(shapes, section, ended_since), MOST[section])
            for section in SECTION.values()
        },
        failures=_failures(_living(shapes, "failures", ended_since)),
        narrative=tuple(told[each.place] for each in chosen),
        numbers=_added([shape.numbers for shape in shapes]),
    )


def _living(shapes: Sequence[Shape], section: str, gone: frozenset[int]) -> list[Item]:
    items: list[Item] = [item for shape in shapes for item in getattr(shape, section)]
    return [item for item in items if item.places[0] not in gone]


def _added(numbers: Sequence[Numbers]) -> Numbers:
    kinds: dict[str, int] = {}
    work: dict[str, tuple[int, int]] = {}
    for each in numbers:
        for kind, count in each.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + count
        for name, (done, other) in each.work.items():
            before = work.get(name, (0, 0))
            work[name] = (before[0] + done, before[1] + other)
    return Numbers(
        records=sum(each.records for each in numbers),
        tasks=sum(each.tasks for each in numbers),
        calls=sum(each.calls for each in numbers),
        micros=sum(each.micros for each in numbers),
        kinds=kinds,
        work=_busiest(work),
    )


def places_of(shape: Shape) -> set[int]:
    """Of every record that an item names."""
    sections = (*SECTION.values(), "failures", "narrative")
    return {place for section in sections for item in getattr(shape, section) for place in item.places}


def without(shape: Shape, place: int) -> Shape:
    """As it is when nothing may be said any more of the record at the place."""
    sections = (*SECTION.values(), "failures", "narrative")
    kept = {name: tuple(item for item in getattr(shape, name) if place not in item.places) for name in sections}
    return msgspec.structs.replace(shape, **kept)
