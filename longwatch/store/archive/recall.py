"""Finds what agents remembered by its words, in the archive: the index says which frames may have them, and the likeliest are
read, a bounded number, however many there are.

Of two frames the one that may have more and rarer words is read first, and the newer one of two that are alike. Rare words
are so found wherever they are; words that are everywhere are found in what is newest.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import msgspec

from longwatch.store.archive.entry import FAR_MS, Entry, entry_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.grams import hashes_of, may_hold
from longwatch.store.archive.index import Index, Spot
from longwatch.store.archive.places import Place
from longwatch.store.archive.reading import Part, part_of

FRAMES = 16  # that one question may read
NEWEST = 60  # lines with one word that are looked at in a frame, the last ones
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
    have = {term: [may_hold(bits, hashes_of(term)) for _, _, bits in frames] for term in asked.terms}
    weights = {term: math.log(1 + len(frames) / (sum(found) + 0.5)) + 0.1 for term, found in have.items() if any(found)}
    scores = [sum(weight for term, weight in weights.items() if have[term][at]) for at in range(len(frames))]
    inside = [
        at
        for at, (spot, _, _) in enumerate(frames)
        if scores[at] and spot.to_ms >= asked.since_ms and spot.from_ms <= asked.until_ms
    ]
    chosen = sorted(inside, key=lambda at: (-scores[at], -frames[at][0].to_ms))[:FRAMES]
    found = _read(place, asked, weights, [frames[at][0] for at in chosen], limit)
    seen = sum(frames[at][1] for at in chosen) or 1
    every = sum(entries for _, entries, _ in frames)
    return found._replace(having={term: count * every // seen for term, count in found.having.items()})


def _read(place: Place, asked: Asked, weights: Mapping[str, float], spots: Sequence[Spot], limit: int) -> Recalled:
    needles = {term: needles_of(term, asked.terms[term]) for term in weights}
    having, unread, best = dict.fromkeys(weights, 0), list[Finding](), list[Line]()
    lines: list[bytes] = []
    for spot in spots:
        part = part_of(place, spot.name, spot.start, spot.size)
        lines.append(part.raw if isinstance(part, Part) else b"")
        if not isinstance(part, Part):
            unread.append(part)
        for start, said in _said(lines[-1], needles, having, asked):
            line = Line(sum(weights[term] for term in said), spot.to_ms, start, len(lines) - 1)
            (heapq.heappush if len(best) < limit else heapq.heappushpop)(best, line)
    entries: dict[int, Entry] = {}
    likeliest: set[int] = set()
    for line in sorted(best):
        entry, near = _near(lines[line.frame], line.start)
        entries |= {each.place: each for each in near if each.agent == asked.agent and each.place}
        likeliest.add(entry.place)
    return Recalled([entries[at] for at in sorted(entries)], likeliest & entries.keys(), having, unread)


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
    raw: bytes, needles: Mapping[str, Sequence[bytes]], having: dict[str, int], asked: Asked
) -> Iterator[tuple[int, list[str]]]:
    """Where lines that may matter start, with the terms that they may have. having: how many have each, added to."""
    lowered = raw.lower()
    starts: set[int] = set()
    for term, each in needles.items():
        for needle in each:
            found = _newest(lowered, needle)
            starts |= found
            having[term] += len(found) if len(found) < NEWEST else lowered.count(needle)
    kinds = None if asked.kinds is None else [b'"kind":"%s"' % kind.encode() for kind in asked.kinds]
    owner = b'"agent":%s' % encode(asked.agent).lower()
    for start in sorted(starts):
        line = lowered[start : lowered.find(b"\n", start)]
        if (CALLS in line) if kinds is None else not any(kind in line for kind in kinds):
            continue
        said = [term for term, each in needles.items() if any(needle in line for needle in each)]
        if owner in line:
            yield start, said


def _newest(lowered: bytes, needle: bytes) -> set[int]:
    """Where the last lines with the needle start, at most NEWEST."""
    starts: set[int] = set()
    at = lowered.find(needle)
    if at < 0:
        return starts  # which is faster to find than from behind
    end = len(lowered)
    while len(starts) < NEWEST and (at := lowered.rfind(needle, 0, end)) >= 0:
        end = lowered.rfind(b"\n", 0, at) + 1
        starts.add(end)
    return starts


def _near(raw: bytes, start: int) -> tuple[Entry, list[Entry]]:
    """The entry whose line starts there, and those on both sides, with itself."""
    first, last = start, start
    for _ in range(BESIDE):
        first = raw.rfind(b"\n", 0, max(0, first - 1)) + 1
    for _ in range(BESIDE + 1):
        last = raw.find(b"\n", last) + 1 or len(raw)
    near = [entry_of(line) for line in raw[first:last].splitlines()]
    return entry_of(raw[start : raw.find(b"\n", start)]), near
