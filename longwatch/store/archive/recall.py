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

from longwatch.store.archive.entry import FAR_MS, Entry, entry_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.grams import hashes_of, may_hold
from longwatch.store.archive.index import Index, Spot
from longwatch.store.archive.places import Place
from longwatch.store.archive.reading import Part, part_of

FRAMES = 24  # that one question may read
BESIDE = 3  # lines on each side that come along
SHORTEST = 3  # bytes of a word that a line is looked through for
CALLS = b'"kind":"call"'


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
    """score: greater is better. number: of the line in its frame."""

    score: float
    to_ms: int
    number: int
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
    having = {term: max(found.having[term], found.having[term] * every // seen) for term in found.having}
    return found._replace(having=having)


def _read(place: Place, asked: Asked, weights: Mapping[str, float], spots: Sequence[Spot], limit: int) -> Recalled:
    needles = {term: needles_of(term, asked.terms[term]) for term in weights}
    having, unread, best = dict.fromkeys(weights, 0), list[Finding](), list[Line]()
    lines: list[list[bytes]] = []
    for spot in spots:
        part = part_of(place, spot.name, spot.start, spot.size)
        lines.append(part.raw.splitlines() if isinstance(part, Part) else [])
        if not isinstance(part, Part):
            unread.append(part)
            continue
        for number, said in _said(part.raw, needles, asked):
            for term in said:
                having[term] += 1
            line = Line(sum(weights[term] for term in said), spot.to_ms, number, len(lines) - 1)
            (heapq.heappush if len(best) < limit else heapq.heappushpop)(best, line)
    entries: dict[int, Entry] = {}
    likeliest: set[int] = set()
    for line in sorted(best):
        near = lines[line.frame][max(0, line.number - BESIDE) : line.number + BESIDE + 1]
        entries |= {each.place: each for each in map(entry_of, near) if each.agent == asked.agent and each.place}
        likeliest.add(entry_of(lines[line.frame][line.number]).place)
    return Recalled([entries[at] for at in sorted(entries)], likeliest & entries.keys(), having, unread)


def needles_of(term: str, forms: Sequence[str]) -> list[bytes]:
    """What a line has that has the term: how it begins, whatever its ending is."""
    found = {_common(term, form) for form in forms} or {term}
    return sorted(each.encode("utf-8", "surrogatepass") for each in found)


def _common(term: str, form: str) -> str:
    """How both begin, or the form where that is too little."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(term, form, strict=False))
    begins = "".join(pair[0] for pair in same)
    return begins if len(begins) >= SHORTEST else form


def _said(raw: bytes, needles: Mapping[str, Sequence[bytes]], asked: Asked) -> Iterator[tuple[int, list[str]]]:
    """Numbers of lines that may matter, with the terms that they may have."""
    plain = all(needle.isascii() for each in needles.values() for needle in each)
    lowered = raw.lower() if plain else raw.decode("utf-8", "replace").lower().encode()
    kinds = None if asked.kinds is None else [b'"kind":"%s"' % kind.encode() for kind in asked.kinds]
    owner = b'"agent":"%s"' % asked.agent.lower().encode()
    for number, line in enumerate(lowered.split(b"\n")):
        if (CALLS in line) if kinds is None else not any(kind in line for kind in kinds):
            continue
        said = [term for term, each in needles.items() if any(needle in line for needle in each)]
        if said and owner in line:
            yield number, said
