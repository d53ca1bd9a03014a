"""Finds what agents remembered by its words, in the archive: the index says which frames may have them, and the likeliest are
read, a bounded number, however many there are.

Of two frames the one that may have more and rarer words is read first, and the newer one of two that are alike. Rare words
are so found wherever they are; words that are everywhere are found in what is newest.
"""

import heapq
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import msgspec

from longwatch.store.archive.entry import FAR_MS, Entry, entry_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.grams import hashes_of, may_hold
from longwatch.store.archive.index import Index, Worded
from longwatch.store.archive.places import Place
from longwatch.store.archive.reading import Part, part_of

FRAMES, TRIED = 12, 40  # that one question may take lines from, and may read
NEWEST = 40  # lines with one word that are looked at in a frame, the last ones
LOOKED_AT = 2_000  # places at which a number may stand in a frame
BESIDE = 3  # lines on each side that come along
SHORTEST = 3  # bytes of a word that a line is looked through for
CALLS = b'"kind":"call"'
encode = msgspec.json.Encoder().encode


class Asked(NamedTuple):
    """terms: words without endings, each with how it may be written. kinds: of records; None: all but calls."""

    agent: str
    terms: Mapping[str, Sequence[str]]
    kinds: Sequence[str] | None = None
    since_ms: int = -FAR_MS
    until_ms: int = FAR_MS


class Recalled(NamedTuple):
    """entries: the likeliest, and those beside them, each place once. likeliest: their places. having: how many records have
    each term, nearly. unread: what could not be looked through."""

    entries: list[Entry]
    likeliest: set[int]
    having: dict[str, int]
    unread: list[Finding]


class Line(NamedTuple):
    """score: greater is better. frame: its number. start: byte of its lines."""

    score: float
    to_ms: int
    start: int
    frame: int


def recall(place: Place, index: Index, asked: Asked, *, limit: int) -> Recalled:
    """Up to `limit` likely records, and what stands beside them."""
    frames = index.of_words(asked.agent)
    have = {term: [may_hold(frame.bits, hashes_of(term)) for frame in frames] for term in asked.terms}
    weights = {term: math.log(1 + len(frames) / (sum(found) + 0.5)) + 0.1 for term, found in have.items() if any(found)}
    turns = [
        Turn(-sum(weights[term] for term in said), -frame.spot.to_ms, at, said)
        for at, frame in enumerate(frames)
        if frame.spot.to_ms >= asked.since_ms and frame.spot.from_ms <= asked.until_ms
        if (said := [term for term in weights if have[term][at]])
    ]
    return Reading(place, asked, weights, frames, limit).all(turns)


class Turn(NamedTuple):
    """A frame in the order in which frames are read: said are the terms that it may have."""

    score: float
    to_ms: int
    at: int
    said: list[str]


class Reading:
    """Reads frames, the likeliest first, and keeps their likeliest lines."""

    def __init__(
        self, place: Place, asked: Asked, weights: Mapping[str, float], frames: Sequence[Worded], limit: int
    ) -> None:
        self.place, self.asked, self.weights, self.frames, self.limit = place, asked, weights, frames, limit
        self.needles = {term: needles_of(term, asked.terms[term]) for term in weights}
        self.having, self.unread = dict.fromkeys(weights, 0), list[Finding]()
        self.best: list[Line] = []
        self.lines: dict[int, bytes] = {}

    def all(self, turns: list[Turn]) -> Recalled:
        """One that does not have what it may have had takes its turn again, for what it has."""
        heapq.heapify(turns)
        for _ in range(TRIED):
            if not turns or len(self.lines) == FRAMES:
                break
            turn = heapq.heappop(turns)
            raw = self._read(turn.at)
            lowered = raw.lower()
            said = [term for term in turn.said if any(needle in lowered for needle in self.needles[term])]
            if said == turn.said:
                self.lines[turn.at] = raw
                self._keep(turn.at, lowered)
            elif said:
                score = -sum(self.weights[term] for term in said)
                heapq.heappush(turns, turn._replace(score=score, said=said))
        return self._found()

    def _read(self, at: int) -> bytes:
        spot = self.frames[at].spot
        part = part_of(self.place, spot.name, spot.start, spot.size)
        if isinstance(part, Part):
            return part.raw
        self.unread.append(part)
        return b""

    def _keep(self, at: int, lowered: bytes) -> None:
        for start, said in _said(lowered, self.needles, self.having, self.asked):
            line = Line(sum(self.weights[term] for term in said), self.frames[at].spot.to_ms, start, at)
            (heapq.heappush if len(self.best) < self.limit else heapq.heappushpop)(self.best, line)

    def _found(self) -> Recalled:
        entries: dict[int, Entry] = {}
        likeliest: set[int] = set()
        for line in sorted(
            self.best, key=lambda line: self.frames[line.frame].number
        ):  # of several copies the last one counts
            entry, near = _near(self.lines[line.frame], line.start)
            entries |= {each.place: each for each in near if each.agent == self.asked.agent and each.place}
            likeliest.add(entry.place)
        seen = sum(self.frames[at].entries for at in self.lines) or 1
        every = sum(frame.entries for frame in self.frames)
        having = {term: count * every // seen for term, count in self.having.items()}
        return Recalled([entries[at] for at in sorted(entries)], likeliest & entries.keys(), having, self.unread)


def needles_of(term: str, forms: Sequence[str]) -> list[bytes]:
    """What a line in lower case has that has the term: how it begins, whatever its ending is."""
    found = {_common(term, form) for form in forms} or {term}
    found |= {each.capitalize() for each in found if not each[:1].isascii()}  # bytes know lower case of ASCII only
    return sorted(each.encode("utf-8", "surrogatepass") for each in found if each)


def _common(term: str, form: str) -> str:
    """How both begin, or the form where that is too little."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(term, form, strict=False))
    begins = "".join(pair[0] for pair in same)
    return begins if len(begins) >= SHORTEST else form


def _said(
    lowered: bytes, needles: Mapping[str, Sequence[bytes]], having: dict[str, int], asked: Asked
) -> Iterator[tuple[int, list[str]]]:
    """Where lines that may matter start, with the terms that they may have. having: how many have each, added to."""
    starts: set[int] = set()
    for term, each in needles.items():
        for needle in each:
            found = _newest(lowered, needle)
            starts |= found
            having[term] += len(found) if len(found) < NEWEST or _is_number(needle) else lowered.count(needle)
    kinds = None if asked.kinds is None else [b'"kind":"%s"' % kind.encode() for kind in asked.kinds]
    owner = b'"agent":%s' % encode(asked.agent).lower()
    for start in sorted(starts):
        line = lowered[start : lowered.find(b"\n", start)]
        if (CALLS in line) if kinds is None else not any(kind in line for kind in kinds):
            continue
        said = [term for term, each in needles.items() if any(_says(line, needle) for needle in each)]
        if owner in line:
            yield start, said


def _is_number(needle: bytes) -> bool:
    """Such are part of every id and time."""
    return needle.isdigit()


def _says(line: bytes, needle: bytes) -> bool:
    if needle not in line:
        return False
    return not _is_number(needle) or re.search(rb"(?<![0-9a-z])%s(?![0-9])" % needle, line) is not None


def _newest(lowered: bytes, needle: bytes) -> set[int]:
    """Where the last lines with the needle start, at most NEWEST."""
    starts: set[int] = set()
    number, end = _is_number(needle), len(lowered)
    if lowered.find(needle) < 0:  # which is faster than from behind
        return starts
    for _ in range(LOOKED_AT):
        at = lowered.rfind(needle, 0, end)
        if at < 0 or len(starts) == NEWEST:
            break
        if number and not _stands_alone(lowered, at, at + len(needle)):
            end = at + len(needle) - 1
            continue
        end = lowered.rfind(b"\n", 0, at) + 1
        starts.add(end)
    return starts


def _stands_alone(lowered: bytes, start: int, end: int) -> bool:
    return not lowered[start - 1 : start].isalnum() and not lowered[end : end + 1].isdigit()


def _near(raw: bytes, start: int) -> tuple[Entry, list[Entry]]:
    """The entry whose line starts there, and those on both sides, with itself."""
    first, last = start, start
    for _ in range(BESIDE):
        first = raw.rfind(b"\n", 0, max(0, first - 1)) + 1
    for _ in range(BESIDE + 1):
        last = raw.find(b"\n", last) + 1 or len(raw)
    near = [entry_of(line) for line in raw[first:last].splitlines()]
    return entry_of(raw[start : raw.find(b"\n", start)]), near
