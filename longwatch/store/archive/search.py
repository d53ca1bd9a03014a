"""Looks for entries: the index says which frames may hold them, and of these only lines that may match are decoded.

A text is looked for by its bytes in every frame that the other conditions leave, and that may hold it: a gibibyte of lines
takes about a second.
"""

import heapq
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from longwatch.store.archive.entry import FAR_MS, Entry, entry_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.grams import Needed
from longwatch.store.archive.index import KINDS, Index, Spot, key_of
from longwatch.store.archive.places import Place
from longwatch.store.archive.reading import Part, part_of

FEW = 16  # places that are looked for in a frame one by one
encode = msgspec.json.Encoder().encode


class Query(msgspec.Struct, frozen=True):
    """What an entry must be. None: anything. since_ms, until_ms: epoch milliseconds, the second one not included.

    text: stands so in the entry's body, as a whole or a part of any text in it, or in its id.
    """

    task: str | None = None
    text: str | None = None
    agent: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    kind: str | None = None

    def spots(self, index: Index) -> list[Spot]:
        """Frames that may hold such entries, those with the newest ones first."""
        if self.task is not None:
            spots = index.of_task(self.task)
        else:
            spots = index.all() if self.agent is None else index.of_agent(self.agent)
        since, until = self._times()
        kinds = ~0 if self.kind is None else KINDS.get(self.kind, 0)
        return [spot for spot in spots if spot.to_ms >= since and spot.from_ms < until and spot.kinds & kinds]

    def needles(self) -> list[bytes]:
        """Each line that may match holds one of them; of none, every line may."""
        if self.text:
            return spellings(self.text)
        return [] if self.task is None else [b'"task":' + encode(self.task)]

    def matches(self, entry: Entry) -> bool:
        since, until = self._times()
        return (
            (self.task is None or entry.task == self.task)
            and (self.agent is None or entry.agent == self.agent)
            and (self.kind is None or entry.kind == self.kind)
            and since <= entry.at_ms < until
            and (not self.text or holds(entry, self.text))
        )

    def _times(self) -> tuple[int, int]:
        return (-FAR_MS if self.since_ms is None else self.since_ms), (
            FAR_MS if self.until_ms is None else self.until_ms
        )


class Found(NamedTuple):
    """entries: oldest first. unread: what could not be looked through, because it is damaged or not there."""

    entries: list[Entry]
    unread: list[Finding]


def find(place: Place, index: Index, query: Query, *, limit: int) -> Found:
    """The newest `limit` entries that match."""
    newest: list[tuple[int, int, Entry]] = []
    unread = _unknown(index)
    needles, number = query.needles(), 0
    without = index.without(Needed(needles)) if query.text and query.task is None else set[tuple[str, int]]()
    for spot in query.spots(index):
        if (spot.name, spot.start) in without:
            continue
        if newest and len(newest) >= limit and spot.to_ms < newest[0][0]:
            break  # neither this frame nor one behind it holds anything newer than what there is
        part = part_of(place, spot.name, spot.start, spot.size)
        if not isinstance(part, Part):
            unread.append(part)
            continue
        for entry in _matching(part.raw, needles, query):
            number += 1
            heapq.heappush(newest, (entry.at_ms, number, entry))
            if len(newest) > limit:
                heapq.heappop(newest)
    return Found([entry for _, _, entry in sorted(newest, key=lambda each: each[:2])], unread)


def show(place: Place, index: Index, name: str) -> Found:
    """Every entry with this id, and every one of the task with this id; oldest first."""
    spots = {*index.of_task(name), *index.of_id(name)}
    entries: list[Entry] = []
    unread = _unknown(index)
    needles = [b'"id":' + encode(name), b'"task":' + encode(name)]
    for spot in sorted(spots, key=lambda spot: (spot.name, spot.start)):
        part = part_of(place, spot.name, spot.start, spot.size)
        if isinstance(part, Part):
            lines = map(entry_of, lines_with(part.raw, needles))
            entries += [entry for entry in lines if name in (entry.id, entry.task)]
        else:
            unread.append(part)
    return Found(sorted(entries, key=lambda entry: entry.at_ms), unread)


def of_key(place: Place, index: Index, key: str) -> Found:
    """Every copy of every task that was given the key; oldest first."""
    entries: list[Entry] = []
    unread = _unknown(index)
    needle = b'"key":' + encode(key)
    for spot in index.of_key(key):
        part = part_of(place, spot.name, spot.start, spot.size)
        if isinstance(part, Part):
            entries += [entry for entry in map(entry_of, lines_with(part.raw, [needle])) if key_of(entry) == key]
        else:
            unread.append(part)
    return Found(sorted(entries, key=lambda entry: entry.at_ms), unread)


def records(place: Place, index: Index, agent: str, first: int, last: int) -> Found:
    """The records of an agent between two places, in their order, each as it was archived last."""
    found: dict[int, Entry] = {}
    unread = _unknown(index)
    for spot in index.of_places(agent, first, last):
        part = part_of(place, spot.name, spot.start, spot.size)
        if isinstance(part, Part):
            found |= {entry.place: entry for entry in _placed(part.raw, agent, first, last)}
        else:
            unread.append(part)
    return Found([found[number] for number in sorted(found)], unread)


def _placed(raw: bytes, agent: str, first: int, last: int) -> Iterator[Entry]:
    needles = [b'"place":%d,' % number for number in range(first, last + 1)] if last - first < FEW else []
    lines = lines_with(raw, needles) if needles else raw.splitlines()
    return (entry for entry in map(entry_of, lines) if entry.agent == agent and first <= entry.place <= last)


def _unknown(index: Index) -> list[Finding]:
    """What the index could not take in."""
    return [
        Finding("damaged", f"{entries} of its entries could not be read when the index was made", name, entries=entries)
        for name, entries in index.short()
    ]


def holding(place: Place, index: Index, ids: Sequence[str], text: str) -> set[str]:
    """Names of segments in which there may be entries with one of the ids, or that hold the text; without either, of all.

    One with a part that cannot be read is among them: nobody knows what is in it.
    """
    if not ids and not text:
        return index.names()
    names = {name for name, _ in index.short()} | {spot.name for name in ids for spot in index.of_id(name)}
    needles = spellings(text) if text else []
    for spot in index.all() if text else []:
        if spot.name not in names:
            part = part_of(place, spot.name, spot.start, spot.size)
            if not isinstance(part, Part) or any(needle in part.raw for needle in needles):
                names.add(spot.name)
    return names


def _matching(raw: bytes, needles: Sequence[bytes], query: Query) -> Iterator[Entry]:
    lines = lines_with(raw, needles) if needles else raw.splitlines()
    return (entry for entry in map(entry_of, lines) if query.matches(entry))


def lines_with(raw: bytes, needles: Sequence[bytes]) -> Iterator[bytes]:
    """Each line that holds one of the needles, once, in their order."""
    ends = {begin: end for needle in needles for begin, end in _lines_with(raw, needle)}
    return (raw[begin : ends[begin]] for begin in sorted(ends))


def _lines_with(raw: bytes, needle: bytes) -> Iterator[tuple[int, int]]:
    at = raw.find(needle)
    while at >= 0:
        end = raw.find(b"\n", at)
        yield raw.rfind(b"\n", 0, at) + 1, end
        at = raw.find(needle, end)


def spellings(text: str) -> list[bytes]:
    """As writers of JSON put it into a text: with what is not ASCII as it is, or escaped."""
    return sorted(
        {json.dumps(text, ensure_ascii=only).encode("utf-8", "surrogatepass")[1:-1] for only in (True, False)}
    )


def holds(entry: Entry, text: str) -> bool:
    return text in entry.id or any(spelling in entry.body for spelling in spellings(text))
