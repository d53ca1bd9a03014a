"""Which sentences of many stand for all of them: central ones first, and each only as far as it says something new.

Centrality is the cosine with the sum of all texts, words weighted by how few texts have them; novelty is what is left of it
beside the sentences that were chosen before (maximal marginal relevance). Numbers and identifiers count for neither. No
model, no chance: the same texts give the same sentences.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from longwatch.policy.words import terms

LONGEST = 400  # characters of a text that are looked at
NOVELTY = 0.6  # how much being like what was chosen before counts against being central
SAME = 0.9  # above this likeness a sentence says nothing new
POOL = 120  # the most central, among which novelty decides

Vector = dict[str, float]


class Ranked(NamedTuple):
    """place: of the text. score: its centrality, from 0 to 1."""

    place: int
    score: float


def salient(texts: Sequence[str], most: int) -> list[Ranked]:
    """Up to `most` of the texts, the best first."""
    counted = [Counter(term for term in terms(text[:LONGEST]) if term.isalpha()) for text in texts]
    spread = Counter(term for counts in counted for term in counts)
    vectors = [_vector(counts, spread, len(texts)) for counts in counted]
    centre = _sum(vectors)
    ranked = sorted((Ranked(place, _dot(vector, centre)) for place, vector in enumerate(vectors)), key=_best)
    return _novel([each for each in ranked[:POOL] if vectors[each.place]], vectors, most)


def _novel(pool: list[Ranked], vectors: Sequence[Vector], most: int) -> list[Ranked]:
    chosen: list[Ranked] = []
    likeness = {each.place: 0.0 for each in pool}
    while pool and len(chosen) < most:
        best = max(pool, key=lambda each: (each.score - NOVELTY * likeness[each.place], -each.place))
        if likeness[best.place] > SAME:
            break
        chosen.append(best)
        pool = [each for each in pool if each.place != best.place]
        for each in pool:
            likeness[each.place] = max(likeness[each.place], _dot(vectors[each.place], vectors[best.place]))
    return chosen


def _best(ranked: Ranked) -> tuple[float, int]:
    return (-ranked.score, ranked.place)


def _vector(counts: "Counter[str]", spread: "Counter[str]", texts: int) -> Vector:
    weights = {term: (1 + math.log(count)) * math.log(1 + texts / spread[term]) for term, count in counts.items()}
    return _unit(weights)


def _unit(weights: Vector) -> Vector:
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {term: weight / length for term, weight in weights.items()} if length else {}


def _sum(vectors: Sequence[Vector]) -> Vector:
    total: Vector = {}
    for vector in vectors:
        for term, weight in vector.items():
            total[term] = total.get(term, 0.0) + weight
    return _unit(total)


def _dot(one: Vector, other: Vector) -> float:
    if len(one) > len(other):
        one, other = other, one
    return sum(weight * other.get(term, 0.0) for term, weight in one.items())
