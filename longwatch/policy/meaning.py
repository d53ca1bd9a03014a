"""What an embedding says about which records answer a question, beside what the words say.

How like the question each record is, behind what was said before it, and above what is usual among them: models differ in what
they call alike. What stands beside a record counts for it in part, most for the reply to a question. This is added to what
the words say, as the words' ranks say nothing of how well they fit; the more, the more clearly the model too picks out what
the words have found best, which tells a good model, and a question that it understands, from others; and the less, the more of
the question the words have found: of an identifier a model knows nothing, and to it many records of one kind are alike.
"""

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter, mul
from statistics import fmean, pstdev

from longwatch.policy.recall import Scored, Text, said_of

SAY = 0.14  # for the likest record, where one that says all that was asked for has about 1;
AGREED = 0.05  # and more for each standard deviation that the words' best record is above what is usual,
MOST = 6  # of so many: what is said again word for word stands out by more
NOISE = 1e-4  # standard deviation of likenesses, up to which they differ by rounding only
SURE = 2.2  # score of the best record by words from which on a likeness says nothing; it says all where that is less by one
BEFORE, AFTER = (0.2, 0.1), (0.3, 0.15)  # of how like the records before and after are
REPLY = 0.4  # of how like the question is that a record answers; the question takes nothing from it
BEHIND = (
    300  # characters of what was said before, its last: a model that reads a few hundred words must reach the record
)

Vector = Sequence[float]
"""Of length one, or of zeros only."""


def in_context(text: Text, before: Text | None) -> str:
    """What a record says behind what was said before it, and by whom."""
    told = [(text.author, text.body)]
    if before is not None and before.thread == text.thread:
        told.insert(0, (before.author, before.body[-BEHIND:]))
    return " ".join(f"{author}: {said}" if author else said for author, said in told)


def meant(asked: Vector, vectors: Mapping[int, Vector], texts: Mapping[int, Text]) -> dict[int, float]:
    """By place, in standard deviations: 0 for what is no more like the question than others. vectors: by place."""
    alike = _above({place: sum(map(mul, asked, vector)) for place, vector in vectors.items()})
    above = _above({place: value + _beside(place, alike, texts) for place, value in alike.items()})
    usual = pstdev(above.values()) if above else 0.0
    return {place: max(0.0, value / usual) for place, value in above.items()} if usual > NOISE else {}


def blend(words: Collection[Scored], meaning: Mapping[int, float], chosen: Collection[int]) -> list[Scored]:
    """Best first, of the places that are chosen. words: of these only. What neither speaks for is left out."""
    scores = {each.place: each.score for each in words}
    first = max(words, key=attrgetter("score"), default=Scored(0, 0.0))
    say = (SAY + AGREED * min(MOST, meaning.get(first.place, 0.0))) * min(1.0, max(0.0, SURE - first.score))
    best = max(meaning.values(), default=0.0)
    for place in chosen if best else ():
        scores[place] = scores.get(place, 0.0) + say * meaning.get(place, 0.0) / best
    found = [Scored(place, score) for place, score in scores.items() if score > 0]
    return sorted(found, key=lambda each: (-each.score, -each.place))


def _above(values: Mapping[int, float]) -> dict[int, float]:
    mean = fmean(values.values()) if values else 0.0
    return {each: value - mean for each, value in values.items()}


def _beside(place: int, alike: Mapping[int, float], texts: Mapping[int, Text]) -> float:
    """What the records beside it have to say for it."""
    thread, total = texts[place].thread, 0.0
    for step, share in enumerate(BEFORE, 1):
        other = place - step
        if other in alike and texts[other].thread == thread:
            total += (REPLY if step == 1 and said_of(texts[other].body).asks else share) * alike[other]
    for step, share in enumerate(AFTER, 1):
        other = place + step
        if other in alike and texts[other].thread == thread:
            total += (0.0 if step == 1 and said_of(texts[place].body).asks else share) * alike[other]
    return total
