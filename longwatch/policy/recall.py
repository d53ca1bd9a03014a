"""Which records answer a question: words, with the records that stand beside them, recency and kind.

BM25 over term frequencies that neighbours share in before they saturate: what is said next to a word is often about it. A
reply takes more from the question that it answers, and a question nothing from its reply. How rare a term is comes from the
records' own texts. The author's name is no term: it is everywhere in what he said; asked for, it is a bonus to his records.
A record that covers more of the question counts for more than one that repeats a part of it, and the best record of a
conversation lifts the others. Identifiers are found whole and by their parts; words that nobody wrote by what looks like them.

Only candidates that an index has found are ranked, and their neighbours; the rest of memory is never read.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from longwatch.policy.words import STOP, WORD, forms_in, forms_of, stem, terms, terms_of

K1, B = 0.8, 0.1
BEFORE, AFTER = (0.4, 0.25, 0.1), (0.2, 0.1)  # of what the records before and after say
REPLY = 0.7  # of what the question said that a record answers
ASKED, MOST = 4_000, 40  # characters of a question, and terms of it, that are looked at
LONGEST = 20_000  # characters of a text that are looked at
FEW = 20  # texts below which no term is common
COMMON = 0.3  # share of records above which a term counts once
AUTHOR = 0.2  # of the best score, to records of who is asked for
COVER = 0.2  # how much of a score hangs on the share of the question that is covered
THREAD = 0.3  # of the best score of the conversation
DATED = 0.4  # of the best score, to records of the day, month or year that is asked for
LIKE = 0.45  # likeness of letters from which on a word stands in for one that nobody wrote
FRESH, HALF_MS = 0.04, 90 * 86_400_000  # of the best score, to the newest; half of it to one that is so much older
KINDS = {"decision": 0.06, "commitment": 0.05, "lesson": 0.06, "goal": 0.05, "fact": 0.03, "failure": 0.02}
"""Of the best score, to what somebody took the trouble to say in so many words."""

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
YEAR = re.compile(r"\b(19|20)\d\d\b")


class Text(NamedTuple):
    """A record as it is ranked. place: in its stream, where neighbours stand beside each other. day: (year, month, day)."""

    place: int
    thread: str
    author: str
    body: str
    kind: str
    at_ms: int
    day: tuple[int, int, int]


class Query(NamedTuple):
    """terms: weights by term, 1 for a word asked for. forms: by term, how it may be written.

    words: as written, lower case, also those that are no terms.
    """

    terms: Mapping[str, float]
    forms: Mapping[str, tuple[str, ...]]
    words: frozenset[str]
    month: int | None
    year: int | None


class Corpus(NamedTuple):
    """How many texts there are, and how many have each term of the question, exactly or nearly."""

    texts: int
    having: Mapping[str, int]


def query_of(text: str) -> Query:
    weights: dict[str, float] = {}
    forms: dict[str, tuple[str, ...]] = {}
    for found in WORD.finditer(text[:ASKED]):
        pairs = forms_in(found[0])
        for number, (term, form) in enumerate(pairs):
            if term not in STOP and form not in STOP and len(weights) < MOST:
                weights[term] = max(weights.get(term, 0.0), 1.0 if number == 0 else 1.0 / len(pairs))
                forms[term] = tuple(dict.fromkeys((*forms.get(term, ()), form, *forms_of(term))))
    words = frozenset(found[0].lower().removesuffix("'s").removesuffix("’s") for found in WORD.finditer(text[:ASKED]))
    month = next((number for number, name in enumerate(MONTHS, 1) if name in words), None)
    year = YEAR.search(text)
    return Query(weights, forms, words, month, int(year[0]) if year else None)


class Scored(NamedTuple):
    place: int
    score: float


def rank(
    query: Query, texts: Sequence[Text], candidates: Collection[int], corpus: Corpus, *, now_ms: int, limit: int
) -> list[Scored]:
    """The best candidates, best first. texts: they and their neighbours, in the order of places. now_ms: of recency."""
    scores = {
        at: score for at, score in Counted(query, texts, corpus).scores().items() if texts[at].place in candidates
    }
    best = max(scores.values(), default=0.0)
    if best <= 0:
        return []
    threads: dict[str, float] = {}
    for at, score in scores.items():
        threads[texts[at].thread] = max(threads.get(texts[at].thread, 0.0), score)
    found = [
        Scored(texts[at].place, score + THREAD * threads[texts[at].thread] + best * _bonus(query, texts[at], now_ms))
        for at, score in scores.items()
    ]
    return sorted(found, key=lambda each: (-each.score, -each.place))[:limit]


def _bonus(query: Query, text: Text, now_ms: int) -> float:
    author = AUTHOR if text.author and query.words & frozenset(text.author.lower().split()) else 0.0
    dated = 0.0
    if query.month is not None or query.year is not None:
        same = (query.month in (None, text.day[1])) and (query.year in (None, text.day[0]))
        dated = DATED if same else 0.0
    age_ms = max(0, now_ms - text.at_ms)
    return author + dated + FRESH * math.exp2(-age_ms / HALF_MS) + KINDS.get(text.kind, 0.0)


class Counted:
    """The question's terms in every text, and in what stands beside it."""

    def __init__(self, query: Query, texts: Sequence[Text], corpus: Corpus) -> None:
        self.texts, self.corpus = texts, corpus
        names = frozenset(name for text in texts for name in text.author.lower().split()) & query.words
        self.terms = {
            term: weight for term, weight in query.terms.items() if term not in {stem(name) for name in names}
        }
        self.terms = self.terms or dict(query.terms)
        self.weights = {term: weight * rarity(corpus, term) for term, weight in self.terms.items()}
        self.total = sum(self.weights.values()) or 1.0
        self.common = frozenset(
            term for term in self.terms if corpus.texts > FEW and corpus.having.get(term, 0) > COMMON * corpus.texts
        )
        self.lengths = [max(1.0, len(text.body) / 6) for text in texts]
        self.mean = sum(self.lengths) / len(self.lengths) if texts else 1.0

    def scores(self) -> dict[int, float]:
        """By the number of the text, of those that have a term or stand beside one that has."""
        spread: dict[int, dict[str, float]] = {}
        for at, own in self._own().items():
            for other, share in self._reached(at):
                sums = spread.setdefault(other, {})
                for term, count in own.items():
                    sums[term] = sums.get(term, 0.0) + share * count
        return {at: self._score(at, sums) for at, sums in spread.items()}

    def _score(self, at: int, sums: Mapping[str, float]) -> float:
        norm = K1 * (1 - B + B * self.lengths[at] / self.mean)
        score = covered = 0.0
        for term, amount in sums.items():
            amount = min(amount, 1.0) if term in self.common else amount
            score += self.weights[term] * amount * (K1 + 1) / (amount + norm)
            covered += self.weights[term] * min(1.0, amount)
        return score * (1 - COVER + COVER * covered / self.total)

    def _own(self) -> dict[int, dict[str, float]]:
        unknown = {term: trigrams(term) for term in self.terms if not self.corpus.having.get(term) and len(term) > 3}
        found: dict[int, dict[str, float]] = {}
        for at, text in enumerate(self.texts):
            counts = counts_of(text.body)
            own: dict[str, float] = {term: counts[term] for term in self.terms if term in counts}
            for term, letters in unknown.items():
                near = (likeness(letters, trigrams(word)) for word in counts if word[:2] == term[:2])
                alike = max(near, default=0.0)
                if alike >= LIKE:
                    own[term] = alike
            if own:
                found[at] = own
        return found

    def _reached(self, at: int) -> Iterator[tuple[int, float]]:
        """Which texts this one counts for, and how much."""
        yield at, 1.0
        asks = asks_of(self.texts[at].body)
        for step, share in enumerate(BEFORE, 1):
            if self._beside(at, at + step, step):
                yield at + step, REPLY if step == 1 and asks else share
        for step, share in enumerate(AFTER, 1):
            if self._beside(at, at - step, step) and not (step == 1 and asks_of(self.texts[at - 1].body)):
                yield at - step, share

    def _beside(self, at: int, other: int, step: int) -> bool:
        if not 0 <= other < len(self.texts):
            return False
        one, two = self.texts[at], self.texts[other]
        return one.thread == two.thread and abs(one.place - two.place) <= step


def rarity(corpus: Corpus, term: str) -> float:
    having = min(corpus.texts, corpus.having.get(term, 0))
    return math.log(1 + (corpus.texts - having + 0.5) / (having + 0.5))


def asks_of(body: str) -> bool:
    return body.endswith("?")


@lru_cache(20_000)
def counts_of(body: str) -> dict[str, int]:
    """Every term of a text, and how often. The newest that were looked at are kept."""
    return dict(Counter(terms(body[:LONGEST])))


def snippet(body: str, question: str, *, most: int = 160) -> str:
    """The stretch of a text that says most of what was asked for, on one line."""
    flat = " ".join(body.split())
    if len(flat) <= most:
        return flat
    asked = query_of(question).terms.keys()
    said = [found.start() for found in WORD.finditer(flat[:LONGEST]) if asked & set(terms_of(found[0]))]
    start = max(said, key=lambda at: (sum(at <= other < at + most for other in said), -at), default=0)
    start = max(0, min(start - most // 4, len(flat) - most))
    cut = flat[start : start + most].strip()
    return ("…" if start else "") + cut + ("…" if start + most < len(flat) else "")


@lru_cache(20_000)
def trigrams(word: str) -> frozenset[str]:
    padded = f" {word} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def fuse(rankings: Sequence[Sequence[int]], weights: Sequence[float], *, limit: int, k: int = 20) -> list[Scored]:
    """Several rankings as one, by reciprocal rank: what stands high in any of them does so in the whole."""
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for number, place in enumerate(ranking):
            scores[place] = scores.get(place, 0.0) + weight / (k + number)
    return sorted(
        (Scored(place, score) for place, score in scores.items()), key=lambda each: (-each.score, -each.place)
    )[:limit]
