"""Which records answer a question: words, with the records that stand beside them, recency and kind.

BM25 over term frequencies that neighbours share in before they saturate: what is said next to a word is often about it. A
reply takes more from the question that it answers, and a question nothing from its reply; what a short question is about was
said before it, so that the reply takes from there too, and gives there. How rare a term is comes from the records' own texts.
The author's name is no term: it is everywhere in what he said; asked for, it is a bonus to his records. A word that stands for
another counts for a part of it. Who asks when is answered by who tells a time, and by a question hardly ever.
A record that covers more of the question counts for more than one that repeats a part of it, and the best record of a
conversation lifts the others. Identifiers are found whole and by their parts; words that nobody wrote by what looks like them.

Only candidates that an index has found are ranked, and their neighbours; the rest of memory is never read.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from longwatch.policy.kindred import KINDRED
from longwatch.policy.words import STOP, WORD, forget_words, forms_in, forms_of, stem, terms, terms_of

K1, B = 0.8, 0.1
BEFORE, AFTER = (0.4, 0.25, 0.1), (0.2, 0.1)  # of what the records before and after say
REPLY = 0.7  # of what the question said that a record answers
ABOUT, ABOUT_BACK = 0.5, 0.25  # of what stands before a question, to the reply; of the reply, to what stands before
SHORT = 300  # characters of a question that is about what was said before; a longer one says itself what it is about
KIN = 0.2  # of a word, for one that stands for it
ASKED, MOST = 4_000, 40  # characters of a question, and terms of it, that are looked at
LONGEST = 20_000  # characters of a text that are looked at
FEW = 20  # texts below which no term is common
COMMON = 0.3  # share of records above which a term counts once
AUTHOR = 0.2  # of the best score, to records of who is asked for
COVER = 0.2  # how much of a score hangs on the share of the question that is covered
THREAD = 0.3  # of the best score of the conversation
DATED = 0.4  # of the best score, to records of the day, month or year that is asked for
LIKE = 0.45  # likeness of letters from which on a word stands in for one that nobody wrote
TIMED = 0.1  # of the best score, to records that tell a time, where one is asked for
ASKING = 0.08  # of the best score, off records that ask
FRESH, HALF_MS = 0.04, 90 * 86_400_000  # of the best score, to the newest; half of it to one that is so much older
FIRST, SHORTER = 10, 0.25  # which fit by their rank alone, and how much shorter ones are preferred behind them
KINDS = {"decision": 0.06, "commitment": 0.05, "lesson": 0.06, "goal": 0.05, "fact": 0.03, "failure": 0.02}
"""Of the best score, to what somebody took the trouble to say in so many words."""

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
YEAR = re.compile(r"\b(19|20)\d\d\b")
ASKS_WHEN = re.compile(
    r"\b(when|how long|(what|which) (date|day|month|year|week|time)|how many (days|weeks|months|years))\b",
    re.IGNORECASE,
)
DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
SPANS = f"night|morning|evening|days|weeks?|weekend|months?|years?|spring|summer|autumn|fall|winter|{DAYS}"
TELLS_WHEN = re.compile(
    r"\b(yesterday|today|tomorrow|tonight|ago|recently|since|just|(19|20)\d\d|\d+(st|nd|rd|th)"
    rf"|{DAYS}|{'|'.join(month for month in MONTHS if month != 'may')}"
    rf"|(last|next|this|past|previous|coming|few|couple of|two|three|four|five|six|\d+)"
    rf" ({SPANS}|mon|tues?|wed|thurs?|fri|sat|sun))\b",
    re.IGNORECASE,
)
ATTACHED = {"]": "[", ")": "("}


class Text(NamedTuple):
    """A record as it is ranked. place: in its stream, where neighbours stand beside each other."""

    place: int
    thread: str
    author: str
    body: str
    kind: str
    at_ms: int


class Query(NamedTuple):
    """terms: weights by term, 1 for a word asked for. forms: by term, how it may be written.

    words: as written, lower case, also those that are no terms. when: a time is asked for.
    """

    terms: Mapping[str, float]
    forms: Mapping[str, tuple[str, ...]]
    words: frozenset[str]
    month: int | None
    year: int | None
    when: bool


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
    when = ASKS_WHEN.search(text[:ASKED]) is not None
    return Query(weights, forms, words, month, int(year[0]) if year else None, when)


class Scored(NamedTuple):
    place: int
    score: float


def rank(
    query: Query,
    texts: Sequence[Text],
    candidates: Collection[int],
    corpus: Corpus,
    *,
    now_ms: int,
    limit: int,
    again: bool = True,
) -> list[Scored]:
    """The best candidates, best first. texts: they and their neighbours, in the order of places. now_ms: of recency.

    The score of a record that says all that was asked for is about 1, and somewhat more with what is added to it.
    again: the same texts will be ranked for other questions, and what they say is worth keeping.
    """
    counted = Counted(query, texts, corpus, again=again)
    scores = {at: score for at, score in counted.scores().items() if texts[at].place in candidates}
    best = max(scores.values(), default=0.0)
    if best <= 0:
        return []
    threads: dict[str, float] = {}
    for at, score in scores.items():
        threads[texts[at].thread] = max(threads.get(texts[at].thread, 0.0), score)
    found = [
        Scored(texts[at].place, score + THREAD * threads[texts[at].thread] + best * counted.bonus(at, now_ms))
        for at, score in scores.items()
    ]
    found.sort(key=lambda each: (-each.score, -each.place))
    return [Scored(place, score / counted.total) for place, score in found[:limit]]


class Counted:
    """The question's terms in every text, and in what stands beside it."""

    def __init__(self, query: Query, texts: Sequence[Text], corpus: Corpus, *, again: bool = True) -> None:
        self.query, self.texts, self.corpus = query, texts, corpus
        called = {
            author: query.words.intersection(author.lower().split()) for author in {text.author for text in texts}
        }
        self.authors = frozenset(author for author, names in called.items() if names)
        names = {stem(name) for found in called.values() for name in found}
        self.terms = {term: weight for term, weight in query.terms.items() if term not in names}
        self.terms = self.terms or dict(query.terms)
        self.kin: dict[str, list[str]] = {}
        for term in self.terms:
            for other in KINDRED.get(term, ()):
                if other not in self.terms:
                    self.kin.setdefault(other, []).append(term)
        self.unknown = {term: trigrams(term) for term in self.terms if not corpus.having.get(term) and len(term) > 3}
        self.said = self._said(again)
        self.weights = {term: weight * rarity(corpus, term) for term, weight in self.terms.items()}
        self.total = sum(self.weights.values()) or 1.0
        self.common = frozenset(
            term for term in self.terms if corpus.texts > FEW and corpus.having.get(term, 0) > COMMON * corpus.texts
        )
        self.lengths = [max(1.0, len(text.body) / 6) for text in texts]
        self.mean = sum(self.lengths) / len(self.lengths) if texts else 1.0

    def _said(self, again: bool) -> "list[Said]":
        """What each text says; of one that is seen once and cannot say a term of the question, nothing."""
        if again or self.unknown:
            return [said_of(text.body) if again else read(text.body) for text in self.texts]
        heads = heads_of((*self.terms, *self.kin))
        return [read(text.body) if may_say(text.body, heads) else Said({}, _asks(text.body)) for text in self.texts]

    def scores(self) -> dict[int, float]:
        """By the number of the text, of those that have a term or stand beside one that has."""
        spread: dict[int, dict[str, float]] = {}
        for at, own in self._own().items():
            for other, share in self._reached(at):
                sums = spread.setdefault(other, {})
                for term, count in own.items():
                    sums[term] = sums.get(term, 0.0) + share * count
        return {at: self._score(at, sums) for at, sums in spread.items()}

    def bonus(self, at: int, now_ms: int) -> float:
        """Of the best score, whatever the words are."""
        text, said = self.texts[at], self.said[at]
        found = KINDS.get(text.kind, 0.0) + FRESH * math.exp2(min(0, text.at_ms - now_ms) / HALF_MS)
        found += (AUTHOR if text.author in self.authors else 0.0) - (ASKING if said.asks else 0.0)
        if self.query.when and tells_when(text.body):
            found += TIMED
        month, year = self.query.month, self.query.year
        if month or year:
            day = datetime.fromtimestamp(text.at_ms / 1000, UTC)
            found += DATED if month in (None, day.month) and year in (None, day.year) else 0.0
        return found

    def _score(self, at: int, sums: Mapping[str, float]) -> float:
        norm = K1 * (1 - B + B * self.lengths[at] / self.mean)
        score = covered = 0.0
        for term, amount in sums.items():
            amount = min(amount, 1.0) if term in self.common else amount
            score += self.weights[term] * amount * (K1 + 1) / (amount + norm)
            covered += self.weights[term] * min(1.0, amount)
        return score * (1 - COVER + COVER * covered / self.total)

    def _own(self) -> dict[int, dict[str, float]]:
        kin, wanted = self.kin, frozenset(self.terms) | frozenset(self.kin)
        found: dict[int, dict[str, float]] = {}
        for at, said in enumerate(self.said):
            own: dict[str, float] = {}
            if not wanted.isdisjoint(said.counts):
                own = {term: said.counts[term] for term in self.terms if term in said.counts}
                for term in [term for other in kin if other in said.counts for term in kin[other]]:
                    own[term] = own.get(term, 0.0) + KIN
            for term, letters in self.unknown.items():
                near = [likeness(letters, trigrams(word)) for word in said.counts if word[:2] == term[:2]]
                if near and (alike := max(near)) >= LIKE:
                    own[term] = own.get(term, 0.0) + alike
            if own:
                found[at] = own
        return found

    def _reached(self, at: int) -> Iterator[tuple[int, float]]:
        """Which texts this one counts for, and how much."""
        yield at, 1.0
        for step, share in enumerate(BEFORE, 1):
            if self._beside(at, at + step, step):
                yield at + step, self._later(at, step, share)
        for step, share in enumerate(AFTER, 1):
            if self._beside(at, at - step, step):
                yield at - step, self._earlier(at, step, share)

    def _later(self, at: int, step: int, share: float) -> float:
        """Of this text, to the one so many steps later."""
        if step == 1 and self.said[at].asks:
            return REPLY
        return ABOUT if step == 2 and self._is_asked_about(at) else share

    def _earlier(self, at: int, step: int, share: float) -> float:
        if step == 1 and self.said[at - 1].asks:
            return 0.0
        return ABOUT_BACK if step == 2 and self._is_asked_about(at - 2) else share

    def _is_asked_about(self, at: int) -> bool:
        """A short question follows."""
        question = self.texts[at + 1]
        return self.said[at + 1].asks and len(question.body) < SHORT and question.thread == self.texts[at].thread

    def _beside(self, at: int, other: int, step: int) -> bool:
        if not 0 <= other < len(self.texts):
            return False
        one, two = self.texts[at], self.texts[other]
        return -step <= one.place - two.place <= step and one.thread == two.thread


def rarity(corpus: Corpus, term: str) -> float:
    having = min(corpus.texts, corpus.having.get(term, 0))
    return math.log(1 + (corpus.texts - having + 0.5) / (having + 0.5))


class Said(NamedTuple):
    """What a text says. counts: every term, and how often. asks: it ends with a question."""

    counts: dict[str, int]
    asks: bool


def read(body: str) -> Said:
    """What a text says.

    Its counts are filled one by one: a dict that is made from another one is looked through by every round of the garbage
    collector, which took a tenth of a second with as many as are kept.
    """
    counts: dict[str, int] = {}
    for term in terms(body[:LONGEST]):
        counts[term] = counts.get(term, 0) + 1
    return Said(counts, _asks(body))


@lru_cache(20_000)
def said_of(body: str) -> Said:
    """The newest that were looked at are kept."""
    return read(body)


def heads_of(wanted: Iterable[str]) -> list[str]:
    """How words begin that have one of these terms: as the term does but for its last letter, or irregularly."""
    heads = {form for term in wanted for form in forms_of(term)}
    return sorted(heads | {term[:-1] if len(term) > 3 else term for term in wanted})


def may_say(body: str, heads: Sequence[str]) -> bool:
    lowered = body[:LONGEST].lower().replace("’", "'")
    return any(head in lowered for head in heads)


@lru_cache(20_000)
def tells_when(body: str) -> bool:
    """It names a time."""
    return TELLS_WHEN.search(body[:LONGEST]) is not None


def forget() -> None:
    """Nothing of any text is kept any more."""
    said_of.cache_clear()
    tells_when.cache_clear()
    trigrams.cache_clear()
    forget_words()


def _asks(body: str) -> bool:
    """It ends with a question, whatever is attached in brackets after it."""
    said = body.rstrip()
    for _ in range(2):
        opening = said.rfind(ATTACHED.get(said[-1:], "\0"))
        if opening > 0:
            said = said[:opening].rstrip()
    return said.endswith("?")


def fitting(scored: Sequence[Scored], sizes: Mapping[int, int], tokens: int) -> list[Scored]:
    """As much of what was found as has so many tokens, best first. sizes: tokens by place.

    The first ten as they stand; of the others a short one goes before a long one that is a little better, because several
    short ones answer more. What is longer than what is left is passed over.
    """
    by_worth = sorted(scored[FIRST:], key=lambda each: -each.score / sizes[each.place] ** SHORTER)
    chosen: set[int] = set()
    for each in (*scored[:FIRST], *by_worth):
        if sizes[each.place] <= tokens:
            tokens -= sizes[each.place]
            chosen.add(each.place)
    return [each for each in scored if each.place in chosen]


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
